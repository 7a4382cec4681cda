// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/recovery_shares.h"

namespace coffer::cli {

// How `coffer init` hands out recovery shares and makes sure that somebody has them.
struct ShareOptions {
  std::string scheme = "2/3";        // Needed and total.
  std::string folder;                // Files there instead of the terminal.
  std::vector<std::string> confirm;  // Files to read back; empty: typed, or the folder's own.
  bool ask_nothing = false;          // Read the folder's files back, type nothing.
};

// Splits `seed`, writes the shares, and has enough of them read back. Nothing was made with the
// seed before this succeeds.
//   kInvalidArgs      the scheme, or what was read back is no share.
//   kConfirmMismatch  what was read back does not give the seed.
Result<void> hand_out_shares(const SecretBytes& seed, const ShareOptions& options,
                             std::ostream& out);

// The seed that the shares in the files give.
Result<SecretBytes> seed_from_files(const std::vector<std::string>& files);

// The same of shares that are typed, or come through standard input, as many as the first one
// needs.
//   kConfirmMismatch  the input ended before.
Result<SecretBytes> seed_from_input(std::ostream& out);

}  // namespace coffer::cli

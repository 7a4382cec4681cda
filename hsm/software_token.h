// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "hsm/vault_token.h"

namespace coffer::hsm {

// The label that health shows, and the first words of its log line.
inline constexpr std::string_view kDevelopmentLabel = "DEVELOPMENT VAULT - KEYS ARE NOT PROTECTED";

// What a software token is made of.
struct SoftwareTokenOptions {
  std::string path;  // The file that keeps its three keys, made if absent; "": memory alone.
  keyring::KekProfile profile = keyring::KekProfile::kAesGcm;  // Or kAesKeyWrapHmac.
};

// A VaultToken in this process, for tests and development: its keys lie in locked memory, or in the
// open in a file, and nothing protects them from whoever may read it. It says so wherever it is
// shown.
//   kUnsupported     another profile.
//   kRecordInvalid   the file is not what this function wrote.
//   as read_file(), write_file_durably()
Result<std::unique_ptr<VaultToken>> open_software_token(const SoftwareTokenOptions& options);

}  // namespace coffer::hsm

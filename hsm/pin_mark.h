// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::hsm {

// PinMark remembers in a file which PIN was last tried and not accepted, so that neither a restart
// nor a retry gives a wrong PIN to the token twice: three of them lock it. The file holds a salted
// PBKDF2 digest of the PIN, never the PIN; docs/formats/pin-mark.md.
//
// An attempt is noted before it is made. Should the process die in between, the mark says kTried:
// the token's own flag (a wrong PIN since the last login) then tells how it ended.
class PinMark {
 public:
  enum class Verdict : std::uint8_t { kNew = 0, kTried = 1, kRefused = 2 };

  explicit PinMark(std::string path) : path_(std::move(path)) {}
  const std::string& path() const noexcept { return path_; }

  // What is known of `pin`.
  //   kStoreDamaged  the file is not what note() wrote: no PIN may be tried until it is removed.
  //   kIoError, kAccessDenied
  Result<Verdict> of(const SecretBytes& pin) const;

  // Notes kTried or kRefused; durable when it returns.
  Result<void> note(const SecretBytes& pin, Verdict verdict);
  // The token took the PIN.
  Result<void> clear();

 private:
  std::string path_;
};

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::hsm {

// The PIN as a credential that systemd decrypts for the vault's unit, made by systemd-creds(1). The
// PIN goes through a pipe, never through a file, an argument or the environment.

// Writes `pin` encrypted to `path`, after trying that it can be decrypted again.
//   kUnsupported  systemd-creds is not there or cannot do it here; nothing was written.
Result<void> encrypt_credential(const SecretBytes& pin, const std::string& path);

// kHsmLoginNeeded: it cannot be decrypted.
Result<SecretBytes> decrypt_credential(const std::string& path);

// What an operator should know of the key that encrypts credentials here: "" with a TPM.
std::string credential_key_note();

}  // namespace coffer::hsm

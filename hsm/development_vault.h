// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "core/base/clock.h"
#include "core/keyring/key_vault.h"
#include "hsm/software_token.h"
#include "hsm/vault_rules.h"

namespace coffer::hsm {

struct DevelopmentVaultOptions {
  SoftwareTokenOptions token;
  std::string floors_path;  // "": floors are forgotten with the process.
  UseLimits limits;
};

// A KeyVault without an HSM, for tests and development. It enforces the same rules as every other
// (RuledVault), and it protects nothing: it writes a warning to standard error when it is made, and
// its health, label and token kind say what it is.
//
// `sink` and `clock` outlive it. Errors as open_software_token() and open_sqlite_floors().
Result<std::unique_ptr<keyring::KeyVault>> open_development_vault(
    const DevelopmentVaultOptions& options, keyring::DekSink& sink,
    const Clock& clock = system_clock());

}  // namespace coffer::hsm

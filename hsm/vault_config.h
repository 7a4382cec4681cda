// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "hsm/pkcs11_uri.h"

namespace coffer::hsm {

// /etc/coffer/vault-TOKEN.toml: which token a vault serves and how. No secret stands in it;
// docs/formats/vault-config.md lists its keys. `coffer init` writes it.
struct VaultConfig {
  static constexpr std::size_t kTextBytesMax = 16 * 1024;

  std::string module_path;  // "module", required.
  Pkcs11Uri uri;            // "token", required; names at least one thing about the token.
  std::string uri_text;
  std::string state_folder;  // "state", required.
  std::string pin_file;      // "pin_file"; empty: the credential `pin` of the unit.
  std::string softhsm_conf;  // "softhsm_conf"; empty: not set.
  std::size_t sessions = 8;  // "sessions", 1 to 64.
  std::chrono::milliseconds call_deadline{5000};  // "call_deadline_ms", 100 to 60000.

  // kConfigInvalid: not TOML, a key that is unknown, missing or of another type, or a value outside
  // its limits. The message names the key.
  static Result<VaultConfig> parse(std::string_view text);
  static Result<VaultConfig> read(const std::string& path);

  // What parse() reads back.
  std::string to_text() const;
};

}  // namespace coffer::hsm

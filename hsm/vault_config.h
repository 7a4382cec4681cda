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

  // Which kind of token it is: exactly one of module_path and sdf_library is set, and the keys of
  // the other kind are refused beside it.
  std::string module_path;  // "module": a PKCS#11 token.
  Pkcs11Uri uri;            // "token", required then; names at least one thing about the token.
  std::string uri_text;
  std::string pin_file;      // "pin_file"; empty: the credential `pin` of the unit.
  std::string softhsm_conf;  // "softhsm_conf"; empty: not set.

  std::string sdf_library;    // "sdf_library": a device of GM/T 0018.
  unsigned sdf_kek = 0;       // "sdf_kek", 1 to 65535, required then.
  std::string sdf_serial;     // "sdf_serial"; empty: whichever device the library opens.
  bool sdf_hardware = false;  // "sdf_kind" is "hardware", not "software".

  std::string state_folder;                       // "state", required.
  std::size_t sessions = 8;                       // "sessions", 1 to 64.
  std::chrono::milliseconds call_deadline{5000};  // "call_deadline_ms", 100 to 60000.

  // kConfigInvalid: not TOML, a key that is unknown, missing or of another type, or a value outside
  // its limits. The message names the key.
  static Result<VaultConfig> parse(std::string_view text);
  static Result<VaultConfig> read(const std::string& path);

  // What parse() reads back.
  std::string to_text() const;
};

}  // namespace coffer::hsm

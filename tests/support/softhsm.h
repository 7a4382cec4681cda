// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/token_link.h"

namespace coffer::tests {

// Path of SoftHSM's module, empty where it is not installed: then a test skips.
std::string softhsm_module_path();

// SoftHsmFolder is a folder of its own for SoftHSM's tokens, with its configuration, removed at the
// end. The module finds it by SOFTHSM2_CONF, which the object sets for this process: so one lives
// at a time, and none is made while a module is initialised.
class SoftHsmFolder {
 public:
  SoftHsmFolder();
  ~SoftHsmFolder();
  SoftHsmFolder(const SoftHsmFolder&) = delete;
  SoftHsmFolder& operator=(const SoftHsmFolder&) = delete;

  const std::filesystem::path& path() const noexcept { return path_; }
  std::filesystem::path config() const { return path_ / "softhsm2.conf"; }
  std::filesystem::path pin_file(std::string_view label) const {
    return path_ / (std::string(label) + ".pin");
  }
  std::filesystem::path pin_mark(std::string_view label) const {
    return path_ / (std::string(label) + ".pin-refused");
  }

  // A token with Coffer's keys, derived from a seed of zeros unless another is given, and a random
  // PIN in pin_file(). Made through `module_path`.
  Result<std::string> make_token(const std::string& module_path, std::string_view label,
                                 const SecretBytes* seed = nullptr);
  Result<void> write_pin(std::string_view label, std::string_view pin);

  // How to reach that token.
  hsm::TokenLink::Options link(const std::string& module_path, std::string_view label) const;

 private:
  std::filesystem::path path_;
};

// How many objects any session of this process finds on that token now, on it or in sessions;
// private ones while the process is logged in to it. Aborts when it cannot look.
std::size_t count_objects(const std::string& module_path, std::string_view label);

}  // namespace coffer::tests

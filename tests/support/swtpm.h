// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "hsm/token_keys.h"
#include "hsm/token_link.h"
#include "tests/support/private_bus.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {

// What is missing here for a software TPM with PKCS#11, as a sentence; "" when nothing is.
std::string swtpm_missing();

// Path of tpm2-pkcs11's module, empty where it is not installed.
std::string tpm_module_path();

// SwtpmFolder is a TPM of a test's own: swtpm on a socket in a folder, tpm2-abrmd before it on a
// private bus, and a store of tpm2-pkcs11. The broker is not for show: straight to swtpm the module
// runs out of the TPM's three places for objects.
//
// The module finds all of it by variables that the object sets for this process, and GLib keeps the
// connection to the first bus for good: so a process makes one, which outlives every use of the
// module. Its programs die with the thread that made it, whatever happens to that.
class SwtpmFolder {
 public:
  SwtpmFolder();  // Takes half a minute at most.
  ~SwtpmFolder();
  SwtpmFolder(const SwtpmFolder&) = delete;
  SwtpmFolder& operator=(const SwtpmFolder&) = delete;

  // Why it does not run, "" when it does.
  const std::string& problem() const noexcept { return problem_; }

  const std::filesystem::path& path() const noexcept { return folder_.path(); }
  std::filesystem::path pin_file(std::string_view label) const {
    return path() / (std::string(label) + ".pin");
  }

  // Makes a token with a random PIN, in pin_file(), and no keys. Not while a module is initialised:
  // it reads the store then.
  Result<void> make_token(std::string_view label);
  // Makes the key of `role` in it, of tpm2_ptool's `algorithm`, as docs/tpm.md tells an admin.
  Result<void> add_key(std::string_view label, hsm::TokenKeyRole role, std::string_view algorithm);
  // Both, with all three keys as Coffer wants them.
  Result<void> make_coffer_token(std::string_view label);

  // How to reach that token.
  hsm::TokenLink::Options link(std::string_view label) const;

  // The broker goes away, and comes back with the same TPM.
  void stop_broker();
  Result<void> start_broker();

 private:
  class Program;

  Result<void> start();
  Result<void> run(const std::vector<std::string>& arguments, std::chrono::milliseconds patience);

  TempDir folder_;
  PrivateBus bus_;
  std::unique_ptr<Program> tpm_;
  std::unique_ptr<Program> broker_;
  std::string problem_;
};

}  // namespace coffer::tests

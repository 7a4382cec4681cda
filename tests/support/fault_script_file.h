// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv.

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "core/base/files.h"
#include "tests/support/paths.h"

namespace coffer::tests {

inline std::string fault_module_path() {
  return (bin_dir() / "libcoffer-test-pkcs11-fault.so").string();
}

// The script that the fault module of this process reads; tests/pkcs11_fault/fault_script.h has its
// language. Child processes inherit it.
class FaultScriptFile {
 public:
  explicit FaultScriptFile(const std::filesystem::path& folder)
      : path_((folder / "faults").string()) {
    ::setenv("COFFER_TEST_PKCS11_FAULTS", path_.c_str(), 1);
  }

  // Replaced in one step, so that the module never reads a half.
  void set(std::string_view text) const {
    const auto next = path_ + ".next";
    std::ofstream(next) << text;
    std::filesystem::rename(next, path_);
  }
  void clear() const { set(""); }
  void set_pin_tries_left(int tries) const {
    if (!write_file_durably(path_ + ".pin", as_bytes(std::to_string(tries)))) std::abort();
  }

  // How many lines of the module's log are `line`.
  std::ptrdiff_t logged(std::string_view line) const {
    const auto log = read_file(path_ + ".log", 1 << 20);
    if (!log) return 0;
    std::ptrdiff_t count = 0;
    auto rest = as_text(*log);
    while (!rest.empty()) {
      const auto end = rest.find('\n');
      count += rest.substr(0, end) == line ? 1 : 0;
      rest.remove_prefix(std::min(rest.size(), end + 1));
    }
    return count;
  }

 private:
  std::string path_;
};

}  // namespace coffer::tests

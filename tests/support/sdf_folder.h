// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv.

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <string_view>

#include "core/base/files.h"
#include "core/base/secret_bytes.h"
#include "tests/support/fault_script_file.h"
#include "tests/support/paths.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {

// The tests' SDF libraries; tests/sdf_library/CMakeLists.txt tells them apart.
inline std::string sdf_library_path(std::string_view edition = "sdf") {
  return (bin_dir() / ("libcoffer-test-" + std::string(edition) + ".so")).string();
}

// SdfFolder is the device that the libraries of this process find, with one script of faults; child
// processes inherit it. One per process, made before a library is first called; its keys may be
// exchanged at any time (tests/sdf_library/sdf_device.h has their names).
class SdfFolder {
 public:
  SdfFolder() : script_(dir_.path()) {
    ::setenv("COFFER_TEST_SDF", dir_.path().c_str(), 1);
    put("serial", as_bytes("2026112200100001"));
  }

  const std::filesystem::path& path() const noexcept { return dir_.path(); }
  const FaultScriptFile& faults() const noexcept { return script_; }

  void put(const std::string& name, ByteView bytes) const {
    if (!write_file_durably((path() / name).string(), bytes)) std::abort();
  }
  void remove(const std::string& name) const { std::filesystem::remove(path() / name); }

  // A random key encryption key under an index that was not used before.
  unsigned add_kek() {
    ++keks_;
    replace_kek(keks_);
    return keks_;
  }
  void replace_kek(unsigned index) const {
    put("kek-" + std::to_string(index), SecretBytes::random(16)->reveal());
  }

 private:
  TempDir dir_;
  FaultScriptFile script_;
  unsigned keks_ = 0;
};

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

namespace coffer::tests {

// Where the programs that belong to this test stand, and the source tree they were built from
// (build/PRESET/bin/NAME: the tree is three folders up from the program's folder).
inline std::filesystem::path bin_dir() {
  return std::filesystem::read_symlink("/proc/self/exe").parent_path();
}
inline std::filesystem::path source_dir() {
  return bin_dir().parent_path().parent_path().parent_path();
}
inline std::filesystem::path vectors_dir() {
  return source_dir() / "tests" / "vectors";
}

}  // namespace coffer::tests

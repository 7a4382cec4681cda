// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "cli/command.h"
#include "core/base/bytes.h"

namespace coffer::tests {

struct CliRun {
  int status = 0;
  std::string out;
  std::string err;
};

// Runs `coffer` with these arguments inside this process.
inline CliRun coffer(const std::vector<std::string>& arguments) {
  std::vector<const char*> argv = {"coffer"};
  for (const auto& argument : arguments) argv.push_back(argument.c_str());
  std::ostringstream out;
  std::ostringstream err;
  const int status = cli::run(static_cast<int>(argv.size()), argv.data(), out, err);
  return {status, out.str(), err.str()};
}

// A folder under TMPDIR that goes with its test.
class TempFolder {
 public:
  TempFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "coffer-cli-XXXXXX").string();
    if (::mkdtemp(pattern.data()) == nullptr) throw std::runtime_error("mkdtemp");
    path_ = pattern;
  }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  ~TempFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }

  // A file of `size_bytes`: `start`, then a hole.
  std::string file(const std::string& name, ByteView start, std::uint64_t size_bytes) const {
    const auto path = path_ / name;
    {
      std::ofstream out(path, std::ios::binary);
      const std::string_view text = as_text(start);
      out.write(text.data(), static_cast<std::streamsize>(text.size()));
    }
    std::filesystem::resize_file(path, size_bytes);
    return path.string();
  }
  std::string file(const std::string& name, std::string_view text) const {
    return file(name, as_bytes(text), text.size());
  }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace coffer::tests

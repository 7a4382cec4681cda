// SPDX-License-Identifier: Apache-2.0
// Runs a fuzz target over every file of the folders and files given, so that any compiler replays
// the corpus: NAME_replay CORPUS_FOLDER...
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <span>
#include <string>
#include <vector>

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> inputs_of(const fs::path& path) {
  std::vector<fs::path> files;
  if (fs::is_regular_file(path)) files.push_back(path);
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::recursive_directory_iterator(path)) {
      if (entry.is_regular_file()) files.push_back(entry.path());
    }
  }
  std::ranges::sort(files);
  return files;
}

std::vector<std::uint8_t> content_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

}  // namespace

int main(int argc, char** argv) {
  std::size_t count = 0;
  for (const char* const argument : std::span(argv, static_cast<std::size_t>(argc)).subspan(1)) {
    for (const auto& file : inputs_of(argument)) {
      // Named first, so that the one that crashes is the last one named.
      std::printf("%s\n", file.c_str());
      std::fflush(stdout);
      const auto content = content_of(file);
      LLVMFuzzerTestOneInput(content.data(), content.size());
      ++count;
    }
  }
  std::printf("%zu inputs\n", count);
  if (count != 0) return 0;
  std::fprintf(stderr, "no inputs: a corpus must be checked in\n");
  return 1;
}

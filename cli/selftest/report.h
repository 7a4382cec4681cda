// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"

namespace coffer::cli {

// What came of the cases of one vector file, or of one set of known answers.
struct FileReport {
  static constexpr std::size_t kFailuresShownMax = 5;

  std::string file;  // Path below the vector folder.
  std::size_t passed = 0;
  std::size_t failed = 0;
  std::map<std::string, std::size_t, std::less<>> skipped;  // Reason, cases.
  std::vector<std::string> failures;                        // The first few, by name.

  void count(bool pass, std::string_view name) {
    if (pass) {
      ++passed;
      return;
    }
    ++failed;
    if (failures.size() < kFailuresShownMax) failures.emplace_back(name);
  }
  void skip(std::string_view reason, std::size_t cases = 1) {
    skipped[std::string(reason)] += cases;
  }
  std::size_t skipped_count() const {
    std::size_t sum = 0;
    for (const auto& [reason, cases] : skipped) sum += cases;
    return sum;
  }
};

}  // namespace coffer::cli

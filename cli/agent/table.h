// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

namespace coffer::cli {

// A table for people: columns as wide as their widest cell, two spaces between, no lines. Cells
// come from the agent as printable UTF-8.
class Table {
 public:
  explicit Table(std::vector<std::string> headings);
  void add(std::vector<std::string> row);  // As many cells as headings.
  bool empty() const noexcept { return rows_.size() == 1; }
  void print(std::ostream& out) const;

 private:
  std::vector<std::vector<std::string>> rows_;
};

// "1.5 GiB", "4096 B"
std::string size_text(std::uint64_t bytes);
// "2026-11-22 00:10:05Z", "never" for 0.
std::string time_text(std::uint64_t usec);
// "0.8 ms", "1.25 s", "-" for 0.
std::string duration_text(std::uint64_t usec);

}  // namespace coffer::cli

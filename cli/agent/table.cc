// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/table.h"

#include <array>
#include <cstdio>
#include <ctime>
#include <ostream>

namespace coffer::cli {
namespace {

// Characters, not bytes: continuation bytes of UTF-8 take no place of their own.
std::size_t width_of(const std::string& text) {
  std::size_t width = 0;
  for (const char c : text) {
    if ((static_cast<unsigned char>(c) & 0xc0U) != 0x80U) ++width;
  }
  return width;
}

template <class... Values>
std::string formatted(const char* format, Values... values) {
  std::array<char, 64> text{};
  const int length = std::snprintf(text.data(), text.size(), format, values...);
  return {text.data(), static_cast<std::size_t>(std::max(length, 0))};
}

}  // namespace

Table::Table(std::vector<std::string> headings) {
  rows_.push_back(std::move(headings));
}

void Table::add(std::vector<std::string> row) {
  row.resize(rows_.front().size());
  rows_.push_back(std::move(row));
}

void Table::print(std::ostream& out) const {
  std::vector<std::size_t> widths(rows_.front().size(), 0);
  for (const auto& row : rows_) {
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], width_of(row[i]));
  }
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      line += row[i];
      if (i + 1 < row.size()) line.append(widths[i] - width_of(row[i]) + 2, ' ');
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out << line << "\n";
  }
}

std::string size_text(std::uint64_t bytes) {
  constexpr std::array kUnits = {"KiB", "MiB", "GiB", "TiB", "PiB"};
  if (bytes < 10240) return std::to_string(bytes) + " B";
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (value /= 1024; value >= 1024 && unit + 1 < kUnits.size(); ++unit) value /= 1024;
  return formatted(value < 100 ? "%.1f %s" : "%.0f %s", value, kUnits[unit]);
}

std::string time_text(std::uint64_t usec) {
  if (usec == 0) return "never";
  const auto seconds = static_cast<std::time_t>(usec / 1'000'000);
  std::tm parts{};
  if (::gmtime_r(&seconds, &parts) == nullptr) return "?";
  std::array<char, 32> text{};
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%SZ", &parts);
  return text.data();
}

std::string duration_text(std::uint64_t usec) {
  if (usec == 0) return "-";
  const auto ms = static_cast<double>(usec) / 1000;
  if (ms < 1000) return formatted(ms < 10 ? "%.1f ms" : "%.0f ms", ms);
  return formatted("%.2f s", ms / 1000);
}

}  // namespace coffer::cli

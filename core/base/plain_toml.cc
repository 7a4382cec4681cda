// SPDX-License-Identifier: Apache-2.0
#include "core/base/plain_toml.h"

#include <algorithm>
#include <cstddef>

namespace coffer {
namespace {

constexpr std::size_t kKeyBytesMax = 64;
constexpr std::size_t kTextBytesMax = 1024;
constexpr std::size_t kDigitsMax = 18;
constexpr std::size_t kLineBytesMax = 2048;

bool is_digit(char c) {
  return c >= '0' && c <= '9';
}

std::string_view without_blanks(std::string_view text) {
  const auto first = text.find_first_not_of(" \t");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

// A '#' within the text of a value begins none.
std::string_view without_comment(std::string_view line) {
  const auto quote = line.find('"');
  auto hash = line.find('#');
  if (hash > quote) hash = line.find('#', std::min(line.find('"', quote + 1), line.size()));
  return line.substr(0, hash);
}

bool is_key(std::string_view text) {
  const auto allowed = [](char c) { return (c >= 'a' && c <= 'z') || is_digit(c) || c == '_'; };
  return !text.empty() && text.size() <= kKeyBytesMax && std::ranges::all_of(text, allowed);
}

bool is_quoted_text(std::string_view value) {
  if (value.size() < 2 || value.front() != '"' || value.back() != '"') return false;
  const auto text = value.substr(1, value.size() - 2);
  const auto allowed = [](char c) { return c >= ' ' && c <= '~' && c != '"' && c != '\\'; };
  return text.size() <= kTextBytesMax && std::ranges::all_of(text, allowed);
}

bool is_digits(std::string_view text) {
  return !text.empty() && text.size() <= kDigitsMax && std::ranges::all_of(text, is_digit);
}

bool is_number(std::string_view value) {
  if (value.starts_with('-')) value.remove_prefix(1);
  const auto point = value.find('.');
  if (point == std::string_view::npos) return is_digits(value);
  return is_digits(value.substr(0, point)) && is_digits(value.substr(point + 1));
}

bool is_plain(std::string_view line) {
  if (line.size() > kLineBytesMax) return false;
  line = without_blanks(line);
  if (line.empty()) return true;
  if (line.front() == '[') return line.back() == ']' && is_key(line.substr(1, line.size() - 2));
  const auto equals = line.find('=');
  if (equals == std::string_view::npos) return false;
  const auto value = without_blanks(line.substr(equals + 1));
  return is_key(without_blanks(line.substr(0, equals))) &&
         (is_quoted_text(value) || is_number(value));
}

}  // namespace

Result<std::string> plain_toml(std::string_view text, std::string_view source) {
  std::string plain;
  for (std::size_t number = 1; !text.empty(); ++number) {
    const auto end = std::min(text.find('\n'), text.size());
    auto line = text.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = without_comment(line);
    if (!is_plain(line)) {
      return fail(Reason::kConfigInvalid,
                  std::string(source) + ": line " + std::to_string(number) +
                      " is neither empty, a comment, [table], nor key = \"text\" or a number");
    }
    plain.append(line).push_back('\n');
    text.remove_prefix(std::min(text.size(), end + 1));
  }
  return plain;
}

}  // namespace coffer

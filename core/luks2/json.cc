// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/json.h"

#include <algorithm>
#include <array>
#include <charconv>

namespace coffer::luks2 {
namespace {

constexpr std::string_view kHexDigits = "0123456789abcdef";

bool is_digit(char c) noexcept {
  return c >= '0' && c <= '9';
}

// The code point's UTF-8 form.
void append_utf8(std::string& out, std::uint32_t code) {
  const auto put = [&out](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (code < 0x80) {
    put(code);
  } else if (code < 0x800) {
    put(0xc0U | (code >> 6U));
    put(0x80U | (code & 0x3fU));
  } else if (code < 0x10000) {
    put(0xe0U | (code >> 12U));
    put(0x80U | ((code >> 6U) & 0x3fU));
    put(0x80U | (code & 0x3fU));
  } else {
    put(0xf0U | (code >> 18U));
    put(0x80U | ((code >> 12U) & 0x3fU));
    put(0x80U | ((code >> 6U) & 0x3fU));
    put(0x80U | (code & 0x3fU));
  }
}

void append_escape(std::string& out, std::uint32_t unit) {
  out += "\\u";
  for (const unsigned shift : {12U, 8U, 4U, 0U}) out.push_back(kHexDigits[(unit >> shift) & 0xfU]);
}

struct Decoded {
  std::uint32_t code;
  std::size_t size_bytes;
};

// The code point that `text`, not empty, starts with; one byte as a lone surrogate if it is no
// UTF-8.
Decoded decode_utf8(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) -> std::uint32_t {
    return static_cast<unsigned char>(text[i]);
  };
  const std::uint32_t lead = byte(0);
  if (lead < 0x80) return {lead, 1};
  const Decoded bad{0xdc00U + lead, 1};
  const std::size_t size = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || text.size() < size) return bad;
  std::uint32_t code = lead & (0xffU >> (size + 1));
  for (std::size_t i = 1; i < size; ++i) {
    if ((byte(i) & 0xc0U) != 0x80U) return bad;
    code = (code << 6U) | (byte(i) & 0x3fU);
  }
  constexpr std::array<std::uint32_t, 5> kLeast = {0, 0, 0x80, 0x800, 0x10000};
  const bool surrogate = code >= 0xd800 && code < 0xe000;
  if (code < kLeast[size] || code > 0x10ffff || surrogate) return bad;
  return {code, size};
}

bool is_plain(char c) noexcept {
  return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

void append_canonical_string(std::string& out, std::string_view text) {
  out.push_back('"');
  while (!text.empty()) {
    const auto plain = std::ranges::find_if_not(text, is_plain);
    const auto plain_size = static_cast<std::size_t>(plain - text.begin());
    out += text.substr(0, plain_size);
    text.remove_prefix(plain_size);
    if (text.empty()) break;
    constexpr std::string_view kShort = "\"\\\b\f\n\r\t";
    constexpr std::string_view kLetters = "\"\\bfnrt";
    if (const auto at = kShort.find(text.front()); at != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(kLetters[at]);
      text.remove_prefix(1);
      continue;
    }
    const auto [code, size] = decode_utf8(text);
    if (code >= 0x10000) {
      append_escape(out, 0xd7c0U + (code >> 10U));
      append_escape(out, 0xdc00U + (code & 0x3ffU));
    } else {
      append_escape(out, code);
    }
    text.remove_prefix(size);
  }
  out.push_back('"');
}

}  // namespace

// JsonParser reads one value by recursive descent; the depth limit bounds its stack. Each step
// either succeeds or leaves the reason in error_.
class JsonParser {
 public:
  JsonParser(std::string_view text, std::size_t depth_max) : text_(text), depth_max_(depth_max) {}

  bool value(JsonValue& out, std::size_t depth) {
    skip_space();
    if (at_ == text_.size()) return bad("the text ends early");
    switch (text_[at_]) {
      case '{':
        return object(out, depth);
      case '[':
        return array(out, depth);
      case '"':
        out.kind_ = JsonValue::Kind::kString;
        return string(out.text_);
      case 't':
        return word(out, "true", JsonValue::Kind::kBoolean);
      case 'f':
        return word(out, "false", JsonValue::Kind::kBoolean);
      case 'n':
        return word(out, "null", JsonValue::Kind::kNull);
      default:
        return number(out);
    }
  }

  void skip_space() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\n' || text_[at_] == '\r')) {
      ++at_;
    }
  }

  std::size_t at() const noexcept { return at_; }
  tl::unexpected<Error> failure() const {
    return fail(Reason::kInvalidArgs,
                "JSON at byte " + std::to_string(at_) + ": " + std::string(error_));
  }

 private:
  bool bad(std::string_view why) {
    error_ = why;
    return false;
  }

  bool take(char c) {
    if (at_ == text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }

  bool word(JsonValue& out, std::string_view name, JsonValue::Kind kind) {
    if (!text_.substr(at_).starts_with(name)) return bad("unknown word");
    at_ += name.size();
    out.kind_ = kind;
    out.text_ = name;
    return true;
  }

  bool object(JsonValue& out, std::size_t depth) {
    if (depth == depth_max_) return bad("nested too deep");
    ++at_;
    out.kind_ = JsonValue::Kind::kObject;
    skip_space();
    if (take('}')) return true;
    do {
      skip_space();
      if (at_ == text_.size() || text_[at_] != '"') return bad("a member name must be a string");
      auto& member = out.members_.emplace_back();
      if (!string(member.first)) return false;
      skip_space();
      if (!take(':')) return bad("no colon after a member name");
      if (!value(member.second, depth + 1)) return false;
      skip_space();
    } while (take(','));
    if (!take('}')) return bad("an object does not end");
    return sort_members(out);
  }

  // Sorted, so that a member that comes twice is seen, and canonical() need not sort.
  bool sort_members(JsonValue& out) {
    auto& members = out.members_;
    std::ranges::sort(members, {},
                      [](const auto& member) -> const std::string& { return member.first; });
    const auto twice = std::ranges::adjacent_find(
        members, {}, [](const auto& member) -> const std::string& { return member.first; });
    return twice == members.end() || bad("a member name comes twice");
  }

  bool array(JsonValue& out, std::size_t depth) {
    if (depth == depth_max_) return bad("nested too deep");
    ++at_;
    out.kind_ = JsonValue::Kind::kArray;
    skip_space();
    if (take(']')) return true;
    do {
      if (!value(out.items_.emplace_back(), depth + 1)) return false;
      skip_space();
    } while (take(','));
    return take(']') || bad("an array does not end");
  }

  bool string(std::string& out) {
    ++at_;
    while (at_ < text_.size()) {
      const auto special = text_.find_first_of("\"\\", at_);
      if (special == std::string_view::npos) break;
      const std::string_view run = text_.substr(at_, special - at_);
      const bool control = std::ranges::any_of(run, [](char c) { return c >= 0 && c < 0x20; });
      if (control) return bad("a control character in a string");
      out += run;
      at_ = special + 1;
      if (text_[special] == '"') return true;
      if (!escape(out)) return false;
    }
    return bad("a string does not end");
  }

  bool escape(std::string& out) {
    if (at_ == text_.size()) return bad("a string does not end");
    const char c = text_[at_++];
    constexpr std::string_view kLetters = "\"\\/bfnrt";
    constexpr std::string_view kMeanings = "\"\\/\b\f\n\r\t";
    if (const auto at = kLetters.find(c); at != std::string_view::npos) {
      out.push_back(kMeanings[at]);
      return true;
    }
    if (c != 'u') return bad("unknown escape");
    std::uint32_t code = 0;
    if (!four_digits(code)) return bad("\\u needs four digits");
    if (code == 0) return bad("an escaped NUL");
    if (code >= 0xdc00 && code < 0xe000) return bad("a lone surrogate");
    if (code >= 0xd800 && code < 0xdc00) {
      std::uint32_t low = 0;
      if (!take('\\') || !take('u') || !four_digits(low)) return bad("a lone surrogate");
      if (low < 0xdc00 || low >= 0xe000) return bad("a lone surrogate");
      code = 0x10000U + ((code - 0xd800U) << 10U) + (low - 0xdc00U);
    }
    append_utf8(out, code);
    return true;
  }

  bool four_digits(std::uint32_t& out) {
    if (text_.size() - at_ < 4) return false;
    const char* const first = text_.data() + at_;
    const auto [end, error] = std::from_chars(first, first + 4, out, 16);
    at_ += 4;
    return error == std::errc() && end == first + 4;
  }

  std::size_t digits() {
    const std::size_t first = at_;
    while (at_ < text_.size() && is_digit(text_[at_])) ++at_;
    return at_ - first;
  }

  bool number(JsonValue& out) {
    const std::size_t first = at_;
    take('-');
    const bool zero = at_ < text_.size() && text_[at_] == '0';
    const std::size_t whole = digits();
    if (whole == 0) return bad("unknown value");
    if (zero && whole > 1) return bad("a number with a leading zero");
    bool fraction = false;
    if (take('.')) {
      fraction = true;
      if (digits() == 0) return bad("a number ends early");
    }
    if (take('e') || take('E')) {
      fraction = true;
      if (!take('+')) take('-');
      if (digits() == 0) return bad("a number ends early");
    }
    out.kind_ = fraction ? JsonValue::Kind::kFraction : JsonValue::Kind::kInteger;
    out.text_ = text_.substr(first, at_ - first);
    if (out.text_ == "-0") out.text_ = "0";
    return fraction || fits(out.text_) || bad("an integer out of range");
  }

  static bool fits(std::string_view text) {
    const char* const end = text.data() + text.size();
    if (text.front() == '-') {
      std::int64_t value = 0;
      return std::from_chars(text.data(), end, value).ec == std::errc();
    }
    std::uint64_t value = 0;
    return std::from_chars(text.data(), end, value).ec == std::errc();
  }

  std::string_view text_;
  std::size_t depth_max_;
  std::size_t at_ = 0;
  std::string_view error_;
};

Result<JsonValue::Prefix> JsonValue::parse_prefix(std::string_view text, std::size_t depth_max) {
  JsonParser parser(text, depth_max);
  Prefix prefix;
  if (!parser.value(prefix.value, 0)) return parser.failure();
  prefix.size_bytes = parser.at();
  return prefix;
}

Result<JsonValue> JsonValue::parse(std::string_view text, std::size_t depth_max) {
  JsonParser parser(text, depth_max);
  JsonValue value;
  if (!parser.value(value, 0)) return parser.failure();
  parser.skip_space();
  if (parser.at() != text.size()) {
    return fail(Reason::kInvalidArgs,
                "JSON at byte " + std::to_string(parser.at()) + ": something follows");
  }
  return value;
}

const JsonValue* JsonValue::find(std::string_view name) const noexcept {
  const auto found =
      std::ranges::find(members_, name, [](const auto& m) -> std::string_view { return m.first; });
  return found == members_.end() ? nullptr : &found->second;
}

const JsonValue* JsonValue::find(std::string_view name, Kind kind) const noexcept {
  const JsonValue* const value = find(name);
  return value != nullptr && value->kind() == kind ? value : nullptr;
}

JsonValue* JsonValue::find_mutable(std::string_view name) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): *this is not const.
  return const_cast<JsonValue*>(find(name));
}

std::optional<std::int64_t> JsonValue::as_int64() const noexcept {
  if (kind_ != Kind::kInteger) return std::nullopt;
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text_.data(), text_.data() + text_.size(), value);
  if (error != std::errc()) return std::nullopt;
  return value;
}

std::optional<std::uint32_t> JsonValue::as_uint32() const noexcept {
  const auto value = as_int64();
  if (!value || *value < 0 || *value > UINT32_MAX) return std::nullopt;
  return static_cast<std::uint32_t>(*value);
}

bool JsonValue::keep_only(std::initializer_list<std::string_view> names) {
  const auto unknown = [&](const auto& member) {
    return std::ranges::find(names, member.first) == names.end();
  };
  return std::erase_if(members_, unknown) != 0;
}

std::string JsonValue::canonical() const {
  std::string out;
  append_canonical(out);
  return out;
}

void JsonValue::append_canonical(std::string& out) const {
  std::string_view between;
  switch (kind_) {
    case Kind::kObject:
      out.push_back('{');
      for (const auto& [name, value] : members_) {
        out += between;
        append_canonical_string(out, name);
        out.push_back(':');
        value.append_canonical(out);
        between = ",";
      }
      out.push_back('}');
      return;
    case Kind::kArray:
      out.push_back('[');
      for (const auto& item : items_) {
        out += between;
        item.append_canonical(out);
        between = ",";
      }
      out.push_back(']');
      return;
    case Kind::kString:
      append_canonical_string(out, text_);
      return;
    default:
      out += text_;
  }
}

}  // namespace coffer::luks2

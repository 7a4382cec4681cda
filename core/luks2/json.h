// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/base/result.h"

namespace coffer::luks2 {

// JsonValue is one JSON value out of a LUKS2 header. There is a parser of our own for it, stricter
// than RFC 8259 where two readers could see two things and laxer in one point: LUKS2 strings may
// hold bytes that are no UTF-8 (docs/decisions/0010-own-json-for-luks2.md).
//
// Refused beyond RFC 8259: a member name that comes twice, a string with an escaped NUL or a lone
// surrogate, an integer outside [-2^63, 2^64), more than `depth_max` nested arrays and objects.
class JsonValue {
 public:
  enum class Kind : std::uint8_t { kNull, kBoolean, kInteger, kFraction, kString, kArray, kObject };
  using Members = std::vector<std::pair<std::string, JsonValue>>;
  using Items = std::vector<JsonValue>;

  // Where a value ended inside a longer text.
  struct Prefix;

  // kInvalidArgs: `text` is not exactly one value; the message has the offset.
  static Result<JsonValue> parse(std::string_view text, std::size_t depth_max);
  // The value that `text` starts with, for formats that pad behind it.
  static Result<Prefix> parse_prefix(std::string_view text, std::size_t depth_max);

  Kind kind() const noexcept { return kind_; }
  bool is_object() const noexcept { return kind_ == Kind::kObject; }
  bool is_array() const noexcept { return kind_ == Kind::kArray; }
  bool is_string() const noexcept { return kind_ == Kind::kString; }

  // Empty unless of that kind.
  const Members& members() const noexcept { return members_; }
  const Items& items() const noexcept { return items_; }
  const std::string& string() const noexcept { return text_; }

  // The member, or null: also when this is no object.
  const JsonValue* find(std::string_view name) const noexcept;
  const JsonValue* find(std::string_view name, Kind kind) const noexcept;

  // An integer that fits.
  std::optional<std::uint32_t> as_uint32() const noexcept;
  std::optional<std::int64_t> as_int64() const noexcept;

  // For the caller that owns the value.
  JsonValue* find_mutable(std::string_view name) noexcept;
  Members& members_mutable() noexcept { return members_; }

  // Removes the members whose names are not in `names`; whether there were any.
  bool keep_only(std::initializer_list<std::string_view> names);

  // Sorted names, no spaces, non-ASCII and control characters as \uXXXX (bytes that are no UTF-8 as
  // \udc80 + byte - 0x80), integers in their shortest form, fractions as they came.
  std::string canonical() const;

 private:
  friend class JsonParser;
  void append_canonical(std::string& out) const;

  Kind kind_ = Kind::kNull;
  std::string text_;  // String: its bytes. Number, boolean: canonical text.
  Items items_;
  Members members_;
};

struct JsonValue::Prefix {
  JsonValue value;
  std::size_t size_bytes = 0;
};

}  // namespace coffer::luks2

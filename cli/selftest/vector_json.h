// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json.hpp>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/encoding.h"

namespace coffer::cli {

// Members of the vectors' objects; what is missing or of another kind is empty or 0.
inline std::string text_of(const boost::json::object& object, std::string_view name) {
  const auto* const value = object.if_contains(name);
  if (value == nullptr || !value->is_string()) return {};
  return {value->get_string().data(), value->get_string().size()};
}

inline std::uint64_t number_of(const boost::json::object& object, std::string_view name) {
  const auto* const value = object.if_contains(name);
  return value != nullptr && value->is_number() ? value->to_number<std::uint64_t>() : 0;
}

inline bool flag_of(const boost::json::object& object, std::string_view name) {
  const auto* const value = object.if_contains(name);
  return value != nullptr && value->is_bool() && value->get_bool();
}

inline Bytes hex_of(const boost::json::object& object, std::string_view name) {
  return from_hex(text_of(object, name)).value_or(Bytes());
}

inline Bytes base64_of(const boost::json::object& object, std::string_view name) {
  return from_base64(text_of(object, name)).value_or(Bytes());
}

}  // namespace coffer::cli

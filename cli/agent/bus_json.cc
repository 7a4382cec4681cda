// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/bus_json.h"

#include <string>
#include <string_view>

#include "core/base/encoding.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr int kDepthMax = 32;

tl::unexpected<Error> unreadable() {
  return fail(Reason::kMessageInvalid, "the agent's answer cannot be read");
}

Result<json::value> read_value(sd_bus_message* m, int depth);

template <class T>
Result<json::value> read_number(sd_bus_message* m, char type) {
  T value{};
  if (::sd_bus_message_read_basic(m, type, &value) <= 0) return unreadable();
  return json::value(value);
}

Result<json::value> read_basic(sd_bus_message* m, char type) {
  switch (type) {
    case 'b': {
      int value = 0;
      if (::sd_bus_message_read_basic(m, type, &value) <= 0) return unreadable();
      return json::value(value != 0);
    }
    case 'y':
      return read_number<std::uint8_t>(m, type);
    case 'n':
      return read_number<std::int16_t>(m, type);
    case 'q':
      return read_number<std::uint16_t>(m, type);
    case 'i':
      return read_number<std::int32_t>(m, type);
    case 'u':
      return read_number<std::uint32_t>(m, type);
    case 'x':
      return read_number<std::int64_t>(m, type);
    case 't':
      return read_number<std::uint64_t>(m, type);
    case 'd':
      return read_number<double>(m, type);
    case 's':
    case 'o':
    case 'g': {
      const char* text = nullptr;
      if (::sd_bus_message_read_basic(m, type, static_cast<void*>(&text)) <= 0) return unreadable();
      return json::value(text);
    }
    default:
      return unreadable();
  }
}

// The elements up to the end of the container that is open, or of the message.
Result<json::array> read_elements(sd_bus_message* m, int depth) {
  json::array elements;
  while (::sd_bus_message_at_end(m, 0) == 0) {
    auto element = read_value(m, depth);
    if (!element) return tl::unexpected(element.error());
    elements.push_back(std::move(*element));
  }
  return elements;
}

Result<json::value> read_dictionary(sd_bus_message* m, int depth) {
  json::object object;
  while (::sd_bus_message_at_end(m, 0) == 0) {
    char type = 0;
    const char* contents = nullptr;
    if (::sd_bus_message_peek_type(m, &type, &contents) <= 0 ||
        ::sd_bus_message_enter_container(m, type, contents) <= 0)
      return unreadable();
    const auto key = read_value(m, depth);
    if (!key) return key;
    auto value = read_value(m, depth);
    if (!value) return value;
    if (::sd_bus_message_exit_container(m) < 0) return unreadable();
    object[key->is_string() ? std::string(key->as_string()) : json::serialize(*key)] =
        std::move(*value);
  }
  return json::value(std::move(object));
}

Result<json::value> read_bytes(sd_bus_message* m) {
  const void* data = nullptr;
  std::size_t size = 0;
  if (::sd_bus_message_read_array(m, 'y', &data, &size) < 0) return unreadable();
  return json::value(to_base64({static_cast<const std::byte*>(data), size}));
}

Result<json::value> read_container(sd_bus_message* m, char type, const char* contents, int depth) {
  if (::sd_bus_message_enter_container(m, type, contents) <= 0) return unreadable();
  Result<json::value> value = unreadable();
  if (type == 'v') {
    value = read_value(m, depth);
  } else if (type == 'a' && contents[0] == '{') {
    value = read_dictionary(m, depth);
  } else {
    auto elements = read_elements(m, depth);
    if (elements) value = json::value(std::move(*elements));
  }
  if (value && ::sd_bus_message_exit_container(m) < 0) return unreadable();
  return value;
}

Result<json::value> read_value(sd_bus_message* m, int depth) {
  char type = 0;
  const char* contents = nullptr;
  if (depth > kDepthMax || ::sd_bus_message_peek_type(m, &type, &contents) <= 0)
    return unreadable();
  if (type == 'a' && std::string_view(contents) == "y") return read_bytes(m);
  if (type == 'a' || type == 'r' || type == 'v')
    return read_container(m, type, contents, depth + 1);
  return read_basic(m, type);
}

}  // namespace

Result<json::array> arguments_as_json(sd_bus_message* message) {
  return read_elements(message, 0);
}

}  // namespace coffer::cli

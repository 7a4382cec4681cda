// SPDX-License-Identifier: Apache-2.0
#include "dbus/message.h"

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "dbus/names.h"

namespace coffer::dbus {
namespace {

tl::unexpected<Error> malformed(int error_number) {
  return fail(Reason::kInvalidArgs,
              std::string("the arguments are malformed: ") + std::strerror(-error_number));
}

bool is_continuation(unsigned char c) {
  return (c & 0xc0U) == 0x80U;
}

// Length of the valid character at the start of `text`, 0 when there is none.
std::size_t character_length(std::string_view text) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = at(0);
  if (first < 0x20 || first == 0x7f) return 0;
  if (first < 0x80) return 1;
  const std::size_t length = first >= 0xc2 && first <= 0xdf   ? 2
                             : first >= 0xe0 && first <= 0xef ? 3
                             : first >= 0xf0 && first <= 0xf4 ? 4
                                                              : 0;
  if (length == 0 || text.size() < length) return 0;
  for (std::size_t i = 1; i < length; ++i) {
    if (!is_continuation(at(i))) return 0;
  }
  // Overlong forms, surrogates, and what lies beyond Unicode.
  if (first == 0xe0 && at(1) < 0xa0) return 0;
  if (first == 0xed && at(1) > 0x9f) return 0;
  if (first == 0xf0 && at(1) < 0x90) return 0;
  if (first == 0xf4 && at(1) > 0x8f) return 0;
  return length;
}

}  // namespace

std::string printable_utf8(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  while (!text.empty()) {
    const std::size_t length = character_length(text);
    if (length == 0) {
      out += text.front() == '\n' || text.front() == '\t' ? ' ' : '?';
      text.remove_prefix(1);
      continue;
    }
    out.append(text.substr(0, length));
    text.remove_prefix(length);
  }
  return out;
}

int append_text(sd_bus_message* message, std::string_view text) {
  return ::sd_bus_message_append_basic(message, SD_BUS_TYPE_STRING, printable_utf8(text).c_str());
}

int append_texts(sd_bus_message* message, const std::vector<std::string>& texts) {
  int r = ::sd_bus_message_open_container(message, SD_BUS_TYPE_ARRAY, "s");
  for (const auto& text : texts) {
    if (r >= 0) r = append_text(message, text);
  }
  return r < 0 ? r : ::sd_bus_message_close_container(message);
}

int append_bytes(sd_bus_message* message, ByteView bytes) {
  return ::sd_bus_message_append_array(message, SD_BUS_TYPE_BYTE, bytes.data(), bytes.size());
}

int append_error(sd_bus_message* message, const std::optional<Error>& error) {
  int r = ::sd_bus_message_open_container(message, SD_BUS_TYPE_STRUCT, "ss");
  if (r >= 0) r = append_text(message, error ? dbus_error_name(error->reason()) : "");
  if (r >= 0) r = append_text(message, error ? std::string_view(error->message()) : "");
  return r < 0 ? r : ::sd_bus_message_close_container(message);
}

int give_nodes(const std::vector<std::string>& paths, char*** nodes) {
  // sd-bus frees what it is given with free(), the texts and their array.
  auto* array = static_cast<char**>(std::calloc(paths.size() + 1, sizeof(char*)));
  if (array == nullptr) return -ENOMEM;
  for (std::size_t i = 0; i < paths.size(); ++i) {
    array[i] = ::strdup(paths[i].c_str());
    if (array[i] != nullptr) continue;
    for (std::size_t made = 0; made < i; ++made) std::free(array[made]);
    std::free(static_cast<void*>(array));
    return -ENOMEM;
  }
  *nodes = array;
  return 0;
}

template <class T>
Result<T> Reader::basic(char type) {
  T value{};
  const int r = ::sd_bus_message_read_basic(message_, type, static_cast<void*>(&value));
  if (r < 0) return malformed(r);
  if (r == 0) return fail(Reason::kInvalidArgs, "an argument is missing");
  return value;
}

Result<std::string> Reader::basic_text(char type) {
  const auto text = basic<const char*>(type);  // Points into the message.
  if (!text) return tl::unexpected(text.error());
  const std::size_t length = ::strnlen(*text, kStringBytesMax + 1);
  if (length > kStringBytesMax)
    return fail(Reason::kLimitsExceeded, "a string is longer than 4096 bytes");
  bytes_read_ += length + sizeof(std::uint32_t) + 1;
  if (bytes_read_ > kArgumentBytesMax)
    return fail(Reason::kLimitsExceeded, "the arguments are larger than 1 MiB");
  return std::string(*text, length);
}

Result<std::string> Reader::text() {
  return basic_text(SD_BUS_TYPE_STRING);
}
Result<std::string> Reader::object_path() {
  return basic_text(SD_BUS_TYPE_OBJECT_PATH);
}
Result<std::uint32_t> Reader::u32() {
  return basic<std::uint32_t>(SD_BUS_TYPE_UINT32);
}
Result<std::uint64_t> Reader::u64() {
  return basic<std::uint64_t>(SD_BUS_TYPE_UINT64);
}
Result<bool> Reader::boolean() {
  const auto value = basic<int>(SD_BUS_TYPE_BOOLEAN);
  if (!value) return tl::unexpected(value.error());
  return *value != 0;
}

Result<bool> Reader::enter(char container, const char* contents) {
  const int r = ::sd_bus_message_enter_container(message_, container, contents);
  if (r < 0) return malformed(r);
  return r > 0;
}

Result<void> Reader::exit() {
  if (const int r = ::sd_bus_message_exit_container(message_); r < 0) return malformed(r);
  return {};
}

Result<std::vector<std::string>> Reader::texts(std::size_t count_max) {
  return list(SD_BUS_TYPE_STRING, count_max);
}
Result<std::vector<std::string>> Reader::object_paths(std::size_t count_max) {
  return list(SD_BUS_TYPE_OBJECT_PATH, count_max);
}

Result<std::vector<std::string>> Reader::list(char type, std::size_t count_max) {
  const char contents[] = {type, '\0'};
  if (const auto entered = enter(SD_BUS_TYPE_ARRAY, contents); !entered)
    return tl::unexpected(entered.error());
  std::vector<std::string> texts;
  while (::sd_bus_message_at_end(message_, 0) == 0) {
    if (texts.size() == count_max)
      return fail(Reason::kLimitsExceeded,
                  "the list has more than " + std::to_string(count_max) + " entries");
    auto next = basic_text(type);
    if (!next) return tl::unexpected(next.error());
    texts.push_back(std::move(*next));
  }
  if (const auto left = exit(); !left) return tl::unexpected(left.error());
  return texts;
}

Result<std::map<std::string, std::string>> Reader::text_map(std::size_t count_max) {
  if (const auto entered = enter(SD_BUS_TYPE_ARRAY, "{ss}"); !entered)
    return tl::unexpected(entered.error());
  std::map<std::string, std::string> map;
  for (;;) {
    const auto entry = enter(SD_BUS_TYPE_DICT_ENTRY, "ss");
    if (!entry) return tl::unexpected(entry.error());
    if (!*entry) break;
    if (map.size() == count_max)
      return fail(Reason::kLimitsExceeded,
                  "the dictionary has more than " + std::to_string(count_max) + " entries");
    auto name = text();
    if (!name) return tl::unexpected(name.error());
    auto value = text();
    if (!value) return tl::unexpected(value.error());
    if (!map.emplace(std::move(*name), std::move(*value)).second)
      return fail(Reason::kInvalidArgs, "a name is given twice in a dictionary");
    if (const auto left = exit(); !left) return tl::unexpected(left.error());
  }
  if (const auto left = exit(); !left) return tl::unexpected(left.error());
  return map;
}

Result<Bytes> Reader::bytes(std::size_t size_max) {
  const void* data = nullptr;  // Points into the message.
  std::size_t size = 0;
  const int r = ::sd_bus_message_read_array(message_, SD_BUS_TYPE_BYTE, &data, &size);
  if (r < 0) return malformed(r);
  if (r == 0) return fail(Reason::kInvalidArgs, "an argument is missing");
  if (size > size_max)
    return fail(Reason::kLimitsExceeded,
                "an array has more than " + std::to_string(size_max) + " bytes");
  bytes_read_ += size;
  const auto* first = static_cast<const std::byte*>(data);
  return Bytes(first, first + size);
}

Result<int> Reader::descriptor() {
  return basic<int>(SD_BUS_TYPE_UNIX_FD);
}

Result<std::string> Reader::variant_contents() {
  char type = 0;
  const char* contents = nullptr;
  const int r = ::sd_bus_message_peek_type(message_, &type, &contents);
  if (r < 0) return malformed(r);
  if (r == 0 || type != SD_BUS_TYPE_VARIANT || contents == nullptr)
    return fail(Reason::kInvalidArgs, "an option has no value");
  return std::string(contents);
}

}  // namespace coffer::dbus

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <chrono>
#include <functional>

#include "dbus/dispatcher.h"
#include "dbus/message.h"

namespace coffer::dbus {

// append_value() writes a value with the D-Bus type that stands for its C++ type.
inline int append_value(sd_bus_message* m, std::string_view text) {
  return append_text(m, text);
}
inline int append_value(sd_bus_message* m, const std::vector<std::string>& texts) {
  return append_texts(m, texts);
}
inline int append_value(sd_bus_message* m, const Bytes& bytes) {
  return append_bytes(m, bytes);
}
inline int append_value(sd_bus_message* m, bool value) {
  const int number = value ? 1 : 0;
  return ::sd_bus_message_append_basic(m, SD_BUS_TYPE_BOOLEAN, &number);
}
inline int append_value(sd_bus_message* m, std::uint32_t value) {
  return ::sd_bus_message_append_basic(m, SD_BUS_TYPE_UINT32, &value);
}
inline int append_value(sd_bus_message* m, std::int32_t value) {
  return ::sd_bus_message_append_basic(m, SD_BUS_TYPE_INT32, &value);
}
inline int append_value(sd_bus_message* m, std::uint64_t value) {
  return ::sd_bus_message_append_basic(m, SD_BUS_TYPE_UINT64, &value);
}
inline int append_value(sd_bus_message* m, double value) {
  return ::sd_bus_message_append_basic(m, SD_BUS_TYPE_DOUBLE, &value);
}
inline int append_value(sd_bus_message* m, WallTime time) {
  return append_value(m, usec(time));
}
inline int append_value(sd_bus_message* m, const std::optional<WallTime>& time) {
  return append_value(m, time.value_or(WallTime{}));
}
inline int append_value(sd_bus_message* m, std::chrono::microseconds duration) {
  return append_value(m, static_cast<std::uint64_t>(duration.count()));
}
inline int append_value(sd_bus_message* m, const std::optional<Error>& error) {
  return append_error(m, error);
}
inline int append_value(sd_bus_message* m, const std::vector<std::uint32_t>& numbers) {
  return ::sd_bus_message_append_array(m, SD_BUS_TYPE_UINT32, numbers.data(),
                                       numbers.size() * sizeof(std::uint32_t));
}

inline int append_path(sd_bus_message* m, const std::string& path) {
  return ::sd_bus_message_append_basic(m, SD_BUS_TYPE_OBJECT_PATH, path.c_str());
}

// The getter of a vtable. `kSlot` is the member of Context that find_…() filled for this object;
// `kGet` a member of it, or a function of it that gives a value append_value() knows.
template <auto kSlot, auto kGet>
int get_property(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply,
                 void* userdata, sd_bus_error*) noexcept try {
  const auto& info = *(static_cast<Context*>(userdata)->*kSlot);
  // A copy: clang 19 gives the object itself, if it is a lambda, one name in several files.
  constexpr auto kCopy = kGet;
  return append_value(reply, std::invoke(kCopy, info));
} catch (const std::exception&) {
  return -ENOMEM;
}

// The same for a value that append_value() does not know: `kAppend` writes it.
template <auto kSlot, auto kAppend>
int get_structure(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply,
                  void* userdata, sd_bus_error*) noexcept try {
  auto& context = *static_cast<Context*>(userdata);
  constexpr auto kCopy = kAppend;  // As above.
  return kCopy(reply, context, *(context.*kSlot));
} catch (const std::exception&) {
  return -ENOMEM;
}

}  // namespace coffer::dbus

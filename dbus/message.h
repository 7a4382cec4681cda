// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace coffer::dbus {

using BusPtr = CHandle<sd_bus, ::sd_bus_unref>;
using MessagePtr = CHandle<sd_bus_message, ::sd_bus_message_unref>;
using SlotPtr = CHandle<sd_bus_slot, ::sd_bus_slot_unref>;
using TrackPtr = CHandle<sd_bus_track, ::sd_bus_track_unref>;

inline MessagePtr share(sd_bus_message* message) {
  return MessagePtr(::sd_bus_message_ref(message));
}
inline SlotPtr share(sd_bus_slot* slot) {
  return SlotPtr(::sd_bus_slot_ref(slot));
}

// `text` with every byte that is not valid UTF-8, and every control character, replaced by '?':
// names from disks and systems may hold anything, and the bus closes on a sender of bad strings.
std::string printable_utf8(std::string_view text);

// Appends one string, made printable first. Like all sd-bus calls: negative errno or not negative.
int append_text(sd_bus_message* message, std::string_view text);
int append_texts(sd_bus_message* message, const std::vector<std::string>& texts);
int append_bytes(sd_bus_message* message, ByteView bytes);  // ay
// (ss): the D-Bus name and text of `error`, or two empty strings.
int append_error(sd_bus_message* message, const std::optional<Error>& error);

// Hands `paths` to sd-bus as a node enumerator's answer, which it frees.
int give_nodes(const std::vector<std::string>& paths, char*** nodes);

// Reader takes the arguments of one call, which an unknown program wrote. Each read is bounded
// before anything is allocated, and all together by kArgumentBytesMax.
//   kInvalidArgs     the arguments are not of the stated type.
//   kLimitsExceeded  one of the limits in names.h.
class Reader {
 public:
  explicit Reader(sd_bus_message* message) noexcept : message_(message) {}

  Result<std::string> text();
  Result<std::string> object_path();
  Result<bool> boolean();
  Result<std::uint32_t> u32();
  Result<std::uint64_t> u64();
  Result<std::vector<std::string>> texts(std::size_t count_max);
  Result<std::vector<std::string>> object_paths(std::size_t count_max);
  // a{ss}. kInvalidArgs: a name is given twice.
  Result<std::map<std::string, std::string>> text_map(std::size_t count_max);
  Result<Bytes> bytes(std::size_t size_max);  // ay
  Result<int> descriptor();                   // h: the message's own, as long as that lives.

  Result<bool> enter(char container, const char* contents);  // False: no further element.
  Result<void> exit();

  // The signature of the value inside a variant that comes next.
  Result<std::string> variant_contents();

 private:
  Result<std::string> basic_text(char type);
  Result<std::vector<std::string>> list(char type, std::size_t count_max);
  template <class T>
  Result<T> basic(char type);

  sd_bus_message* message_;
  std::size_t bytes_read_ = 0;
};

}  // namespace coffer::dbus

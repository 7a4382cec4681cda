// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"
#include "core/luks2/checked_header.h"

namespace coffer::agent {

// What goes between the worker and the process that parses: a sealed memfd of raw header bytes with
// a list of where each starts, and back a sealed memfd of outcomes. docs/formats/ipc.md has the
// frame. Both sides distrust the other: the reader may have been taken over by what it parsed.
inline constexpr std::string_view kReaderSocketPath = "/run/coffer/reader.sock";
inline constexpr std::uint16_t kCheckHeaders = 1;  // Body: the slots; fds: the memfd.
inline constexpr std::size_t kHeaderSlotsMax = 2048;

// Where one device's first bytes lie in the memfd, and how long that device is.
struct HeaderSlot {
  std::uint64_t offset_bytes = 0;
  std::uint32_t length_bytes = 0;  // At most luks2::kReaderBytes.
  std::uint64_t device_bytes = 0;

  friend bool operator==(const HeaderSlot&, const HeaderSlot&) = default;
};

Bytes encode_slots(std::span<const HeaderSlot> slots);
// kMessageInvalid: malformed, too many, or a slot that is too long.
Result<std::vector<HeaderSlot>> decode_slots(ByteView body);

// Parses every slot of `memfd`: what the reader does. The answer is a sealed memfd.
//   kMessageInvalid  not sealed, or a slot lies outside of it.    kNoMemory
Result<UniqueFd> check_batch(int memfd, std::span<const HeaderSlot> slots);

// The outcomes in a reader's answer, exactly `count` of them. kMessageInvalid: anything else.
Result<std::vector<luks2::CheckOutcome>> read_outcomes(int memfd, std::size_t count);

// A sealed memfd that holds `content`, and all bytes of such a memfd. kMessageInvalid: not sealed,
// or longer than `size_max`.
Result<UniqueFd> sealed_memfd_of(const char* name, ByteView content);
Result<Bytes> read_sealed_memfd(int memfd, std::size_t size_max);

}  // namespace coffer::agent

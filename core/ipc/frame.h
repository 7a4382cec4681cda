// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/ipc/channel.h"

namespace coffer::ipc {

// Every message between Coffer's processes starts with this header (docs/formats/ipc.md):
//
//   u16 protocol version | u16 type | u64 request id | body
//
// A request has an id that its connection uses once and a type that the server's folder defines,
// from 1 to kTypeMax. Its answer has the same id and the type kTypeReply or kTypeError. Id 0 is a
// notice: nothing answers it. Programs of one package speak one version; another version is
// refused.
inline constexpr std::uint16_t kProtocolVersion = 2;
inline constexpr std::size_t kFrameHeaderBytes = 12;
inline constexpr std::size_t kFrameBodyBytesMax = kMessageBytesMax - kFrameHeaderBytes;
inline constexpr std::uint16_t kTypeMax = 0x7FFF;
inline constexpr std::uint16_t kTypeReply = 0x8000;
inline constexpr std::uint16_t kTypeError = 0x8001;
inline constexpr std::size_t kErrorTextBytesMax = 1024;

struct FrameHeader {
  std::uint16_t type = 0;
  std::uint64_t request_id = 0;

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

// A decoded message. `body` points into the bytes it was decoded from.
struct Frame {
  FrameHeader header;
  ByteView body;
};

std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header) noexcept;

// Header and body in one buffer.
Bytes encode_frame(const FrameHeader& header, ByteView body);

//   kMessageInvalid  too short or too long, another protocol version, or a type that does not
//   exist.
Result<Frame> decode_frame(ByteView message);

// The body of an error answer: u16 number of the reason, text (cut to kErrorTextBytesMax, made
// printable).
Bytes encode_error(const Error& error);

// The error that `body` holds.   kMessageInvalid: it holds none.
Result<Error> decode_error(ByteView body);

}  // namespace coffer::ipc

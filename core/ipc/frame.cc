// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/frame.h"

#include <algorithm>

namespace coffer::ipc {
namespace {

bool type_exists(std::uint16_t type) {
  return (type >= 1 && type <= kTypeMax) || type == kTypeReply || type == kTypeError;
}

}  // namespace

std::array<std::byte, kFrameHeaderBytes> encode_header(const FrameHeader& header) noexcept {
  std::array<std::byte, kFrameHeaderBytes> out{};
  const auto put = [&](std::size_t at, std::uint64_t value, std::size_t width) {
    for (std::size_t i = 0; i < width; ++i) {
      out[at + i] = static_cast<std::byte>((value >> (8 * (width - 1 - i))) & 0xFFU);
    }
  };
  put(0, kProtocolVersion, 2);
  put(2, header.type, 2);
  put(4, header.request_id, 8);
  return out;
}

Bytes encode_frame(const FrameHeader& header, ByteView body) {
  return ByteWriter().raw(encode_header(header)).raw(body).take();
}

Result<Frame> decode_frame(ByteView message) {
  if (message.size() < kFrameHeaderBytes || message.size() > kMessageBytesMax) {
    return fail(Reason::kMessageInvalid, "message of " + std::to_string(message.size()) + " bytes");
  }
  ByteReader reader(message.first(kFrameHeaderBytes));
  const std::uint16_t version = reader.u16();
  if (version != kProtocolVersion) {
    return fail(Reason::kMessageInvalid, "protocol version " + std::to_string(version));
  }
  Frame frame;
  frame.header.type = reader.u16();
  frame.header.request_id = reader.u64();
  frame.body = message.subspan(kFrameHeaderBytes);
  const bool answer = frame.header.type >= kTypeReply;
  if (!type_exists(frame.header.type) || (answer && frame.header.request_id == 0)) {
    return fail(Reason::kMessageInvalid, "message type " + std::to_string(frame.header.type));
  }
  return frame;
}

Bytes encode_error(const Error& error) {
  return ByteWriter()
      .u16(static_cast<std::uint16_t>(error.reason()))
      .text(printable(error.message(), kErrorTextBytesMax))
      .take();
}

Result<Error> decode_error(ByteView body) {
  ByteReader reader(body);
  const std::uint16_t number = reader.u16();
  std::string text = reader.text(kErrorTextBytesMax);
  if (number >= all_reasons().size() || printable(text, kErrorTextBytesMax) != text) {
    reader.reject();
  }
  if (auto done = reader.finish(Reason::kMessageInvalid, "error answer"); !done) {
    return tl::unexpected(done.error());
  }
  return Error(all_reasons()[number].reason, std::move(text));
}

}  // namespace coffer::ipc

// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/der.h"

namespace coffer::crypto {

void write_der_head(ByteWriter& out, std::uint8_t tag, std::size_t size_bytes) {
  out.u8(tag);
  if (size_bytes >= 256) {
    out.u8(0x82).u16(static_cast<std::uint16_t>(size_bytes));
  } else {
    if (size_bytes >= 128) out.u8(0x81);
    out.u8(static_cast<std::uint8_t>(size_bytes));
  }
}

ByteView read_der(ByteReader& in, std::uint8_t tag) {
  if (in.u8() != tag) in.reject();
  std::size_t size = in.u8();
  if (size == 0x81) {
    size = in.u8();
    if (size < 128) in.reject();
  } else if (size == 0x82) {
    size = in.u16();
    if (size < 256) in.reject();
  } else if (size >= 128) {
    in.reject();
  }
  return in.raw(size);
}

std::optional<ByteView> read_der_if_there(ByteReader& in, std::uint8_t tag) {
  ByteReader ahead = in;
  if (ahead.rest_bytes() == 0 || ahead.u8() != tag) return std::nullopt;
  return read_der(in, tag);
}

ByteView read_der_number(ByteReader& in) {
  const auto number = read_der(in, kDerInteger);
  if (number.empty() || number.front() >= std::byte{0x80}) {
    in.reject();
    return {};
  }
  if (number.size() == 1 || number.front() != std::byte{0}) return number;
  // The zero is there for the sign alone.
  if (number[1] < std::byte{0x80}) in.reject();
  return number.subspan(1);
}

}  // namespace coffer::crypto

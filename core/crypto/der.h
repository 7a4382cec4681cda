// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "core/base/bytes.h"

// Private to the .cc files of this folder: DER (X.690 section 10) of values below 64 KiB, for what
// is read by our own parsers. A length that could be shorter is refused.
namespace coffer::crypto {

inline constexpr std::uint8_t kDerInteger = 0x02;
inline constexpr std::uint8_t kDerBitString = 0x03;
inline constexpr std::uint8_t kDerOctetString = 0x04;
inline constexpr std::uint8_t kDerSequence = 0x30;
// [n], constructed.
constexpr std::uint8_t der_context(std::uint8_t number) noexcept {
  return static_cast<std::uint8_t>(0xA0U | number);
}

// Tag and length of a value of `size_bytes`, below 64 KiB.
void write_der_head(ByteWriter& out, std::uint8_t tag, std::size_t size_bytes);

// The content of what follows, which must have `tag`; else the reader is bad.
ByteView read_der(ByteReader& in, std::uint8_t tag);
// The same of something that may be left out.
std::optional<ByteView> read_der_if_there(ByteReader& in, std::uint8_t tag);
// A number that is not negative, without the zero that its sign may need: at least one byte.
ByteView read_der_number(ByteReader& in);

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <limits>

#include "core/base/bytes.h"
#include "core/base/clock.h"

namespace coffer::keyring {

// Enumerations of the formats of this folder: one byte, counted from 1 without gaps.
template <class E>
void write_enum(ByteWriter& out, E value) {
  out.u8(static_cast<std::uint8_t>(value));
}

// Rejects everything that is not between 1 and `last`.
template <class E>
E read_enum(ByteReader& in, E last) {
  const std::uint8_t value = in.u8();
  if (value < 1 || value > static_cast<std::uint8_t>(last)) {
    in.reject();
    return last;
  }
  return static_cast<E>(value);
}

// Microseconds that fit the clock's signed type, so that one value has one encoding.
inline WallTime read_time(ByteReader& in) {
  const std::uint64_t value = in.u64();
  if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    in.reject();
    return {};
  }
  return wall_from_usec(value);
}

// Rejects input that does not begin with `magic`.
template <std::size_t N>
void read_magic(ByteReader& in, const char (&magic)[N]) {
  if (as_text(in.raw(N - 1)) != std::string_view(magic, N - 1)) in.reject();
}

}  // namespace coffer::keyring

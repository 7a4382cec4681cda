// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <cstdlib>

#include "core/base/bytes.h"

namespace coffer::fuzz {

// Stops the target where an invariant does not hold: in every build, unlike assert.
inline void require(bool holds) {
  if (!holds) std::abort();
}

inline ByteView input(const std::uint8_t* data, std::size_t size) {
  return std::as_bytes(std::span(data, size));
}

}  // namespace coffer::fuzz

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "core/base/bytes.h"
#include "core/base/secret_bytes.h"

namespace coffer::tests {

inline Bytes filled(std::size_t size, unsigned value) {
  Bytes bytes(size);
  std::fill(bytes.begin(), bytes.end(), static_cast<std::byte>(value));
  return bytes;
}

inline Bytes plain(const SecretBytes& secret) {
  return {secret.reveal().begin(), secret.reveal().end()};
}

// `bytes` with one bit of the byte at `at` turned over.
inline Bytes flipped(Bytes bytes, std::size_t at) {
  bytes.at(at) ^= std::byte{0x10};
  return bytes;
}

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::crypto {

// Private to the .cc files of this folder: the one way an OpenSSL failure becomes an Error. Takes
// the first entry of the thread's error queue into the message and clears the queue.
tl::unexpected<Error> openssl_failure(Reason reason, std::string_view step);

inline const unsigned char* uchars(ByteView bytes) noexcept {
  // OpenSSL refuses null even where the length is zero.
  static constexpr unsigned char kNothing = 0;
  return bytes.empty() ? &kNothing : reinterpret_cast<const unsigned char*>(bytes.data());
}
inline unsigned char* out_uchars(std::span<std::byte> bytes) noexcept {
  return reinterpret_cast<unsigned char*>(bytes.data());
}

}  // namespace coffer::crypto

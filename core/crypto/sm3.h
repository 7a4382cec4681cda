// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/crypto/hash.h"

namespace coffer::crypto {

// SM3 (GM/T 0004-2012, ISO/IEC 10118-3) and HMAC over it; hash.h tells how they behave.
inline constexpr std::size_t kSm3Bytes = kHashBytes;
using Sm3Digest = HashDigest;

using Sm3 = Hash<HashAlgorithm::kSm3>;
using HmacSm3 = Hmac<HashAlgorithm::kSm3>;

inline Sm3Digest sm3(ByteView bytes) {
  return Sm3().update(bytes).finish();
}
inline Sm3Digest hmac_sm3(ByteView key, ByteView bytes) {
  return HmacSm3(key).update(bytes).finish();
}

}  // namespace coffer::crypto

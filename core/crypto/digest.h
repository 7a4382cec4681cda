// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/crypto/hash.h"

namespace coffer::crypto {

// SHA-256 (FIPS 180-4) and HMAC over it; hash.h tells how they behave.
inline constexpr std::size_t kSha256Bytes = kHashBytes;
using Sha256Digest = HashDigest;

using Sha256 = Hash<HashAlgorithm::kSha256>;
using HmacSha256 = Hmac<HashAlgorithm::kSha256>;

inline Sha256Digest sha256(ByteView bytes) {
  return Sha256().update(bytes).finish();
}
inline Sha256Digest hmac_sha256(ByteView key, ByteView bytes) {
  return HmacSha256(key).update(bytes).finish();
}

}  // namespace coffer::crypto

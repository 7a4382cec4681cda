// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/luks2/header.h"

namespace coffer::luks2 {

// What proves a volume key: the digest object of the data segment, and the length. The length is
// checked because PBKDF2 cannot tell a key from the same key with zero bytes behind it.
struct KeyDigest {
  std::string hash;
  std::uint32_t iterations = 0;
  Bytes salt;
  Bytes digest;
  std::uint32_t key_bytes = 0;

  friend bool operator==(const KeyDigest&, const KeyDigest&) = default;
};

inline constexpr std::size_t kDigestSaltBytesMax = 128;
inline constexpr std::size_t kDigestBytesMax = 64;

// The digest of `header`'s data segment. kHeaderInvalid: none, or one of a kind we do not use.
Result<KeyDigest> key_digest_of(const Header& header, std::uint32_t key_bytes);

// A digest for a new header: PBKDF2-HMAC-SHA256, 1000 iterations (the key is random), random salt.
Result<KeyDigest> make_key_digest(const SecretBytes& volume_key);

// kWrongKey: `volume_key` is not the key of this header, or not of its length. kHeaderInvalid: the
// digest asks for an unknown hash or for more than kKdfIterationsMax iterations.
Result<void> check_volume_key(const KeyDigest& digest, const SecretBytes& volume_key);

}  // namespace coffer::luks2

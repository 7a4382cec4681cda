// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::hsm {

inline constexpr std::size_t kSeedBytes = 32;

// The keys of a Coffer token. Each is found by class, CKA_ID and label together, as neither is
// unique alone.
//
//   root     AES-256, closes CMKs and nothing else, in one of two forms (RootForm).
//   seal     HMAC-SHA-256 over records.
//   wrap     HMAC-SHA-256 over wrapped keys, for mechanisms that bind nothing.
//   rooted   AES-256, encrypts rooted keys and nothing else. Where the root key encrypts it is that
//            one; a token set up before there were rooted keys has none, and keeps none.
//   private  AES-256, wraps private keys and nothing else. A token whose root key encrypts has
//   none,
//            nor one set up before there was this key: their private keys are rooted.
enum class TokenKeyRole : std::uint8_t {
  kRoot = 1,
  kSeal = 2,
  kWrap = 3,
  kRooted = 4,
  kPrivate = 5
};
std::string_view token_key_id(TokenKeyRole role) noexcept;  // CKA_ID: "coffer-root-1", …

// The key of `role` in every token that is made from `seed`: HKDF with the seed as key and the
// role's name as purpose.   kInvalidArgs: a seed has kSeedBytes; kNoMemory.
Result<SecretBytes> derive_token_key(const SecretBytes& seed, TokenKeyRole role);

// What tells root keys apart: 32 hexadecimal digits, from what the root key closes 32 zeros to, and
// what the seal and wrap keys make of kRootIdPurpose. It gives nothing of the keys away.
inline constexpr std::string_view kRootIdPurpose = "coffer root id v1";
std::string root_id_of(ByteView closed, ByteView seal, ByteView wrap);

// The root id of a token that is made from `seed` and wraps, without one.   As derive_token_key().
Result<std::string> root_id_of_seed(const SecretBytes& seed);

}  // namespace coffer::hsm

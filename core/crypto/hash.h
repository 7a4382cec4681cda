// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "core/base/bytes.h"

namespace coffer::crypto {

// What digest.h and sm3.h have in common: hashing and HMAC (RFC 2104) with an algorithm that gives
// 32 bytes. Use the names of those headers. Nothing here can fail but for want of memory, which
// std::bad_alloc tells like everywhere else.
//
// Each object belongs to one thread at a time.
enum class HashAlgorithm : std::uint8_t { kSha256, kSm3 };
inline constexpr std::size_t kHashBytes = 32;
using HashDigest = std::array<std::byte, kHashBytes>;

// Hash hashes what comes in pieces. After finish() it is as new.
template <HashAlgorithm algorithm>
class Hash {
 public:
  Hash();
  Hash(Hash&&) noexcept;
  Hash& operator=(Hash&&) noexcept;
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;
  ~Hash();

  Hash& update(ByteView bytes);
  HashDigest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Hmac is the same for a MAC. The key, of any length, stays in it until it is destroyed, which
// wipes it. Compare MACs with equal_constant_time().
template <HashAlgorithm algorithm>
class Hmac {
 public:
  explicit Hmac(ByteView key);
  Hmac(Hmac&&) noexcept;
  Hmac& operator=(Hmac&&) noexcept;
  Hmac(const Hmac&) = delete;
  Hmac& operator=(const Hmac&) = delete;
  ~Hmac();

  Hmac& update(ByteView bytes);
  HashDigest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

extern template class Hash<HashAlgorithm::kSha256>;
extern template class Hash<HashAlgorithm::kSm3>;
extern template class Hmac<HashAlgorithm::kSha256>;
extern template class Hmac<HashAlgorithm::kSm3>;

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <memory>

#include "core/base/bytes.h"

namespace coffer::crypto {

// SHA-256 (FIPS 180-4) and HMAC over it (RFC 2104). Nothing here can fail but for want of memory,
// which std::bad_alloc tells like everywhere else.
inline constexpr std::size_t kSha256Bytes = 32;
using Sha256Digest = std::array<std::byte, kSha256Bytes>;

Sha256Digest sha256(ByteView bytes);

// The key may have any length; compare with equal_constant_time().
Sha256Digest hmac_sha256(ByteView key, ByteView bytes);

// Sha256 hashes what comes in pieces. After finish() it is as new.
class Sha256 {
 public:
  Sha256();
  Sha256(Sha256&&) noexcept;
  Sha256& operator=(Sha256&&) noexcept;
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;
  ~Sha256();

  Sha256& update(ByteView bytes);
  Sha256Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// HmacSha256 is the same for a MAC. The key stays in it until it is destroyed, which wipes it.
class HmacSha256 {
 public:
  explicit HmacSha256(ByteView key);
  HmacSha256(HmacSha256&&) noexcept;
  HmacSha256& operator=(HmacSha256&&) noexcept;
  HmacSha256(const HmacSha256&) = delete;
  HmacSha256& operator=(const HmacSha256&) = delete;
  ~HmacSha256();

  HmacSha256& update(ByteView bytes);
  Sha256Digest finish();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace coffer::crypto

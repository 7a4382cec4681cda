// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::crypto {

// Shamir's secret sharing, byte by byte over GF(2^8) with the polynomial of AES (0x11B), secret at
// 0: any `needed` of `total` shares give the secret back, and fewer tell nothing but its length.
//
// The arithmetic takes the same time for all values, and everything stays in locked memory.
struct ShamirScheme {
  std::uint8_t needed = 2;  // 1 to 16.
  std::uint8_t total = 3;   // needed to 16.

  friend bool operator==(const ShamirScheme&, const ShamirScheme&) = default;
};
inline constexpr std::uint8_t kShamirSharesMax = 16;
inline constexpr std::size_t kShamirSecretBytesMax = 4096;

// The value of the polynomials at `index`, which is not 0; as long as the secret. The bytes are as
// secret as what they are a share of, and stay the caller's.
struct ShamirPoint {
  std::uint8_t index = 0;
  ByteView value;
};

// Whether the numbers are within the limits above.
bool shamir_valid(const ShamirScheme& scheme) noexcept;

// One share for each index from 1 to scheme.total, in that order, with fresh coefficients from the
// kernel's random generator.
//   kInvalidArgs  the scheme, or a secret of 0 or more than 4096 bytes.
//   kNoMemory     as SecretBytes.
Result<std::vector<SecretBytes>> shamir_split(const SecretBytes& secret,
                                              const ShamirScheme& scheme);

// The secret, from at least the needed number of shares. Shares tell nothing of how many are needed
// or whether they belong together: with too few or wrong ones another secret of the same length
// comes out, so whoever combines has to check what it gets. Further shares take part, so one that
// is wrong is noticed by that check too.
//   kInvalidArgs  no share or more than 16, an index of 0 or one twice, or values of different or
//                 no length or above 4096 bytes.
//   kNoMemory     as SecretBytes.
Result<SecretBytes> shamir_combine(std::span<const ShamirPoint> shares);

}  // namespace coffer::crypto

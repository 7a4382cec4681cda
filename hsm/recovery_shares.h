// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/crypto/shamir.h"

namespace coffer::hsm {

// The seed of a token's keys, split so that any `needed` of `total` shares give it back and fewer
// tell nothing (core/crypto/shamir.h); docs/formats/recovery-share.md.
using ShareScheme = crypto::ShamirScheme;
inline constexpr std::size_t kShareSeedBytes = 32;

// One share: its place, and to which seed and scheme it belongs.
struct RecoveryShare {
  ShareScheme scheme;
  std::uint8_t index = 0;      // 1 to total.
  std::uint32_t seed_tag = 0;  // Of the seed: tells shares of different seeds apart.
  SecretBytes value;           // kShareSeedBytes
};

//   kInvalidArgs  scheme or seed outside the limits above.
Result<std::vector<RecoveryShare>> split_seed(const SecretBytes& seed, ShareScheme scheme);

// The seed, from at least scheme.needed shares of it; further ones must agree.
//   kInvalidArgs      too few, one twice, or shares of different seeds.
//   kConfirmMismatch  what they give is not the seed they were made of.
Result<SecretBytes> combine_shares(std::span<const RecoveryShare> shares);

// The share as people keep it: a comment, then four lines of hexadecimal groups, each with a check
// of its own, so that a mistake in writing is found in its line.
Result<SecretBytes> share_to_text(const RecoveryShare& share);

// Takes the same, with any blanks, letters of either case, and further lines that start with '#'.
//   kInvalidArgs  not a share; the message names the line.
Result<RecoveryShare> share_from_text(std::span<const std::byte> text);
inline constexpr std::size_t kShareTextBytesMax = 2048;

}  // namespace coffer::hsm

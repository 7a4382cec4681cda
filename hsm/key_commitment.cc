// SPDX-License-Identifier: Apache-2.0
#include "hsm/key_commitment.h"

#include <algorithm>
#include <array>

namespace coffer::hsm {

Result<SecretBytes> with_commitment(std::span<const std::byte> plain) {
  auto out = SecretBytes::zeroed(kCommitmentBytes + plain.size());
  if (!out) return out;
  std::ranges::copy(plain, out->reveal_mutable().begin() + kCommitmentBytes);
  return out;
}

bool take_commitment(SecretBytes& text) {
  constexpr std::array<std::byte, kCommitmentBytes> kZeros{};
  if (text.size() < kCommitmentBytes) return false;
  const auto bytes = text.reveal_mutable();
  if (!equal_constant_time(bytes.first(kCommitmentBytes), kZeros)) return false;
  std::ranges::copy(bytes.subspan(kCommitmentBytes), bytes.begin());
  text.shrink(bytes.size() - kCommitmentBytes);
  return true;
}

}  // namespace coffer::hsm

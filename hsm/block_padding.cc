// SPDX-License-Identifier: Apache-2.0
#include "hsm/block_padding.h"

#include <algorithm>

namespace coffer::hsm {

Result<SecretBytes> pad_blocks(std::span<const std::byte> plain) {
  const std::size_t count = kPaddedBlockBytes - plain.size() % kPaddedBlockBytes;
  auto out = SecretBytes::zeroed(plain.size() + count);
  if (!out) return out;
  const auto into = out->reveal_mutable();
  std::ranges::copy(plain, into.begin());
  std::ranges::fill(into.last(count), static_cast<std::byte>(count));
  return out;
}

bool unpad_blocks(SecretBytes& text) {
  const auto bytes = text.reveal();
  if (bytes.empty()) return false;
  const auto count = std::to_integer<std::size_t>(bytes.back());
  if (count == 0 || count > kPaddedBlockBytes || count > bytes.size()) return false;
  if (!std::ranges::all_of(bytes.last(count), [&](std::byte b) { return b == bytes.back(); }))
    return false;
  text.shrink(bytes.size() - count);
  return true;
}

}  // namespace coffer::hsm

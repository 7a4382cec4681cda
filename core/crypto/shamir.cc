// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/shamir.h"

#include <array>
#include <string>
#include <utility>

namespace coffer::crypto {
namespace {

// GF(2^8) modulo x^8 + x^4 + x^3 + x + 1, without a branch or a table that depends on a value.
constexpr std::uint8_t multiply(std::uint8_t a, std::uint8_t b) noexcept {
  unsigned product = 0;
  unsigned shifted = a;
  for (unsigned bit = 0; bit < 8; ++bit) {
    product ^= shifted & (0U - ((unsigned{b} >> bit) & 1U));
    shifted = (shifted << 1U) ^ (0x11BU & (0U - (shifted >> 7U)));
  }
  return static_cast<std::uint8_t>(product);
}
// a^254, which is 1/a, and 0 for 0.
constexpr std::uint8_t inverse(std::uint8_t a) noexcept {
  std::uint8_t power = a;
  for (int i = 0; i < 6; ++i) power = multiply(multiply(power, power), a);
  return multiply(power, power);
}
static_assert(multiply(0x57, 0x83) == 0xC1 && multiply(0x57, 0x13) == 0xFE);  // FIPS 197, 4.2
static_assert(multiply(0x53, inverse(0x53)) == 1 && inverse(0) == 0);

std::byte times(std::uint8_t factor, std::byte value) {
  return static_cast<std::byte>(multiply(factor, std::to_integer<std::uint8_t>(value)));
}

bool valid_size(std::size_t size_bytes) {
  return size_bytes >= 1 && size_bytes <= kShamirSecretBytesMax;
}

Result<void> check(std::span<const ShamirPoint> shares) {
  if (shares.empty() || shares.size() > kShamirSharesMax)
    return fail(Reason::kInvalidArgs, std::to_string(shares.size()) + " shares to combine");
  std::array<bool, 256> seen{};
  for (const auto& share : shares) {
    if (share.index == 0) return fail(Reason::kInvalidArgs, "a share with the index 0");
    if (std::exchange(seen[share.index], true))
      return fail(Reason::kInvalidArgs, "share " + std::to_string(share.index) + " twice");
    if (!valid_size(share.value.size()) || share.value.size() != shares.front().value.size())
      return fail(Reason::kInvalidArgs,
                  "a share of " + std::to_string(share.value.size()) + " bytes");
  }
  return {};
}

// What the value of `share` counts at 0 in the polynomial through all of `shares` (Lagrange).
std::uint8_t weight_of(const ShamirPoint& share, std::span<const ShamirPoint> shares) {
  std::uint8_t weight = 1;
  for (const auto& other : shares) {
    if (other.index == share.index) continue;
    const auto difference = static_cast<std::uint8_t>(other.index ^ share.index);
    weight = multiply(weight, multiply(other.index, inverse(difference)));
  }
  return weight;
}

}  // namespace

bool shamir_valid(const ShamirScheme& scheme) noexcept {
  return scheme.needed >= 1 && scheme.needed <= scheme.total && scheme.total <= kShamirSharesMax;
}

Result<std::vector<SecretBytes>> shamir_split(const SecretBytes& secret,
                                              const ShamirScheme& scheme) {
  if (!shamir_valid(scheme))
    return fail(Reason::kInvalidArgs, "shares: 1 to 16, of which 1 to all are needed");
  if (!valid_size(secret.size()))
    return fail(Reason::kInvalidArgs, "a secret of " + std::to_string(secret.size()) + " bytes");
  // The coefficients above the constant one, which is the secret.
  const auto coefficients = SecretBytes::random(secret.size() * (scheme.needed - 1U));
  if (!coefficients) return tl::unexpected(coefficients.error());

  std::vector<SecretBytes> shares;
  for (std::uint8_t x = 1; x <= scheme.total; ++x) {
    auto share = SecretBytes::zeroed(secret.size());
    if (!share) return tl::unexpected(share.error());
    const auto value = share->reveal_mutable();
    for (std::size_t at = 0; at < value.size(); ++at) {
      for (std::size_t power = scheme.needed - 1U; power-- > 0;)
        value[at] = times(x, value[at] ^ coefficients->reveal()[power * value.size() + at]);
      value[at] ^= secret.reveal()[at];
    }
    shares.push_back(std::move(*share));
  }
  return shares;
}

Result<SecretBytes> shamir_combine(std::span<const ShamirPoint> shares) {
  if (const auto good = check(shares); !good) return tl::unexpected(good.error());
  auto secret = SecretBytes::zeroed(shares.front().value.size());
  if (!secret) return secret;
  const auto out = secret->reveal_mutable();
  for (const auto& share : shares) {
    const std::uint8_t weight = weight_of(share, shares);
    for (std::size_t at = 0; at < out.size(); ++at) out[at] ^= times(weight, share.value[at]);
  }
  return secret;
}

}  // namespace coffer::crypto

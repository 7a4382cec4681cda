// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/pkcs1_padding.h"

#include <algorithm>

#include "core/crypto/digest.h"

namespace coffer::crypto {
namespace {

// All ones or zeros, as the values below use them.
using Mask = std::uint32_t;

constexpr std::size_t kHeadBytes = 2;        // 00 02
constexpr std::size_t kPaddingBytesMin = 8;  // RFC 8017 section 7.2.1
constexpr std::size_t kLengthCandidates = 128;
constexpr std::size_t kModulusBytesMin = 256;

constexpr Mask less(std::uint32_t a, std::uint32_t b) {  // Both below 2^31.
  return 0U - ((a - b) >> 31U);
}
constexpr Mask equal(std::uint32_t a, std::uint32_t b) {
  return less(a ^ b, 1);
}
constexpr std::uint32_t choose(Mask mask, std::uint32_t yes, std::uint32_t no) {
  return (mask & yes) | (~mask & no);
}
static_assert(less(1, 2) == ~0U && less(2, 2) == 0 && equal(5, 5) == ~0U && equal(4, 5) == 0);

std::uint32_t octet(std::byte value) {
  return std::to_integer<std::uint32_t>(value);
}

// Pseudorandom bytes for `label`: HMAC-SHA256 over a counter, the label and the length in bits.
Result<SecretBytes> expand(const SecretBytes& key, std::string_view label, std::size_t size_bytes) {
  auto out = SecretBytes::zeroed(size_bytes);
  if (!out) return out;
  HmacSha256 mac(key.reveal());
  std::uint16_t counter = 0;
  for (auto rest = out->reveal_mutable(); !rest.empty(); ++counter) {
    const auto input = ByteWriter()
                           .u16(counter)
                           .raw(as_bytes(label))
                           .u16(static_cast<std::uint16_t>(size_bytes * 8))
                           .take();
    auto block = mac.update(input).finish();
    const std::size_t taken = std::min(rest.size(), block.size());
    std::copy_n(block.begin(), taken, rest.begin());
    wipe(block);
    rest = rest.subspan(taken);
  }
  return out;
}

// The length of the replacement: the last candidate that leaves room for head and padding.
std::uint32_t pick_length(ByteView candidates, std::uint32_t end) {
  std::uint32_t covering = end;
  for (unsigned shift = 1; shift < 16; shift *= 2) covering |= covering >> shift;
  std::uint32_t length = 0;
  for (std::size_t at = 0; at < candidates.size(); at += 2) {
    const auto candidate = (octet(candidates[at]) << 8U | octet(candidates[at + 1])) & covering;
    length = choose(less(candidate, end), candidate, length);
  }
  return length;
}

struct Padding {
  Mask good;
  std::uint32_t text_at;
};

// Looks at every byte, wherever the text begins.
Padding read_padding(ByteView encoded) {
  Mask good = equal(octet(encoded[0]), 0) & equal(octet(encoded[1]), 2);
  Mask found = 0;
  std::uint32_t zero_at = 0;
  for (std::size_t i = kHeadBytes; i < encoded.size(); ++i) {
    const Mask is_zero = equal(octet(encoded[i]), 0);
    zero_at = choose(~found & is_zero, static_cast<std::uint32_t>(i), zero_at);
    found |= is_zero;
  }
  good &= found & ~less(zero_at, kHeadBytes + kPaddingBytesMin);
  return {good, zero_at + 1};
}

}  // namespace

Result<SecretBytes> replacement_key(ByteView private_exponent, ByteView ciphertext) {
  auto hashed = sha256(private_exponent);
  auto mac = hmac_sha256(hashed, ciphertext);
  wipe(hashed);
  auto key = SecretBytes::copy_of(mac);
  wipe(mac);
  return key;
}

Result<SecretBytes> unpad_or_replace(const SecretBytes& encoded, const SecretBytes& key) {
  const auto bytes = encoded.reveal();
  if (bytes.size() < kModulusBytesMin) return fail(Reason::kInternal, "RSA text is too short");
  const auto lengths = expand(key, "length", 2 * kLengthCandidates);
  if (!lengths) return tl::unexpected(lengths.error());
  const auto replacement = expand(key, "message", bytes.size());
  if (!replacement) return tl::unexpected(replacement.error());
  auto text = SecretBytes::zeroed(bytes.size());
  if (!text) return text;

  const auto size = static_cast<std::uint32_t>(bytes.size());
  const auto length = pick_length(lengths->reveal(),
                                  size - static_cast<std::uint32_t>(kHeadBytes + kPaddingBytesMin));
  const auto [good, text_at] = read_padding(bytes);
  const std::size_t from = choose(good, text_at, size - length);
  const auto out = text->reveal_mutable();
  for (std::size_t i = 0; i < bytes.size(); ++i)
    out[i] = static_cast<std::byte>(choose(good, octet(bytes[i]), octet(replacement->reveal()[i])));
  // From here on the length shows, whichever of the two it is of.
  std::copy(out.begin() + static_cast<std::ptrdiff_t>(from), out.end(), out.begin());
  text->shrink(bytes.size() - from);
  return text;
}

}  // namespace coffer::crypto

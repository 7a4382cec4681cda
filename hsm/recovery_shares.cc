// SPDX-License-Identifier: Apache-2.0
#include "hsm/recovery_shares.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>

#include "core/base/bytes.h"
#include "core/crypto/digest.h"
#include "core/crypto/shamir.h"

namespace coffer::hsm {
namespace {

constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kHeadBytes = 1 + 1 + 1 + 1 + 4;  // Version, needed, total, index, tag.
constexpr std::size_t kCheckBytes = 8;
constexpr std::size_t kShareBytes = kHeadBytes + kShareSeedBytes + kCheckBytes;
constexpr std::size_t kLines = 4;
constexpr std::size_t kLineBytes = kShareBytes / kLines;
constexpr std::size_t kLineCheckBytes = 2;
static_assert(kShareBytes % kLines == 0 && kLineBytes % 2 == 0);

std::uint32_t tag_of(const SecretBytes& seed) {
  const auto digest =
      crypto::HmacSha256(as_bytes("coffer recovery tag v1")).update(seed.reveal()).finish();
  return ByteReader(digest).u32();
}

Result<void> require_one_set(std::span<const RecoveryShare> shares) {
  if (shares.empty()) return fail(Reason::kInvalidArgs, "no recovery shares were given");
  const auto& first = shares.front();
  if (shares.size() < first.scheme.needed)
    return fail(Reason::kInvalidArgs, std::to_string(first.scheme.needed) +
                                          " recovery shares are needed, not " +
                                          std::to_string(shares.size()));
  std::array<bool, crypto::kShamirSharesMax + 1> seen{};
  for (const auto& share : shares) {
    if (share.seed_tag != first.seed_tag || share.scheme != first.scheme)
      return fail(Reason::kInvalidArgs, "the recovery shares are of different seeds");
    if (share.index < 1 || share.index > crypto::kShamirSharesMax ||
        share.value.size() != kShareSeedBytes)
      return fail(Reason::kInvalidArgs, "a recovery share is malformed");
    if (std::exchange(seen[share.index], true))
      return fail(Reason::kInvalidArgs, "a recovery share was given twice");
  }
  return {};
}

// The binary form, which is secret.
Result<SecretBytes> encode(const RecoveryShare& share) {
  auto out = SecretBytes::zeroed(kShareBytes);
  if (!out) return out;
  ByteWriter head;
  head.u8(kVersion).u8(share.scheme.needed).u8(share.scheme.total).u8(share.index);
  head.u32(share.seed_tag);
  auto at = std::ranges::copy(head.view(), out->reveal_mutable().begin()).out;
  at = std::ranges::copy(share.value.reveal(), at).out;
  const auto check = crypto::sha256(out->reveal().first(kShareBytes - kCheckBytes));
  std::copy_n(check.begin(), kCheckBytes, at);
  return out;
}

Result<RecoveryShare> decode(std::span<const std::byte> bytes) {
  const auto check = crypto::sha256(bytes.first(kShareBytes - kCheckBytes));
  if (!equal_constant_time(ByteView(check).first(kCheckBytes), bytes.last(kCheckBytes)))
    return fail(Reason::kInvalidArgs, "recovery share: its check does not hold");
  ByteReader in(bytes);
  RecoveryShare out;
  const auto version = in.u8();
  out.scheme.needed = in.u8();
  out.scheme.total = in.u8();
  out.index = in.u8();
  out.seed_tag = in.u32();
  if (version != kVersion || !crypto::shamir_valid(out.scheme) || out.index < 1 ||
      out.index > out.scheme.total)
    return fail(Reason::kInvalidArgs, "recovery share: of a kind that is not known");
  auto value = SecretBytes::copy_of(in.raw(kShareSeedBytes));
  if (!value) return tl::unexpected(value.error());
  out.value = std::move(*value);
  return out;
}

char digit(unsigned value) {
  return "0123456789abcdef"[value & 0xFU];
}

int value_of(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

tl::unexpected<Error> bad_line(std::size_t line, std::string_view why) {
  return fail(Reason::kInvalidArgs, "recovery share, line " + std::to_string(line + 1) + " of " +
                                        std::to_string(kLines) + ": " + std::string(why));
}

// One line's bytes with its check behind them, into `out`.
Result<void> read_line(std::string_view text, std::size_t line, std::span<std::byte> out) {
  std::size_t digits = 0;
  for (const char c : text) {
    if (c == ' ' || c == '\t' || c == '\r' || c == '-') continue;
    const int value = value_of(c);
    if (value < 0) return bad_line(line, "holds something else than hexadecimal digits");
    if (digits == 2 * out.size()) return bad_line(line, "is too long");
    auto& target = out[digits / 2];
    target = (target << 4U) | static_cast<std::byte>(value);
    ++digits;
  }
  if (digits != 2 * out.size()) return bad_line(line, "is too short");
  const auto check = crypto::sha256(out.first(kLineBytes));
  if (!std::equal(check.begin(), check.begin() + kLineCheckBytes, out.begin() + kLineBytes))
    return bad_line(line, "has a mistake in it");
  return {};
}

}  // namespace

Result<std::vector<RecoveryShare>> split_seed(const SecretBytes& seed, ShareScheme scheme) {
  if (seed.size() != kShareSeedBytes) return fail(Reason::kInvalidArgs, "a seed has 32 bytes");
  auto values = crypto::shamir_split(seed, scheme);
  if (!values) return pass(values.error(), "recovery shares");

  std::vector<RecoveryShare> shares;
  const auto tag = tag_of(seed);
  for (auto& value : *values) {
    const auto index = static_cast<std::uint8_t>(shares.size() + 1);
    shares.push_back({scheme, index, tag, std::move(value)});
  }
  return shares;
}

Result<SecretBytes> combine_shares(std::span<const RecoveryShare> shares) {
  if (const auto one_set = require_one_set(shares); !one_set)
    return tl::unexpected(one_set.error());
  // All shares that were given lie on one polynomial, so using all of them checks the extra ones.
  std::vector<crypto::ShamirPoint> points;
  for (const auto& share : shares) points.push_back({share.index, share.value.reveal()});
  auto seed = crypto::shamir_combine(points);
  if (!seed) return seed;
  if (tag_of(*seed) != shares.front().seed_tag)
    return fail(Reason::kConfirmMismatch, "the recovery shares do not give the seed back");
  return seed;
}

Result<SecretBytes> share_to_text(const RecoveryShare& share) {
  auto bytes = encode(share);
  if (!bytes) return bytes;
  const std::string comment = "# Coffer recovery share " + std::to_string(share.index) + " of " +
                              std::to_string(share.scheme.total) + "; any " +
                              std::to_string(share.scheme.needed) + " make the token anew.\n";
  constexpr std::size_t kGroupDigits = 4;
  constexpr std::size_t kGroups = (kLineBytes + kLineCheckBytes) * 2 / kGroupDigits;
  constexpr std::size_t kLineText = kGroups * (kGroupDigits + 1);
  auto out = SecretBytes::zeroed(comment.size() + kLines * kLineText);
  if (!out) return out;

  auto at = std::ranges::copy(as_bytes(comment), out->reveal_mutable().begin()).out;
  for (std::size_t line = 0; line < kLines; ++line) {
    const auto part = bytes->reveal().subspan(line * kLineBytes, kLineBytes);
    const auto check = crypto::sha256(part);
    for (std::size_t i = 0; i < kLineBytes + kLineCheckBytes; ++i) {
      const auto value =
          std::to_integer<unsigned>(i < kLineBytes ? part[i] : check[i - kLineBytes]);
      *at++ = static_cast<std::byte>(digit(value >> 4U));
      *at++ = static_cast<std::byte>(digit(value));
      if (i % 2 == 1) *at++ = std::byte{' '};
    }
    *(at - 1) = std::byte{'\n'};
  }
  return out;
}

Result<RecoveryShare> share_from_text(std::span<const std::byte> text) {
  if (text.size() > kShareTextBytesMax)
    return fail(Reason::kInvalidArgs, "recovery share: more than 2048 bytes");
  auto bytes = SecretBytes::zeroed(kShareBytes);
  if (!bytes) return tl::unexpected(bytes.error());
  auto line_bytes = SecretBytes::zeroed(kLineBytes + kLineCheckBytes);
  if (!line_bytes) return tl::unexpected(line_bytes.error());

  std::size_t line = 0;
  auto rest = as_text(text);
  while (!rest.empty()) {
    const auto length = std::min(rest.find('\n'), rest.size());
    const auto one = rest.substr(0, length);
    rest.remove_prefix(std::min(rest.size(), length + 1));
    const auto first = one.find_first_not_of(" \t\r");
    if (first == std::string_view::npos || one[first] == '#') continue;
    if (line == kLines) return fail(Reason::kInvalidArgs, "recovery share: too many lines");
    wipe(line_bytes->reveal_mutable());
    if (const auto read = read_line(one, line, line_bytes->reveal_mutable()); !read)
      return tl::unexpected(read.error());
    std::ranges::copy(line_bytes->reveal().first(kLineBytes),
                      bytes->reveal_mutable().subspan(line * kLineBytes).begin());
    ++line;
  }
  if (line != kLines)
    return fail(Reason::kInvalidArgs, "recovery share: " + std::to_string(line) +
                                          " lines of digits, not " + std::to_string(kLines));
  return decode(bytes->reveal());
}

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/shamir.h"

#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/crypto/crypto_testing.h"

namespace coffer::tests {
namespace {

using crypto::ShamirPoint;
using crypto::ShamirScheme;

// A second implementation: multiplies by tables of logarithms to the base 3, and evaluates
// Lagrange's polynomial with divisions.
class TableField {
 public:
  TableField() {
    unsigned power = 1;
    for (unsigned i = 0; i < 255; ++i) {
      exp_.at(i) = power;
      log_.at(power) = i;
      const unsigned doubled = power << 1U;
      power ^= (doubled & 0x100U) != 0 ? doubled ^ 0x11BU : doubled;
    }
  }
  unsigned multiply(unsigned a, unsigned b) const {
    return a == 0 || b == 0 ? 0 : exp_.at((log_.at(a) + log_.at(b)) % 255);
  }
  unsigned divide(unsigned a, unsigned b) const {
    return a == 0 ? 0 : exp_.at((log_.at(a) + 255 - log_.at(b)) % 255);
  }

  unsigned value_at_zero(std::span<const ShamirPoint> points, std::size_t at) const {
    unsigned sum = 0;
    for (const auto& one : points) {
      auto above = std::to_integer<unsigned>(one.value[at]);
      unsigned below = 1;
      for (const auto& other : points) {
        if (other.index == one.index) continue;
        above = multiply(above, other.index);
        below = multiply(below, unsigned{other.index} ^ one.index);
      }
      sum ^= divide(above, below);
    }
    return sum;
  }

 private:
  std::array<unsigned, 255> exp_{};
  std::array<unsigned, 256> log_{};
};

std::vector<ShamirPoint> points_of(const std::vector<SecretBytes>& shares) {
  std::vector<ShamirPoint> points;
  points.reserve(shares.size());
  for (const auto& share : shares)
    points.push_back({static_cast<std::uint8_t>(points.size() + 1), share.reveal()});
  return points;
}

TEST(ShamirTest, AnyOfTheNeededNumberGiveTheSecretInBothImplementations) {
  const TableField tables;
  const auto secret = SecretBytes::random(33);
  for (std::uint8_t needed = 1; needed <= 5; ++needed) {
    const auto shares = crypto::shamir_split(*secret, {needed, 5});
    ASSERT_THAT(shares, Succeeds());
    const auto points = points_of(*shares);
    for (unsigned chosen = 1; chosen < 32; ++chosen) {
      std::vector<ShamirPoint> some;
      for (unsigned i = 0; i < 5; ++i)
        if ((chosen >> i & 1U) != 0) some.push_back(points[i]);
      const auto combined = crypto::shamir_combine(some);
      ASSERT_THAT(combined, Succeeds());
      for (std::size_t at = 0; at < secret->size(); ++at)
        ASSERT_EQ(std::to_integer<unsigned>(combined->reveal()[at]),
                  tables.value_at_zero(some, at));
      EXPECT_EQ(equal_constant_time(combined->reveal(), secret->reveal()), some.size() >= needed)
          << "needed " << int{needed} << ", given " << some.size();
    }
  }
}

struct Slip39Share {
  unsigned x = 0;
  SecretBytes value;
};

// SLIP-0039 has the secret at 255 and shares from 0 on. Shifting all of them by 255 is the same
// polynomial seen from there, with the secret at 0.
SecretBytes combine_slip39(std::span<const Slip39Share> shares, std::size_t threshold) {
  if (threshold == 1) return *SecretBytes::copy_of(shares.front().value.reveal());
  std::vector<ShamirPoint> points;
  for (const auto& share : shares)
    points.push_back({static_cast<std::uint8_t>(share.x ^ 255U), share.value.reveal()});
  auto secret = crypto::shamir_combine(points);
  return secret ? std::move(*secret) : SecretBytes();
}

TEST(ShamirTest, PublishedSharesGiveTheirSecret) {
  const auto file = read_file(vectors_dir() / "shares" / "slip39.json", 1 << 20);
  ASSERT_THAT(file, Succeeds());
  const auto vectors = boost::json::parse(as_text(*file));
  ASSERT_EQ(vectors.at("cases").as_array().size(), 4U);
  for (const auto& entry : vectors.at("cases").as_array()) {
    std::vector<Slip39Share> groups;
    for (const auto& group : entry.at("groups").as_array()) {
      std::vector<Slip39Share> members;
      for (const auto& member : group.at("members").as_array())
        members.push_back({member.at("x").to_number<unsigned>(),
                           *SecretBytes::copy_of(*from_hex(member.at("value").as_string()))});
      groups.push_back({group.at("x").to_number<unsigned>(),
                        combine_slip39(members, group.at("threshold").to_number<std::size_t>())});
    }
    const auto secret =
        combine_slip39(groups, entry.at("group_threshold").to_number<std::size_t>());
    EXPECT_EQ(to_hex(secret.reveal()), entry.at("secret").as_string());
  }
}

TEST(ShamirTest, EverySizeAndSchemeComesBack) {
  for (const std::size_t size : {1U, 2U, 31U, 64U, 256U, 4096U}) {
    const auto secret = SecretBytes::random(size);
    for (const ShamirScheme scheme :
         {ShamirScheme{1, 1}, {1, 16}, {2, 2}, {2, 3}, {16, 16}, {9, 16}}) {
      const auto shares = crypto::shamir_split(*secret, scheme);
      ASSERT_THAT(shares, Succeeds());
      ASSERT_EQ(shares->size(), scheme.total);
      const auto points = points_of(*shares);
      // The last ones: those at the end have the largest indexes.
      const auto combined = crypto::shamir_combine(std::span(points).last(scheme.needed));
      ASSERT_THAT(combined, Succeeds());
      EXPECT_EQ(plain(*combined), plain(*secret));
    }
  }
}

TEST(ShamirTest, SharesAreFreshAndAllValuesOccur) {
  const auto secret = SecretBytes::zeroed(4096);
  const auto once = crypto::shamir_split(*secret, {2, 2});
  const auto again = crypto::shamir_split(*secret, {2, 2});
  EXPECT_NE(plain(once->front()), plain(again->front()));
  // Two shares of secrets of zeros: 8192 values, of which one is missing by chance once in 10^11
  // runs.
  std::array<int, 256> seen{};
  for (const auto* shares : {&*once, &*again}) {
    for (const auto value : shares->front().reveal())
      ++seen.at(std::to_integer<std::size_t>(value));
  }
  EXPECT_THAT(seen, testing::Each(testing::Gt(0)));
}

TEST(ShamirTest, AFurtherShareThatIsWrongChangesTheSecret) {
  const auto secret = SecretBytes::random(8);
  auto shares = crypto::shamir_split(*secret, {2, 3});
  shares->at(2).reveal_mutable()[7] ^= std::byte{1};
  const auto combined = crypto::shamir_combine(points_of(*shares));
  EXPECT_NE(plain(*combined), plain(*secret));
}

TEST(ShamirTest, RefusesWhatIsOutsideTheLimits) {
  const auto secret = SecretBytes::random(8);
  for (const ShamirScheme scheme : {ShamirScheme{0, 3}, {4, 3}, {2, 17}, {0, 0}}) {
    EXPECT_FALSE(crypto::shamir_valid(scheme));
    EXPECT_THAT(crypto::shamir_split(*secret, scheme), FailsWith(Reason::kInvalidArgs));
  }
  EXPECT_THAT(crypto::shamir_split(SecretBytes(), {2, 3}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::shamir_split(*SecretBytes::zeroed(4097), {2, 3}),
              FailsWith(Reason::kInvalidArgs));

  const Bytes value = filled(8, 1);
  const Bytes longer = filled(9, 1);
  const Bytes too_long = filled(4097, 1);
  EXPECT_THAT(crypto::shamir_combine({}), FailsWith(Reason::kInvalidArgs));
  for (const std::vector<ShamirPoint>& bad : {std::vector<ShamirPoint>{{0, value}},
                                              {{1, value}, {1, value}},
                                              {{1, value}, {2, longer}},
                                              {{1, {}}},
                                              {{1, too_long}},
                                              std::vector<ShamirPoint>(17, {1, value})}) {
    EXPECT_THAT(crypto::shamir_combine(bad), FailsWith(Reason::kInvalidArgs));
  }
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "hsm/recovery_shares.h"

#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

RecoveryShare copy_of(const RecoveryShare& share) {
  return {share.scheme, share.index, share.seed_tag, *SecretBytes::copy_of(share.value.reveal())};
}

// The shares at `indexes`, counted from 0.
std::vector<RecoveryShare> pick(const std::vector<RecoveryShare>& all,
                                std::initializer_list<std::size_t> indexes) {
  std::vector<RecoveryShare> out;
  for (const auto i : indexes) out.push_back(copy_of(all.at(i)));
  return out;
}

class RecoverySharesTest : public testing::Test {
 protected:
  SecretBytes seed_ = *SecretBytes::random(kShareSeedBytes);
};

TEST_F(RecoverySharesTest, SharesOfAnotherImplementationGiveItsSeed) {
  const auto file = read_file(tests::vectors_dir() / "shares" / "gf256.json", 1 << 20);
  ASSERT_THAT(file, Succeeds());
  const auto vectors = boost::json::parse(as_text(*file));
  for (const auto& entry : vectors.at("cases").as_array()) {
    const auto needed = entry.at("needed").to_number<std::size_t>();
    std::vector<RecoveryShare> shares;
    for (const auto& text : entry.at("texts").as_array()) {
      auto share = share_from_text(as_bytes(text.as_string()));
      ASSERT_THAT(share, Succeeds());
      EXPECT_EQ(to_hex(share->value.reveal()), entry.at("shares").at(shares.size()).as_string());
      shares.push_back(std::move(*share));
    }
    // The last ones, and all of them.
    std::vector<RecoveryShare> last;
    for (std::size_t i = shares.size() - needed; i < shares.size(); ++i)
      last.push_back(copy_of(shares[i]));
    for (const auto* some : {&last, &shares}) {
      const auto seed = combine_shares(*some);
      ASSERT_THAT(seed, Succeeds());
      EXPECT_EQ(to_hex(seed->reveal()), entry.at("seed").as_string());
    }
  }
}

TEST_F(RecoverySharesTest, AnyTwoOfThreeGiveTheSeedAndOneDoesNot) {
  const auto shares = split_seed(seed_, {2, 3});
  ASSERT_THAT(shares, Succeeds());
  for (const auto& some : {pick(*shares, {0, 1}), pick(*shares, {2, 0}), pick(*shares, {1, 2}),
                           pick(*shares, {0, 1, 2})}) {
    const auto seed = combine_shares(some);
    ASSERT_THAT(seed, Succeeds());
    EXPECT_TRUE(equal_constant_time(seed->reveal(), seed_.reveal()));
  }
  EXPECT_THAT(combine_shares(pick(*shares, {1})), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(combine_shares({}), FailsWith(Reason::kInvalidArgs));
}

TEST_F(RecoverySharesTest, SharesAreNeitherTheSeedNorTheSameTwice) {
  const auto once = split_seed(seed_, {2, 3});
  const auto again = split_seed(seed_, {2, 3});
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_FALSE(equal_constant_time((*once)[i].value.reveal(), seed_.reveal()));
    EXPECT_FALSE(equal_constant_time((*once)[i].value.reveal(), (*again)[i].value.reveal()));
  }
}

TEST_F(RecoverySharesTest, SharesThatDoNotBelongTogetherAreRefused) {
  const auto shares = split_seed(seed_, {2, 3});
  const auto others = split_seed(*SecretBytes::random(kShareSeedBytes), {2, 3});
  auto mixed = pick(*shares, {0});
  mixed.push_back(copy_of((*others)[1]));
  EXPECT_THAT(combine_shares(mixed), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(combine_shares(pick(*shares, {1, 1})), FailsWith(Reason::kInvalidArgs));

  auto damaged = pick(*shares, {0, 1});
  damaged[0].value.reveal_mutable()[5] ^= std::byte{1};
  EXPECT_THAT(combine_shares(damaged), FailsWith(Reason::kConfirmMismatch));
  // An extra share that is wrong is noticed too.
  auto extra = pick(*shares, {0, 1, 2});
  extra[2].value.reveal_mutable()[31] ^= std::byte{0x80};
  EXPECT_THAT(combine_shares(extra), FailsWith(Reason::kConfirmMismatch));
}

TEST_F(RecoverySharesTest, SchemesOutsideTheLimitsAreRefused) {
  for (const ShareScheme scheme : {ShareScheme{0, 3}, {4, 3}, {2, 17}})
    EXPECT_THAT(split_seed(seed_, scheme), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(split_seed(*SecretBytes::zeroed(31), {2, 3}), FailsWith(Reason::kInvalidArgs));
}

TEST_F(RecoverySharesTest, TextComesBackHoweverItIsTyped) {
  const auto shares = split_seed(seed_, {3, 5});
  const auto text = share_to_text((*shares)[4]);
  ASSERT_THAT(text, Succeeds());
  std::string typed(as_text(text->reveal()));
  EXPECT_TRUE(typed.starts_with("# Coffer recovery share 5 of 5; any 3 make the token anew.\n"));
  for (auto& c : typed) {
    if (c == ' ') c = '-';
    if (c >= 'a' && c <= 'f') c = static_cast<char>(c - 'a' + 'A');
  }
  typed = "\n # typed by hand\r\n" + typed.substr(typed.find('\n')) + "\n\n";
  const auto share = share_from_text(as_bytes(typed));
  ASSERT_THAT(share, Succeeds());
  EXPECT_EQ(share->index, 5);
  EXPECT_EQ(share->scheme.needed, 3);
  EXPECT_TRUE(equal_constant_time(share->value.reveal(), (*shares)[4].value.reveal()));
}

TEST_F(RecoverySharesTest, AnyWrongDigitIsFoundInItsLine) {
  const auto shares = split_seed(seed_, {2, 3});
  const auto text = share_to_text((*shares)[0]);
  const std::string good(as_text(text->reveal()));
  int line = 0;
  for (std::size_t i = good.find('\n') + 1; i < good.size(); ++i) {
    if (good[i] == '\n') ++line;
    if (good[i] == ' ' || good[i] == '\n') continue;
    auto bad = good;
    bad[i] = bad[i] == '7' ? '8' : '7';
    const auto share = share_from_text(as_bytes(bad));
    ASSERT_THAT(share, FailsWith(Reason::kInvalidArgs));
    EXPECT_NE(share.error().message().find("line " + std::to_string(line + 1)), std::string::npos);
  }
}

TEST_F(RecoverySharesTest, WhatIsNoShareIsRefused) {
  const auto shares = split_seed(seed_, {2, 3});
  const auto text = share_to_text((*shares)[0]);
  const std::string good(as_text(text->reveal()));
  for (const std::string& bad :
       {std::string(), std::string("# only a comment\n"), good + good,
        good.substr(0, good.size() - 10), good + "zz", std::string(kShareTextBytesMax + 1, ' ')}) {
    EXPECT_THAT(share_from_text(as_bytes(bad)), FailsWith(Reason::kInvalidArgs)) << bad.size();
  }
}

}  // namespace
}  // namespace coffer::hsm

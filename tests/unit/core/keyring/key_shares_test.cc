// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_shares.h"

#include <gtest/gtest.h>

#include <functional>

#include "core/base/encoding.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using keyring::KeyContext;
using keyring::KeyShares;
using keyring::ShareCollector;
using keyring::SplitKey;

class KeySharesTest : public testing::Test {
 protected:
  KeySharesTest() { digest_.fill(std::byte{0x5A}); }

  SplitKey split(std::uint8_t needed, std::uint8_t total) {
    auto made = keyring::split_key(key_, digest_, needed, total);
    EXPECT_THAT(made, Succeeds());
    return std::move(*made);
  }
  // The share of that index, as it is delivered.
  static KeyShares at(const SplitKey& made, std::uint8_t index) {
    KeyShares share = made.set;
    share.index = index;
    return share;
  }
  Result<std::optional<SecretBytes>> add(ShareCollector& collector, const SplitKey& made,
                                         std::uint8_t index) {
    return collector.add(at(made, index), digest_,
                         *SecretBytes::copy_of(made.shares[index - 1U].reveal()));
  }

  SecretBytes key_ = *SecretBytes::random(64);
  keyring::Digest digest_{};
};

TEST_F(KeySharesTest, AsManyAsAreNeededMakeTheKeyInAnyOrderAndFewerDoNot) {
  for (std::uint8_t total = 2; total <= KeyShares::kTotalMax; ++total) {
    for (std::uint8_t needed = 2; needed <= total; ++needed) {
      const SplitKey made = split(needed, total);
      ASSERT_EQ(made.shares.size(), total);
      ShareCollector collector;
      for (std::uint8_t i = 0; i < needed; ++i) {
        // From the last one down.
        auto got = add(collector, made, static_cast<std::uint8_t>(total - i));
        ASSERT_THAT(got, Succeeds());
        EXPECT_EQ(got->has_value(), i + 1 == needed);
        if (!*got) continue;
        EXPECT_TRUE(equal_constant_time((*got)->reveal(), key_.reveal()));
      }
    }
  }
}

TEST_F(KeySharesTest, NumbersOutsideTheLimitsAreRefused) {
  EXPECT_THAT(keyring::split_key(key_, digest_, 1, 2), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring::split_key(key_, digest_, 0, 2), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring::split_key(key_, digest_, 3, 2), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring::split_key(key_, digest_, 2, 9), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring::split_key(SecretBytes(), digest_, 2, 2), FailsWith(Reason::kInvalidArgs));
  ShareCollector collector;
  EXPECT_THAT(
      collector.add({.needed = 2, .total = 3, .index = 0}, digest_, *SecretBytes::zeroed(64)),
      FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(
      collector.add({.needed = 2, .total = 3, .index = 4}, digest_, *SecretBytes::zeroed(64)),
      FailsWith(Reason::kInvalidArgs));
}

TEST_F(KeySharesTest, WhatIsNoShareOfTheSameKeyIsRefusedAndTheOthersStay) {
  const SplitKey made = split(2, 3);
  const SplitKey again = split(2, 3);
  const SplitKey of_three = split(3, 3);
  ShareCollector collector;
  ASSERT_THAT(add(collector, made, 1), Succeeds());
  EXPECT_THAT(add(collector, made, 1), FailsWith(Reason::kTicketUnknown)) << "twice";
  EXPECT_THAT(add(collector, of_three, 2), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(collector.add(at(made, 2), digest_, *SecretBytes::zeroed(32)),
              FailsWith(Reason::kBlobInvalid))
      << "of another length";
  keyring::Digest other = digest_;
  other[0] ^= std::byte{1};
  EXPECT_THAT(collector.add(at(made, 2), other, *SecretBytes::zeroed(64)),
              FailsWith(Reason::kBlobInvalid))
      << "of another volume";
  const auto key = add(collector, made, 3);
  ASSERT_THAT(key, Succeeds());
  EXPECT_TRUE(*key);
  // One key has one commitment, so shares of two splits of it are told apart by what they make.
  ASSERT_THAT(add(collector, made, 1), Succeeds());
  EXPECT_THAT(add(collector, again, 2), FailsWith(Reason::kWrongKey));
  // It begins anew.
  ASSERT_THAT(add(collector, made, 1), Succeeds());
  EXPECT_THAT(add(collector, made, 2), Succeeds());
}

TEST_F(KeySharesTest, AnyWrongByteOfAShareIsNoticed) {
  const SplitKey made = split(2, 2);
  for (std::size_t byte = 0; byte < 64; ++byte) {
    ShareCollector collector;
    ASSERT_THAT(add(collector, made, 1), Succeeds());
    auto value = *SecretBytes::copy_of(made.shares[1].reveal());
    value.reveal_mutable()[byte] ^= std::byte{0x80};
    EXPECT_THAT(collector.add(at(made, 2), digest_, std::move(value)),
                FailsWith(Reason::kWrongKey));
  }
}

// Computed with Python's hmac.
TEST_F(KeySharesTest, TheCommitmentIsWhatItIsSaidToBe) {
  Bytes key(64);
  for (std::size_t i = 0; i < key.size(); ++i) key[i] = std::byte(i);
  const auto commitment =
      keyring::share_commitment(*SecretBytes::copy_of(key), digest_, {.needed = 2, .total = 3});
  EXPECT_EQ(to_hex(commitment), "c31747917abebded74bf698aef6fdb474fa5bfa5aa8f5f262153be0dea0daf4e");
}

KeyContext volume_context(std::optional<KeyShares> shares) {
  KeyContext context;
  context.volume = *VolumeId::parse("00112233-4455-4677-8899-aabbccddeeff");
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.generation = 1;
  context.shares = shares;
  return context;
}

TEST(KeyContextSharesTest, TheFormOfAContextWithoutSharesStaysAsItWas) {
  const Bytes plain = volume_context({}).encode();
  EXPECT_EQ(plain[4], std::byte{2});
  Bytes shared = volume_context(KeyShares{}).encode();
  EXPECT_EQ(shared[4], std::byte{3});
  ASSERT_EQ(shared.size(), plain.size() + 35);
  shared.resize(plain.size());
  shared[4] = std::byte{2};
  EXPECT_EQ(shared, plain);
}

TEST(KeyContextSharesTest, OneContextHasOneFormAndEveryOtherIsRefused) {
  KeyShares shares{.needed = 2, .total = 3, .index = 1};
  shares.commitment.fill(std::byte{7});
  const KeyContext context = volume_context(shares);
  const Bytes bytes = context.encode();
  const auto back = KeyContext::decode(bytes);
  ASSERT_THAT(back, Succeeds());
  EXPECT_EQ(*back, context);

  const auto with = [&](std::size_t from_end, int value) {
    Bytes changed = bytes;
    changed[changed.size() - from_end] = std::byte(value);
    return KeyContext::decode(changed);
  };
  EXPECT_THAT(with(35, 0), FailsWith(Reason::kTokenInvalid)) << "no share is needed";
  EXPECT_THAT(with(35, 1), FailsWith(Reason::kTokenInvalid)) << "one share is the key";
  EXPECT_THAT(with(35, 4), FailsWith(Reason::kTokenInvalid)) << "more than there are";
  EXPECT_THAT(with(34, 1), FailsWith(Reason::kTokenInvalid)) << "fewer than are needed";
  EXPECT_THAT(with(34, 9), FailsWith(Reason::kTokenInvalid)) << "more than a token holds";
  EXPECT_THAT(with(33, 4), FailsWith(Reason::kTokenInvalid)) << "an index above all";
  for (std::size_t cut = 1; cut <= 35; ++cut) {
    EXPECT_THAT(KeyContext::decode(ByteView(bytes).first(bytes.size() - cut)),
                FailsWith(Reason::kTokenInvalid));
  }
  Bytes old_number = bytes;
  old_number[4] = std::byte{2};
  EXPECT_THAT(KeyContext::decode(old_number), FailsWith(Reason::kTokenInvalid));
  Bytes unknown = bytes;
  unknown[4] = std::byte{4};
  EXPECT_THAT(KeyContext::decode(unknown), FailsWith(Reason::kTokenInvalid));

  KeyContext data = context;
  data.purpose = keyring::Purpose::kEnvelopeData;
  data.volume.reset();
  EXPECT_THAT(data.require_valid(), FailsWith(Reason::kInvalidArgs)) << "of volumes alone";
}

TEST(KeyContextSharesTest, EachWrapOfAVolumeHasItsOwnIndex) {
  const KeyContext of_volume = volume_context(KeyShares{.needed = 2, .total = 3});
  EXPECT_EQ(keyring::wrap_context(of_volume, 0).shares->index, 1);
  EXPECT_EQ(keyring::wrap_context(of_volume, 2).shares->index, 3);
  EXPECT_EQ(keyring::wrap_context(volume_context({}), 2), volume_context({}));
  EXPECT_THAT(keyring::require_same(of_volume, keyring::wrap_context(of_volume, 0)),
              FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(keyring::require_same(volume_context({}), of_volume),
              FailsWith(Reason::kBlobInvalid));
}

TEST(KeyContextSharesTest, ATokenSaysOneThing) {
  const KeyContext plain = volume_context({});
  EXPECT_THAT(keyring::require_threshold(plain, 1, 1), Succeeds());
  EXPECT_THAT(keyring::require_threshold(plain, 1, 3), Succeeds());
  EXPECT_THAT(keyring::require_threshold(plain, 0, 1), FailsWith(Reason::kTokenInvalid));
  EXPECT_THAT(keyring::require_threshold(plain, 2, 3), FailsWith(Reason::kTokenInvalid));
  const KeyContext shared = volume_context(KeyShares{.needed = 2, .total = 3});
  EXPECT_THAT(keyring::require_threshold(shared, 2, 3), Succeeds());
  EXPECT_THAT(keyring::require_threshold(shared, 1, 3), FailsWith(Reason::kTokenInvalid));
  EXPECT_THAT(keyring::require_threshold(shared, 3, 3), FailsWith(Reason::kTokenInvalid));
  EXPECT_THAT(keyring::require_threshold(shared, 2, 2), FailsWith(Reason::kTokenInvalid));
  EXPECT_THAT(keyring::require_threshold(keyring::wrap_context(shared, 0), 2, 3),
              FailsWith(Reason::kTokenInvalid))
      << "a share's context is no token's";
}

}  // namespace
}  // namespace coffer::tests

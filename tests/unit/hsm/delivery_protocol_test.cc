// SPDX-License-Identifier: Apache-2.0
#include "hsm/delivery_protocol.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

keyring::KeyShares some_share() {
  keyring::KeyShares share{.needed = 2, .total = 3, .index = 3};
  share.commitment.fill(std::byte{0x44});
  return share;
}

Bytes encoded(std::size_t key_bytes, std::optional<keyring::KeyShares> share = {}) {
  keyring::Ticket ticket;
  ticket.fill(std::byte{0x11});
  keyring::Digest digest;
  digest.fill(std::byte{0x22});
  const auto key = SecretBytes::copy_of(Bytes(key_bytes, std::byte{0x33}));
  const auto packet = encode_delivery(ticket, 7, {digest, share}, *key);
  const auto bytes = packet->reveal();
  return {bytes.begin(), bytes.end()};
}

TEST(DeliveryProtocolTest, DeliveryComesBackAsItWasSent) {
  const auto delivery = decode_delivery(encoded(64));

  ASSERT_THAT(delivery, Succeeds());
  EXPECT_EQ(delivery->ticket[15], std::byte{0x11});
  EXPECT_EQ(delivery->index, 7U);
  EXPECT_EQ(delivery->label.profile_digest[31], std::byte{0x22});
  EXPECT_FALSE(delivery->label.share);
  ASSERT_EQ(delivery->key.size(), 64U);
  EXPECT_EQ(delivery->key.reveal()[63], std::byte{0x33});
}

TEST(DeliveryProtocolTest, LargestKeyFillsTheStatedPacket) {
  EXPECT_EQ(encoded(kDeliveredKeyBytesMax, some_share()).size(), kDeliveryBytesMax);
}

TEST(DeliveryProtocolTest, AShareComesBackWithItsPlaceInTheSet) {
  const auto delivery = decode_delivery(encoded(64, some_share()));
  ASSERT_THAT(delivery, Succeeds());
  EXPECT_EQ(delivery->label.share, some_share());
  EXPECT_EQ(delivery->key.size(), 64U);
}

TEST(DeliveryProtocolTest, SharesOutsideTheirSetAreRefused) {
  // Index, needed and total stand behind version, ticket, index of the key and digest.
  constexpr std::size_t kShareAt = 1 + 16 + 4 + 32;
  const auto with = [&](std::size_t at, int value) {
    auto packet = encoded(64, some_share());
    packet[kShareAt + at] = std::byte(value);
    return decode_delivery(packet);
  };
  EXPECT_THAT(with(0, 4), FailsWith(Reason::kMessageInvalid)) << "an index above all";
  EXPECT_THAT(with(1, 0), FailsWith(Reason::kMessageInvalid)) << "none is needed";
  EXPECT_THAT(with(1, 1), FailsWith(Reason::kMessageInvalid)) << "one alone is the key";
  EXPECT_THAT(with(1, 4), FailsWith(Reason::kMessageInvalid)) << "more than there are";
  EXPECT_THAT(with(2, 9), FailsWith(Reason::kMessageInvalid)) << "more than a token holds";
  keyring::KeyShares of_all = some_share();
  of_all.index = 0;
  EXPECT_THAT(encode_delivery({}, 0, {{}, of_all}, *SecretBytes::zeroed(64)),
              FailsWith(Reason::kInvalidArgs));
}

TEST(DeliveryProtocolTest, KeysOutsideTheLimitsAreNotSent) {
  const auto long_key = SecretBytes::zeroed(kDeliveredKeyBytesMax + 1);
  EXPECT_THAT(encode_delivery({}, 0, {}, SecretBytes()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(encode_delivery({}, 0, {}, *long_key), FailsWith(Reason::kInvalidArgs));
}

TEST(DeliveryProtocolTest, EveryCutOrLengthenedPacketIsRefused) {
  for (auto packet : {encoded(64), encoded(64, some_share())}) {
    for (std::size_t size = 0; size < packet.size(); ++size) {
      EXPECT_THAT(decode_delivery(ByteView(packet).first(size)),
                  FailsWith(Reason::kMessageInvalid));
    }
    packet.push_back(std::byte{0});
    EXPECT_THAT(decode_delivery(packet), FailsWith(Reason::kMessageInvalid));
  }
}

TEST(DeliveryProtocolTest, AnswerKeepsReasonAndMessage) {
  EXPECT_THAT(decode_delivery_reply(encode_delivery_reply({})), Succeeds());

  const auto refused =
      decode_delivery_reply(encode_delivery_reply(fail(Reason::kTicketUnknown, "no such ticket")));
  ASSERT_THAT(refused, FailsWith(Reason::kTicketUnknown));
  EXPECT_EQ(refused.error().message(), "no such ticket");
}

TEST(DeliveryProtocolTest, AnswersThatAreNoneAreRefused) {
  ByteWriter unknown;
  unknown.u8(1).boolean(false).text("NoSuchReasonAtAll").text("");
  EXPECT_THAT(decode_delivery_reply(unknown.view()), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_delivery_reply({}), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_delivery_reply(as_bytes("\x02\x01")), FailsWith(Reason::kMessageInvalid));
}

}  // namespace
}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "hsm/delivery_protocol.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

Bytes encoded(std::size_t key_bytes) {
  keyring::Ticket ticket;
  ticket.fill(std::byte{0x11});
  keyring::Digest digest;
  digest.fill(std::byte{0x22});
  const auto key = SecretBytes::copy_of(Bytes(key_bytes, std::byte{0x33}));
  const auto packet = encode_delivery(ticket, 7, digest, *key);
  const auto bytes = packet->reveal();
  return {bytes.begin(), bytes.end()};
}

TEST(DeliveryProtocolTest, DeliveryComesBackAsItWasSent) {
  const auto delivery = decode_delivery(encoded(64));

  ASSERT_THAT(delivery, Succeeds());
  EXPECT_EQ(delivery->ticket[15], std::byte{0x11});
  EXPECT_EQ(delivery->index, 7U);
  EXPECT_EQ(delivery->profile_digest[31], std::byte{0x22});
  ASSERT_EQ(delivery->key.size(), 64U);
  EXPECT_EQ(delivery->key.reveal()[63], std::byte{0x33});
}

TEST(DeliveryProtocolTest, LargestKeyFillsTheStatedPacket) {
  EXPECT_EQ(encoded(kDeliveredKeyBytesMax).size(), kDeliveryBytesMax);
}

TEST(DeliveryProtocolTest, KeysOutsideTheLimitsAreNotSent) {
  const auto long_key = SecretBytes::zeroed(kDeliveredKeyBytesMax + 1);
  EXPECT_THAT(encode_delivery({}, 0, {}, SecretBytes()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(encode_delivery({}, 0, {}, *long_key), FailsWith(Reason::kInvalidArgs));
}

TEST(DeliveryProtocolTest, EveryCutOrLengthenedPacketIsRefused) {
  auto packet = encoded(64);
  for (std::size_t size = 0; size < packet.size(); ++size) {
    EXPECT_THAT(decode_delivery(ByteView(packet).first(size)), FailsWith(Reason::kMessageInvalid));
  }
  packet.push_back(std::byte{0});
  EXPECT_THAT(decode_delivery(packet), FailsWith(Reason::kMessageInvalid));
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

// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/frame.h"

#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using namespace ipc;  // NOLINT(google-build-using-namespace): its functions are what is tested.

TEST(FrameTest, DecodingGivesBackWhatWasEncoded) {
  const Bytes message = encode_frame({17, 0x0102030405060708}, as_bytes("body"));
  EXPECT_EQ(message.size(), kFrameHeaderBytes + 4);
  const auto frame = decode_frame(message);
  ASSERT_THAT(frame, Succeeds());
  EXPECT_EQ(frame->header, (FrameHeader{17, 0x0102030405060708}));
  EXPECT_EQ(as_text(frame->body), "body");
}

TEST(FrameTest, RefusesWhatIsNoMessage) {
  const Bytes good = encode_frame({1, 1}, {});
  EXPECT_THAT(decode_frame(good), Succeeds());
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(decode_frame(ByteView(good).first(size)), FailsWith(Reason::kMessageInvalid));
  }
  Bytes other_version = good;
  other_version[1] = std::byte{9};
  EXPECT_THAT(decode_frame(other_version), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_frame(encode_frame({0, 1}, {})), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_frame(encode_frame({0x8002, 1}, {})), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_frame(encode_frame({kTypeReply, 0}, {})), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_frame(Bytes(kMessageBytesMax + 1)), FailsWith(Reason::kMessageInvalid));
}

TEST(FrameTest, EveryReasonTravelsWithItsMessage) {
  for (const auto& info : all_reasons()) {
    const Error error(info.reason, "what happened");
    const auto decoded = decode_error(encode_error(error));
    ASSERT_THAT(decoded, Succeeds());
    EXPECT_EQ(*decoded, error);
  }
}

TEST(FrameTest, ErrorTextIsCutAndMadePrintable) {
  const auto decoded =
      decode_error(encode_error(Error(Reason::kBusy, "a\n" + std::string(2000, 'x'))));
  ASSERT_THAT(decoded, Succeeds());
  EXPECT_EQ(decoded->message().size(), kErrorTextBytesMax);
  EXPECT_EQ(decoded->message()[1], '?');
}

TEST(FrameTest, RefusesWhatIsNoError) {
  const Bytes unknown =
      ByteWriter().u16(static_cast<std::uint16_t>(all_reasons().size())).text("x").take();
  EXPECT_THAT(decode_error(unknown), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_error({}), FailsWith(Reason::kMessageInvalid));
  Bytes longer = encode_error(Error(Reason::kBusy, "x"));
  longer.push_back(std::byte{0});
  EXPECT_THAT(decode_error(longer), FailsWith(Reason::kMessageInvalid));
}

}  // namespace
}  // namespace coffer::tests

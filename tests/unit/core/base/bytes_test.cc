// SPDX-License-Identifier: Apache-2.0
#include "core/base/bytes.h"

#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

TEST(Bytes, ReaderTakesApartWhatWriterPutTogether) {
  ByteWriter out;
  out.u8(1).u16(0x0203).u32(0x04050607).u64(0x08090A0B0C0D0E0F).boolean(true).text("grün");
  out.bytes(as_bytes("abc")).raw(as_bytes("xy"));
  ByteReader in(out.view());
  EXPECT_EQ(in.u8(), 1);
  EXPECT_EQ(in.u16(), 0x0203);
  EXPECT_EQ(in.u32(), 0x04050607U);
  EXPECT_EQ(in.u64(), 0x08090A0B0C0D0E0FU);
  EXPECT_TRUE(in.boolean());
  EXPECT_EQ(in.text(16), "grün");
  EXPECT_EQ(as_text(in.bytes(3)), "abc");
  EXPECT_EQ(as_text(in.raw(2)), "xy");
  EXPECT_THAT(in.finish(Reason::kMessageInvalid, "message"), Succeeds());
}

TEST(Bytes, FirstReadPastTheEndMakesAllLaterOnesEmpty) {
  const Bytes three(3, std::byte{1});
  ByteReader in(three);
  EXPECT_EQ(in.u32(), 0U);
  EXPECT_FALSE(in.good());
  EXPECT_EQ(in.u8(), 0U);
  EXPECT_TRUE(in.raw(1).empty());
  EXPECT_THAT(in.finish(Reason::kMessageInvalid, "message"), FailsWith(Reason::kMessageInvalid));
}

TEST(Bytes, BytesLeftOverAreAnError) {
  const Bytes two(2);
  ByteReader in(two);
  in.u8();
  EXPECT_THAT(in.finish(Reason::kTokenInvalid, "token"), FailsWith(Reason::kTokenInvalid));
}

TEST(Bytes, ReaderRefusesWhatItsCallerDoesNotAllow) {
  const auto bad = [](const ByteWriter& out, auto read) {
    ByteReader in(out.view());
    read(in);
    return !in.good();
  };
  EXPECT_TRUE(bad(ByteWriter().u8(2), [](auto& in) { in.boolean(); }));
  EXPECT_TRUE(bad(ByteWriter().text("four"), [](auto& in) { in.text(3); }));
  EXPECT_TRUE(bad(ByteWriter().text("\xff"), [](auto& in) { in.text(3); }));
  EXPECT_TRUE(bad(ByteWriter().bytes(Bytes(1)), [](auto& in) { in.text(3); }));
  EXPECT_TRUE(bad(ByteWriter().u32(0xFFFFFFFF), [](auto& in) { in.bytes(SIZE_MAX); }));
  EXPECT_TRUE(bad(ByteWriter().u32(3), [](auto& in) { in.count(2, 0); }));
  EXPECT_TRUE(bad(ByteWriter().u32(3).u16(0), [](auto& in) { in.count(10, 1); }));
  EXPECT_FALSE(bad(ByteWriter().u32(2).u16(0), [](auto& in) { in.count(10, 1); }));
  EXPECT_TRUE(bad(ByteWriter(), [](auto& in) { in.reject(); }));
}

TEST(Utf8, TakesWhatIsWellFormedAlone) {
  for (const char* good : {"", "a", "\xc2\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf", "grün €"}) {
    EXPECT_TRUE(is_utf8(good)) << good;
  }
  for (const char* bad : {"\x80", "\xc1\x81", "\xc2", "\xe0\x80\x80", "\xed\xa0\x80", "\xe2\x82",
                          "\xf0\x80\x80\x80", "\xf4\x90\x80\x80", "\xf5\x80\x80\x80"}) {
    EXPECT_FALSE(is_utf8(bad));
  }
}

TEST(Printable, ReplacesWhatATerminalWouldObeyAndCutsBetweenCharacters) {
  EXPECT_EQ(printable("a\n\x1b[0m\x7f\xff", 100), "a??[0m??");
  EXPECT_EQ(printable("\xc2\x85grün", 100), "?grün");
  EXPECT_EQ(printable("aü", 2), "a");
  EXPECT_EQ(printable("aü", 3), "aü");
  EXPECT_EQ(printable(printable("\xe2\x82x", 5), 5), printable("\xe2\x82x", 5));
}

}  // namespace
}  // namespace coffer::tests

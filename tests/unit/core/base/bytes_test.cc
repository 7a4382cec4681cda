// SPDX-License-Identifier: Apache-2.0
#include "core/base/bytes.h"

#include <gtest/gtest.h>

namespace coffer {
namespace {

TEST(Bytes, ReaderTakesApartWhatWriterPutTogether) {
  ByteWriter out;
  out.u8(1).u16(0x0203).u32(0x04050607).u64(0x08090A0B0C0D0E0F).boolean(true).text("grün");
  ByteReader in(out.view());
  EXPECT_EQ(in.u8(), 1);
  EXPECT_EQ(in.u16(), 0x0203);
  EXPECT_EQ(in.u32(), 0x04050607U);
  EXPECT_EQ(in.u64(), 0x08090A0B0C0D0E0FU);
  EXPECT_TRUE(in.boolean());
  EXPECT_EQ(in.text(16), "grün");
  EXPECT_TRUE(in.finish(Reason::kMessageInvalid, "message"));
}

}  // namespace
}  // namespace coffer

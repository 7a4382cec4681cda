// SPDX-License-Identifier: Apache-2.0
#include "hsm/block_padding.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::Succeeds;

TEST(BlockPaddingTest, EveryLengthComesBack) {
  for (std::size_t size = 0; size <= 49; ++size) {
    const Bytes plain(size, std::byte{3});
    auto padded = pad_blocks(plain);
    ASSERT_THAT(padded, Succeeds());
    EXPECT_EQ(padded->size() % kPaddedBlockBytes, 0U);
    EXPECT_GT(padded->size(), size);
    ASSERT_TRUE(unpad_blocks(*padded)) << size;
    EXPECT_TRUE(std::ranges::equal(padded->reveal(), plain)) << size;
  }
}

TEST(BlockPaddingTest, WhatIsNoPaddingIsLeftAlone) {
  for (const auto& [end, count] : {std::pair{0, 1}, {17, 17}, {255, 16}, {2, 1}, {16, 15}}) {
    auto text = SecretBytes::zeroed(16);
    std::ranges::fill(text->reveal_mutable().last(static_cast<std::size_t>(std::min(count, 16))),
                      static_cast<std::byte>(end));
    EXPECT_FALSE(unpad_blocks(*text)) << end;
    EXPECT_EQ(text->size(), 16U);
  }
}

}  // namespace
}  // namespace coffer::hsm

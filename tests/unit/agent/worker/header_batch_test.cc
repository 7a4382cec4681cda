// SPDX-License-Identifier: Apache-2.0
#include "agent/reader/header_batch.h"

#include <gtest/gtest.h>

#include "core/base/files.h"
#include "tests/support/result_matchers.h"

namespace coffer::agent {
namespace {

using tests::FailsWith;
using tests::Succeeds;

TEST(HeaderBatchTest, SlotsSurviveTheWire) {
  const std::vector<HeaderSlot> slots{{0, 131072, 1U << 30U}, {131072, 100, 100}};
  EXPECT_EQ(decode_slots(encode_slots(slots)), slots);
}

TEST(HeaderBatchTest, SlotsOutsideTheLimitsAreRefused) {
  const HeaderSlot slot{0, luks2::kReaderBytes + 1, 0};
  EXPECT_THAT(decode_slots(encode_slots(std::span(&slot, 1))), FailsWith(Reason::kMessageInvalid));
  const std::vector<HeaderSlot> many(kHeaderSlotsMax + 1);
  EXPECT_THAT(decode_slots(encode_slots(many)), FailsWith(Reason::kMessageInvalid));
  auto cut = encode_slots(std::span(many).first(2));
  cut.pop_back();
  EXPECT_THAT(decode_slots(cut), FailsWith(Reason::kMessageInvalid));
}

TEST(HeaderBatchTest, EverySlotGetsItsOutcome) {
  const auto batch = sealed_memfd_of("batch", Bytes(8192, std::byte{7})).value();
  const std::vector<HeaderSlot> slots{{0, 4096, 4096}, {4096, 4096, 4096}, {0, 0, 0}};
  const auto answer = check_batch(batch.get(), slots);
  ASSERT_THAT(answer, Succeeds());
  const auto outcomes = read_outcomes(answer->get(), slots.size());
  ASSERT_THAT(outcomes, Succeeds());
  for (const auto& outcome : *outcomes)
    EXPECT_EQ(std::get<luks2::Refusal>(outcome).reason, Reason::kNotLuks2);
  EXPECT_THAT(read_outcomes(answer->get(), 2), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(read_outcomes(answer->get(), 4), FailsWith(Reason::kMessageInvalid));
}

TEST(HeaderBatchTest, MemoryThatCanStillChangeIsNotTaken) {
  const auto open = make_memfd("batch", 4096).value();
  const HeaderSlot slot{0, 4096, 4096};
  EXPECT_THAT(check_batch(open.get(), std::span(&slot, 1)), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(read_outcomes(open.get(), 1), FailsWith(Reason::kMessageInvalid));
}

TEST(HeaderBatchTest, SlotOutsideTheMemoryIsRefused) {
  const auto batch = sealed_memfd_of("batch", Bytes(4096)).value();
  for (const HeaderSlot slot :
       {HeaderSlot{1, 4096, 4096}, HeaderSlot{4097, 0, 0}, HeaderSlot{0xFFFFFFFFFFFFFFFF, 2, 2}})
    EXPECT_THAT(check_batch(batch.get(), std::span(&slot, 1)), FailsWith(Reason::kMessageInvalid));
}

}  // namespace
}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_errors.h"

#include "tests/unit/hsm/expected_return.h"

namespace coffer::hsm {
namespace {

constexpr unsigned long kBase = 0x01000000;  // Of the standard's numbers.

class SdfReturnTest : public testing::TestWithParam<Expected> {};

TEST_P(SdfReturnTest, HasTheClassReactionAndReasonThatItsFaultNeeds) {
  const auto value = GetParam().value;
  expect_return(GetParam(), sdf_return_info(value), fail_sdf_return(value, "a step").value());
}

INSTANTIATE_TEST_SUITE_P(
    AllClasses, SdfReturnTest,
    testing::Values(
        session(kBase + 0x1D), session(kBase + 0x08), session(kBase + 0x10),  //
        token(kBase + 0x03), token(kBase + 0x04), token(kBase + 0x05),        //
        pin(kBase + 0x07, Reason::kHsmPinIncorrect),
        pin(kBase + 0x18, Reason::kHsmPinIncorrect),  //
        unclear(kBase + 0x01), unclear(kBase + 0x0B), unclear(kBase + 0x0C), unclear(kBase + 0x0F),
        unclear(kBase + 0x16),                           //
        resource(kBase + 0x06), resource(kBase + 0x1C),  //
        other(kBase + 0x02, Reason::kUnsupported), other(kBase + 0x09, Reason::kUnsupported),
        other(kBase + 0x0A, Reason::kUnsupported), other(kBase + 0x15, Reason::kHsmFailed),
        other(kBase + 0x19, Reason::kHsmFailed),
        // Of a maker's own, and nonsense.
        other(0x01010001, Reason::kHsmFailed), other(0xFFFFFFFF, Reason::kHsmFailed)));

TEST(SdfReturnTableTest, EachCodeOfTheStandardStandsInItOnce) {
  // The last row is Coffer's own, for answers that the standard does not let a device give.
  const auto table = all_sdf_return_infos();
  ASSERT_EQ(table.back().value, kSdfBadAnswer);
  const auto seen = expect_each_once(table.first(table.size() - 1), "SDR_");
  for (unsigned long number = 1; number <= 0x1F; ++number)
    EXPECT_TRUE(seen.contains(kBase + number)) << number;
}

}  // namespace
}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "hsm/sdf_errors.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

struct Expected {
  unsigned long value;
  ReturnClass kind;
  Reaction reaction;
  Reason reason;
};
// NOLINTNEXTLINE(readability-identifier-naming): GoogleTest calls it so.
void PrintTo(const Expected& expected, std::ostream* out) {
  *out << sdf_return_info(expected.value).name;
}

// The classes written out again, by the numbers of the standard: one test per value.
class SdfReturnTest : public testing::TestWithParam<Expected> {};

TEST_P(SdfReturnTest, HasTheClassReactionAndReasonThatItsFaultNeeds) {
  const auto info = sdf_return_info(GetParam().value);
  EXPECT_EQ(info.kind, GetParam().kind);
  EXPECT_EQ(info.reaction, GetParam().reaction);
  const auto error = fail_sdf_return(GetParam().value, "a step").value();
  EXPECT_EQ(error.reason(), GetParam().reason);
  EXPECT_NE(error.message().find("a step"), std::string::npos);
}

constexpr unsigned long kBase = 0x01000000;
constexpr Expected session(unsigned long number) {
  return {kBase + number, ReturnClass::kSessionLost, Reaction::kReopenAndRepeat,
          Reason::kHsmFailed};
}
constexpr Expected token(unsigned long number) {
  return {kBase + number, ReturnClass::kTokenLost, Reaction::kReload, Reason::kHsmAbsent};
}
constexpr Expected pin(unsigned long number) {
  return {kBase + number, ReturnClass::kPin, Reaction::kStopLogin, Reason::kHsmPinIncorrect};
}
constexpr Expected unclear(unsigned long number) {
  return {kBase + number, ReturnClass::kUnclear, Reaction::kProbeAndRepeat, Reason::kHsmFailed};
}
constexpr Expected resource(unsigned long number) {
  return {kBase + number, ReturnClass::kResource, Reaction::kBackOff, Reason::kHsmBusy};
}
constexpr Expected other(unsigned long value, Reason reason) {
  return {value, ReturnClass::kOther, Reaction::kFail, reason};
}

INSTANTIATE_TEST_SUITE_P(AllClasses, SdfReturnTest,
                         testing::Values(session(0x1D), session(0x08), session(0x10),  //
                                         token(0x03), token(0x04), token(0x05),        //
                                         pin(0x07), pin(0x18),                         //
                                         unclear(0x01), unclear(0x0B), unclear(0x0C), unclear(0x0F),
                                         unclear(0x16),                   //
                                         resource(0x06), resource(0x1C),  //
                                         other(kBase + 0x02, Reason::kUnsupported),
                                         other(kBase + 0x09, Reason::kUnsupported),
                                         other(kBase + 0x0A, Reason::kUnsupported),
                                         other(kBase + 0x15, Reason::kHsmFailed),
                                         other(kBase + 0x19, Reason::kHsmFailed),
                                         // Of a maker's own, and nonsense.
                                         other(0x01010001, Reason::kHsmFailed),
                                         other(0xFFFFFFFF, Reason::kHsmFailed)));

TEST(SdfReturnTableTest, EachCodeOfTheStandardStandsInItOnce) {
  std::set<unsigned long> seen;
  for (const auto& info : all_sdf_return_infos()) {
    EXPECT_TRUE(seen.insert(info.value).second) << info.name;
    EXPECT_TRUE(info.name.starts_with("SDR_")) << info.name;
  }
  for (unsigned long number = 1; number <= 0x1F; ++number)
    EXPECT_TRUE(seen.contains(kBase + number)) << number;
}

}  // namespace
}  // namespace coffer::hsm

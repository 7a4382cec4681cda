// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_errors.h"

#include <gtest/gtest.h>

#include <set>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;

struct Expected {
  unsigned long value;
  ReturnClass kind;
  Reaction reaction;
  Reason reason;
};
void PrintTo(const Expected& expected, std::ostream* out) {
  *out << return_info(expected.value).name;
}

// The classes as docs and design state them, written out again: one test per value.
class ReturnValueTest : public testing::TestWithParam<Expected> {};

TEST_P(ReturnValueTest, HasTheClassReactionAndReasonThatItsFaultNeeds) {
  const auto info = return_info(GetParam().value);
  EXPECT_EQ(info.kind, GetParam().kind);
  EXPECT_EQ(info.reaction, GetParam().reaction);
  const auto error = fail_return(GetParam().value, "a step").value();
  EXPECT_EQ(error.reason(), GetParam().reason);
  EXPECT_NE(error.message().find("a step"), std::string::npos);
}

constexpr Expected session(unsigned long value) {
  return {value, ReturnClass::kSessionLost, Reaction::kReopenAndRepeat, Reason::kHsmFailed};
}
constexpr Expected token(unsigned long value) {
  return {value, ReturnClass::kTokenLost, Reaction::kReload, Reason::kHsmAbsent};
}
constexpr Expected pin(unsigned long value, Reason reason) {
  return {value, ReturnClass::kPin, Reaction::kStopLogin, reason};
}
constexpr Expected unclear(unsigned long value) {
  return {value, ReturnClass::kUnclear, Reaction::kProbeAndRepeat, Reason::kHsmFailed};
}
constexpr Expected resource(unsigned long value) {
  return {value, ReturnClass::kResource, Reaction::kBackOff, Reason::kHsmBusy};
}
constexpr Expected other(unsigned long value, Reason reason) {
  return {value, ReturnClass::kOther, Reaction::kFail, reason};
}

INSTANTIATE_TEST_SUITE_P(
    AllClasses, ReturnValueTest,
    testing::Values(session(0xB3), session(0xB0), session(0x101), session(0x60), session(0x82),
                    session(0xF0), session(0x113),                                   //
                    token(0x30), token(0x32), token(0xE0), token(0xE1), token(0x3),  //
                    token(0x190),                                                    //
                    pin(0xA0, Reason::kHsmPinIncorrect), pin(0xA1, Reason::kHsmPinIncorrect),
                    pin(0xA2, Reason::kHsmPinIncorrect), pin(0xA3, Reason::kHsmPinLocked),
                    pin(0xA4, Reason::kHsmPinLocked),                          //
                    unclear(0x5), unclear(0x6), unclear(0x40), unclear(0x41),  //
                    resource(0x31), resource(0x2), resource(0xB1),             //
                    other(0x70, Reason::kUnsupported), other(0x54, Reason::kUnsupported),
                    other(0x71, Reason::kHsmFailed), other(0x150, Reason::kHsmFailed),
                    other(0x90, Reason::kHsmFailed), other(0x68, Reason::kHsmFailed),
                    other(0x102, Reason::kHsmLoginNeeded), other(0x80000001, Reason::kHsmFailed)));

TEST(ReturnTableTest, EachValueStandsInItOnce) {
  std::set<unsigned long> seen;
  for (const auto& info : all_return_infos()) {
    EXPECT_TRUE(seen.insert(info.value).second) << info.name;
    EXPECT_TRUE(info.name.starts_with("CKR_")) << info.name;
  }
}

}  // namespace
}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_errors.h"

#include "tests/unit/hsm/expected_return.h"

namespace coffer::hsm {
namespace {

class ReturnValueTest : public testing::TestWithParam<Expected> {};

TEST_P(ReturnValueTest, HasTheClassReactionAndReasonThatItsFaultNeeds) {
  const auto value = GetParam().value;
  expect_return(GetParam(), return_info(value), fail_return(value, "a step").value());
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
  expect_each_once(all_return_infos(), "CKR_");
}

}  // namespace
}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/key_jobs.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"

namespace coffer::agent {
namespace {

const std::string kOurUuid = "CRYPT-LUKS2-0123-data";

DeviceIdentity device() {
  DeviceIdentity device;
  device.major = 252;
  device.minor = 16;
  return device;
}

Mapping whole_mapping() {
  Mapping mapping;
  mapping.name = "data";
  mapping.dm_uuid = kOurUuid;
  mapping.backing_major = 252;
  mapping.backing_minor = 16;
  return mapping;
}

Standing judged(const Result<Mapping>& found, const OneShotEnd& end) {
  return judge_standing(found, kOurUuid, device(), end);
}

const OneShotEnd& done() {
  static const OneShotEnd end{OneShotReply{}};
  return end;
}
const OneShotEnd& cut_off() {
  static const OneShotEnd end{fail(Reason::kTimedOut, "killed"), true};
  return end;
}

TEST(JudgeStandingTest, WhatTheProcessMadeIsOursAlsoWhenItWasKilledThen) {
  EXPECT_EQ(judged(whole_mapping(), done()), Standing::kOurs);
  EXPECT_EQ(judged(whole_mapping(), cut_off()), Standing::kOurs);
}

TEST(JudgeStandingTest, WhatStandsAfterAnyAnsweredErrorIsNotOurs) {
  for (const auto reason : {Reason::kAlreadyUnlocked, Reason::kWrongKey, Reason::kProfileMismatch,
                            Reason::kDeviceChanged, Reason::kActivationFailed, Reason::kBusy}) {
    const OneShotEnd refused{fail(reason, "made nothing")};
    EXPECT_EQ(judged(whole_mapping(), refused), Standing::kOthers) << reason_info(reason).name;
  }
}

TEST(JudgeStandingTest, HalfAMappingOrOneOverAnotherDeviceIsUnusable) {
  auto half = whole_mapping();
  half.state = MappingState::kNoTable;
  EXPECT_EQ(judged(half, cut_off()), Standing::kUnusable);
  auto elsewhere = whole_mapping();
  elsewhere.backing_minor = 17;
  EXPECT_EQ(judged(elsewhere, done()), Standing::kUnusable);
}

TEST(JudgeStandingTest, AnotherMappingOfTheNameIsNoneOfThisVolume) {
  auto other = whole_mapping();
  other.dm_uuid = "LVM-0123";
  EXPECT_EQ(judged(other, done()), Standing::kGone);
  EXPECT_EQ(judged(fail(Reason::kNotUnlocked, "none"), cut_off()), Standing::kGone);
}

TEST(JudgeStandingTest, NothingIsGoneThatCouldNotBeLookedAtOrMayStillBeMade) {
  for (const auto reason : {Reason::kUnsupported, Reason::kBusy, Reason::kActivationFailed}) {
    EXPECT_EQ(judged(fail(reason, "not seen"), cut_off()), Standing::kUnknown);
    EXPECT_EQ(judged(fail(reason, "not seen"), done()), Standing::kUnknown);
    const OneShotEnd refused{fail(Reason::kWrongKey, "made nothing")};
    EXPECT_EQ(judged(fail(reason, "not seen"), refused), Standing::kGone);
  }
  const OneShotEnd hanging{fail(Reason::kTimedOut, "it hangs in the kernel"), true, true};
  EXPECT_EQ(judged(fail(Reason::kNotUnlocked, "none"), hanging), Standing::kUnknown);
  EXPECT_EQ(judged(whole_mapping(), hanging), Standing::kOurs);
}

}  // namespace
}  // namespace coffer::agent

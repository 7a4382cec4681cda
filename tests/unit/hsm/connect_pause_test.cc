// SPDX-License-Identifier: Apache-2.0
#include "hsm/connect_pause.h"

#include <gtest/gtest.h>

#include "tests/fakes/hand_clock.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using std::chrono::milliseconds;
using tests::FailsWith;
using tests::Succeeds;

TEST(ConnectPauseTest, AfterAFailedAttemptItsErrorIsTheAnswerForAWhile) {
  tests::HandClock clock;
  ConnectPause pause(milliseconds(500), clock);
  EXPECT_THAT(pause.may_try(), Succeeds()) << "none was made";
  const auto begun = clock.steady();
  clock.now += milliseconds(100);
  pause.tried(begun, fail(Reason::kHsmPinLocked, "locked"));
  EXPECT_THAT(pause.may_try(), FailsWith(Reason::kHsmPinLocked));
  clock.now += milliseconds(399);
  EXPECT_THAT(pause.may_try(), FailsWith(Reason::kHsmPinLocked)) << "counted from its begin";
  clock.now += milliseconds(1);
  EXPECT_THAT(pause.may_try(), Succeeds());
  pause.tried(clock.steady(), fail(Reason::kHsmAbsent, "away"));
  EXPECT_THAT(pause.may_try(), FailsWith(Reason::kHsmAbsent)) << "the last one's";
  pause.tried(clock.steady(), {});
  EXPECT_THAT(pause.may_try(), Succeeds()) << "it went well";
}

TEST(ConnectPauseTest, FailuresAreCounted) {
  const tests::HandClock clock;
  ConnectPause pause(milliseconds(500), clock);
  pause.count_failure();
  pause.count_failure();
  EXPECT_EQ(pause.failures(), 2U);
}

}  // namespace
}  // namespace coffer::hsm

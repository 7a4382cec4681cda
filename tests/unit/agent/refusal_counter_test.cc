// SPDX-License-Identifier: Apache-2.0
#include "agent/refusal_counter.h"

#include <gtest/gtest.h>

namespace coffer::tests {
namespace {

using agent::RefusalCounter;

class RefusalCounterTest : public ::testing::Test {
 protected:
  // How many of `count` refusals are to be recorded in full.
  std::uint32_t refuse(std::uint32_t uid, std::uint32_t count) {
    agent::Caller caller;
    caller.uid = uid;
    std::uint32_t in_full = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
      const Error error(Reason::kAccessDenied, "refusal " + std::to_string(i + 1));
      if (counter.take({"volume.unlock", error, caller})) ++in_full;
    }
    return in_full;
  }

  RefusalCounter counter;
};

TEST_F(RefusalCounterTest, TheFirstOnesAreRecordedInFullAndTheRestCounted) {
  EXPECT_EQ(refuse(1000, 500), RefusalCounter::kInFullMax);
  const auto floods = counter.end_period();
  ASSERT_EQ(floods.size(), 1U);
  EXPECT_EQ(floods[0].count, 500 - RefusalCounter::kInFullMax);
  EXPECT_EQ(floods[0].last.caller.uid, 1000U);
  EXPECT_EQ(floods[0].last.error.message(), "refusal 500");
  EXPECT_FALSE(floods[0].many_users);
}

TEST_F(RefusalCounterTest, OneUsersFloodHidesNobodyElse) {
  refuse(1000, 500);
  EXPECT_EQ(refuse(1001, 3), 3U);
  const auto floods = counter.end_period();
  ASSERT_EQ(floods.size(), 1U);
  EXPECT_EQ(floods[0].last.caller.uid, 1000U);
}

TEST_F(RefusalCounterTest, EveryPeriodBeginsAnew) {
  refuse(1000, 500);
  counter.end_period();
  EXPECT_TRUE(counter.end_period().empty());
  EXPECT_EQ(refuse(1000, 1), 1U);
}

TEST_F(RefusalCounterTest, UsersBeyondTheLimitShareOneCount) {
  for (std::uint32_t uid = 0; uid < RefusalCounter::kUsersMax; ++uid) refuse(uid, 1);
  EXPECT_EQ(refuse(5000, 15) + refuse(5001, 15), RefusalCounter::kInFullMax);
  EXPECT_EQ(refuse(0, 2), 2U) << "who was told apart before still is";
  const auto floods = counter.end_period();
  ASSERT_EQ(floods.size(), 1U);
  EXPECT_EQ(floods[0].count, 10U);
  EXPECT_TRUE(floods[0].many_users);
}

}  // namespace
}  // namespace coffer::tests

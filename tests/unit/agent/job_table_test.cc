// SPDX-License-Identifier: Apache-2.0
#include "agent/job_table.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using agent::Caller;
using agent::JobId;
using agent::JobState;
using agent::JobTable;

class HandClock final : public Clock {
 public:
  WallTime wall() const override { return wall_from_usec(1); }
  SteadyTime steady() const override { return now; }
  std::chrono::microseconds since_boot() const override { return {}; }
  SteadyTime now{};
};

class JobTableTest : public ::testing::Test {
 protected:
  static Caller user(std::uint32_t uid) {
    Caller caller;
    caller.uid = uid;
    caller.bus_name = ":1.1";
    return caller;
  }
  JobId add(const std::vector<JobTable::Item>& items) {
    return jobs.add("unlock", items, user(0), true).value();
  }
  static Error error(Reason reason) { return {reason, "as the test asked"}; }

  HandClock clock;
  JobTable jobs{{.jobs_max = 4, .jobs_per_caller_max = 2, .items_max = 3, .ended_max = 2}, clock};
  JobTable::Item a{VolumeId::random().value(), "a"};
  JobTable::Item b{VolumeId::random().value(), "b"};
};

TEST_F(JobTableTest, AJobGoesFromQueuedToDone) {
  const JobId id = add({a, b});
  EXPECT_EQ(jobs.job(id)->state, JobState::kQueued);
  jobs.begin_item(id, a.volume);
  EXPECT_EQ(jobs.job(id)->state, JobState::kRunning);
  jobs.end_item(id, a.volume, {});
  EXPECT_EQ(jobs.job(id)->state, JobState::kRunning);
  jobs.end_item(id, b.volume, {});
  EXPECT_EQ(jobs.job(id)->state, JobState::kDone);
  EXPECT_FALSE(jobs.job(id)->cancelable);
}

TEST_F(JobTableTest, ItsEndIsExpectedByTheSpeedSoFar) {
  const JobId id = add({a, b, {VolumeId::random().value(), "c"}});
  EXPECT_EQ(jobs.job(id)->expected_end, WallTime{}) << "nothing is done yet";
  clock.now += std::chrono::seconds(4);
  jobs.end_item(id, a.volume, {});
  EXPECT_EQ(jobs.job(id)->expected_end, clock.wall() + std::chrono::seconds(8));
  clock.now += std::chrono::seconds(2);
  jobs.end_item(id, b.volume, {});
  EXPECT_EQ(jobs.job(id)->expected_end, clock.wall() + std::chrono::seconds(3));
  jobs.end_item(id, jobs.job_items(id)->back().volume, {});
  EXPECT_EQ(jobs.job(id)->expected_end, WallTime{});
}

TEST_F(JobTableTest, OneFailureMakesItPartialAndAllMakeItFailed) {
  const JobId partial = add({a, b});
  jobs.end_item(partial, a.volume, {});
  jobs.end_item(partial, b.volume, JobTable::Outcome::failed(error(Reason::kBusy)));
  EXPECT_EQ(jobs.job(partial)->state, JobState::kPartial);
  EXPECT_EQ(jobs.job(partial)->failed, 1U);

  const JobId failed = add({a});
  jobs.end_item(failed, a.volume, JobTable::Outcome::failed(error(Reason::kBusy)));
  EXPECT_EQ(jobs.job(failed)->state, JobState::kFailed);
  EXPECT_EQ(jobs.job(failed)->message, "Busy: as the test asked");

  const JobId late = add({a});
  jobs.end_item(late, a.volume, JobTable::Outcome::failed(error(Reason::kTimedOut)));
  EXPECT_EQ(jobs.job(late)->state, JobState::kTimedOut);
}

TEST_F(JobTableTest, AnItemEndsOnce) {
  const JobId id = add({a, b});
  jobs.end_item(id, a.volume, {});
  jobs.end_item(id, a.volume, JobTable::Outcome::failed(error(Reason::kBusy)));
  EXPECT_EQ(jobs.job(id)->done, 1U);
  EXPECT_EQ(jobs.job_items(id)->front().result, "done");
}

TEST_F(JobTableTest, CancelEndsWhatWasNotBegun) {
  const JobId id = add({a, b});
  jobs.begin_item(id, a.volume);
  EXPECT_EQ(jobs.cancel(id).value(), std::vector<VolumeId>{b.volume});
  EXPECT_EQ(jobs.job(id)->state, JobState::kRunning);
  jobs.end_item(id, a.volume, {});
  EXPECT_EQ(jobs.job(id)->state, JobState::kCancelled);
  EXPECT_THAT(jobs.cancel(999), FailsWith(Reason::kNoSuchJob));
}

TEST_F(JobTableTest, LimitsHoldForCallersAndNotForTheAgentItself) {
  EXPECT_THAT(jobs.add("x", {a, b, a, b}, user(0), true), FailsWith(Reason::kLimitsExceeded));
  ASSERT_THAT(jobs.add("x", {a}, user(7), true), Succeeds());
  ASSERT_THAT(jobs.add("x", {a}, user(7), true), Succeeds());
  EXPECT_THAT(jobs.add("x", {a}, user(7), true), FailsWith(Reason::kLimitsExceeded));
  ASSERT_THAT(jobs.add("x", {a}, user(8), true), Succeeds());
  ASSERT_THAT(jobs.add("x", {a}, user(0), true), Succeeds());
  EXPECT_THAT(jobs.add("x", {a}, user(0), true), FailsWith(Reason::kLimitsExceeded));
  EXPECT_THAT(jobs.add("x", {a}, Caller{}, true), Succeeds());
}

TEST_F(JobTableTest, AnEndedJobStaysForAMinute) {
  const JobId id = add({a});
  jobs.end_item(id, a.volume, {});
  clock.now += std::chrono::seconds(59);
  jobs.expire();
  EXPECT_THAT(jobs.job(id), Succeeds());
  clock.now += std::chrono::seconds(1);
  jobs.expire();
  EXPECT_THAT(jobs.job(id), FailsWith(Reason::kNoSuchJob));
  EXPECT_THAT(jobs.job_items(id), FailsWith(Reason::kNoSuchJob));
}

TEST_F(JobTableTest, TheOldestOfTooManyEndedJobsGoesEarly) {
  const JobId first = add({a});
  jobs.end_item(first, a.volume, {});
  for (int i = 0; i < 2; ++i) jobs.end_item(add({a}), a.volume, {});
  EXPECT_EQ(jobs.jobs().size(), 2U);
  EXPECT_THAT(jobs.job(first), FailsWith(Reason::kNoSuchJob));
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/worker_pool.h"

#include <atomic>
#include <chrono>
#include <future>
#include <latch>
#include <vector>

#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using ipc::WorkerPool;

TEST(WorkerPoolTest, RunsEverythingItTookBeforeItStops) {
  std::atomic<int> done{0};
  WorkerPool pool({.threads = 3, .queue_max = 1000});
  for (int i = 0; i < 500; ++i) ASSERT_THAT(pool.submit([&] { ++done; }), Succeeds());
  pool.stop();
  EXPECT_EQ(done, 500);
  EXPECT_THAT(pool.submit([] {}), FailsWith(Reason::kCancelled));
  pool.stop();
}

TEST(WorkerPoolTest, FullQueueRefuses) {
  std::latch running(1);
  std::latch go(1);
  WorkerPool pool({.threads = 1, .queue_max = 2});
  ASSERT_THAT(pool.submit([&] {
    running.count_down();
    go.wait();
  }),
              Succeeds());
  running.wait();
  EXPECT_THAT(pool.submit([] {}), Succeeds());
  EXPECT_THAT(pool.submit([] {}), Succeeds());
  EXPECT_EQ(pool.waiting(), 2U);
  EXPECT_THAT(pool.submit([] {}), FailsWith(Reason::kLimitsExceeded));
  go.count_down();
}

TEST(WorkerPoolTest, OneThreadKeepsTheOrder) {
  std::vector<int> order;
  WorkerPool pool({.threads = 1, .queue_max = 100});
  for (int i = 0; i < 50; ++i) ASSERT_THAT(pool.submit([&, i] { order.push_back(i); }), Succeeds());
  pool.stop();
  ASSERT_EQ(order.size(), 50U);
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
}

TEST(WorkerPoolTest, WhatIsLeftIsDoneByWhoeverTakesIt) {
  std::vector<int> order;
  WorkerPool pool({.threads = 1, .queue_max = 3});
  EXPECT_FALSE(pool.oldest_left());
  EXPECT_FALSE(pool.run_one());
  // Its thread may not have begun to wait, and then takes the first itself.
  std::latch running(1);
  std::latch go(1);
  ASSERT_THAT(pool.submit([&] {
    running.count_down();
    go.wait();
  }),
              Succeeds());
  running.wait();
  for (int i = 0; i < 3; ++i) ASSERT_THAT(pool.leave([&, i] { order.push_back(i); }), Succeeds());
  EXPECT_THAT(pool.leave([] {}), FailsWith(Reason::kLimitsExceeded));
  const auto left = pool.oldest_left();
  ASSERT_TRUE(left);
  EXPECT_LE(*left, std::chrono::steady_clock::now());
  EXPECT_TRUE(pool.run_one());
  EXPECT_EQ(order, std::vector<int>({0}));
  EXPECT_GE(*pool.oldest_left(), *left);
  pool.wake_up();
  EXPECT_FALSE(pool.oldest_left()) << "a thread takes them";
  go.count_down();
  pool.stop();
  EXPECT_EQ(order, std::vector<int>({0, 1, 2}));
}

TEST(WorkerPoolTest, WhatIsLeftIsTakenByAThreadThatIsWoken) {
  WorkerPool pool({.threads = 1, .queue_max = 10});
  std::promise<void> done;
  ASSERT_THAT(pool.leave([&] { done.set_value(); }), Succeeds());
  ASSERT_THAT(pool.submit([] {}), Succeeds());
  EXPECT_EQ(done.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(WorkerPoolTest, TasksMayOwnWhatOnlyMoves) {
  int seen = 0;
  WorkerPool pool({.threads = 1, .queue_max = 1});
  ASSERT_THAT(pool.submit([&, value = std::make_unique<int>(7)] { seen = *value; }), Succeeds());
  pool.stop();
  EXPECT_EQ(seen, 7);
}

}  // namespace
}  // namespace coffer::tests

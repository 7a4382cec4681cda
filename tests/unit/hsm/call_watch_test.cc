// SPDX-License-Identifier: Apache-2.0
#include "hsm/call_watch.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <vector>

namespace coffer::hsm {
namespace {

using std::chrono::milliseconds;

TEST(CallWatchTest, CallThatDoesNotComeBackIsNoticed) {
  std::promise<void> noticed;
  CallWatch watch(milliseconds(20), [&] { noticed.set_value(); });
  const CallWatch::Guard stuck(&watch);

  EXPECT_EQ(noticed.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(CallWatchTest, StuckCallIsNoticedAmongOthersThatGoOn) {
  std::promise<void> noticed;
  CallWatch watch(milliseconds(20), [&] { noticed.set_value(); });
  const CallWatch::Guard stuck(&watch);
  auto done = noticed.get_future();
  while (done.wait_for(milliseconds(0)) != std::future_status::ready) {
    const CallWatch::Guard quick(&watch);
  }
}

TEST(CallWatchTest, LongCallHasItsOwnTimeAndNoMore) {
  std::promise<void> noticed;
  CallWatch watch(milliseconds(20), [&] { noticed.set_value(); });
  const CallWatch::Guard slow(&watch, 50);
  auto done = noticed.get_future();
  EXPECT_EQ(done.wait_for(milliseconds(300)), std::future_status::timeout);
  EXPECT_EQ(done.wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(CallWatchTest, StuckCallIsNoticedBesideALongOne) {
  std::promise<void> noticed;
  CallWatch watch(milliseconds(20), [&] { noticed.set_value(); });
  const CallWatch::Guard slow(&watch, 1'000'000);
  auto done = noticed.get_future();
  EXPECT_EQ(done.wait_for(milliseconds(100)), std::future_status::timeout);
  const CallWatch::Guard stuck(&watch);
  EXPECT_EQ(done.wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(CallWatchTest, CallsThatComeBackAreNotNoticed) {
  bool noticed = false;
  {
    CallWatch watch(std::chrono::hours(1), [&] { noticed = true; });
    for (int i = 0; i < 1000; ++i) const CallWatch::Guard quick(&watch);
    const CallWatch::Guard unwatched(nullptr);
  }
  EXPECT_FALSE(noticed);
}

TEST(CallWatchTest, CallsBeyondTheMostWaitForOneToEnd) {
  CallWatch watch(std::chrono::hours(1), [] {});
  std::vector<std::unique_ptr<CallWatch::Guard>> calls;
  while (calls.size() < CallWatch::kCallsMax) {
    calls.push_back(std::make_unique<CallWatch::Guard>(&watch));
  }
  std::atomic<bool> begun = false;
  auto another = std::async(std::launch::async, [&] {
    const CallWatch::Guard call(&watch);
    begun = true;
  });
  EXPECT_EQ(another.wait_for(milliseconds(50)), std::future_status::timeout);
  EXPECT_FALSE(begun);
  calls.pop_back();
  EXPECT_EQ(another.wait_for(std::chrono::seconds(10)), std::future_status::ready);
}

TEST(CallWatchTest, StuckCallOfAnotherThreadIsNoticedAfterARest) {
  std::promise<void> noticed;
  CallWatch watch(milliseconds(20), [&] { noticed.set_value(); });
  {
    const CallWatch::Guard first(&watch);
  }
  std::promise<void> over;
  auto stuck = std::async(std::launch::async, [&] {
    const CallWatch::Guard call(&watch);
    over.get_future().wait();
  });
  EXPECT_EQ(noticed.get_future().wait_for(std::chrono::seconds(10)), std::future_status::ready);
  over.set_value();
}

}  // namespace
}  // namespace coffer::hsm

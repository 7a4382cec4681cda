// SPDX-License-Identifier: Apache-2.0
#include "hsm/call_watch.h"

#include <gtest/gtest.h>

#include <future>
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

TEST(CallWatchTest, CallsThatComeBackAreNotNoticed) {
  bool noticed = false;
  {
    CallWatch watch(std::chrono::hours(1), [&] { noticed = true; });
    for (int i = 0; i < 1000; ++i) const CallWatch::Guard quick(&watch);
    const CallWatch::Guard unwatched(nullptr);
  }
  EXPECT_FALSE(noticed);
}

}  // namespace
}  // namespace coffer::hsm

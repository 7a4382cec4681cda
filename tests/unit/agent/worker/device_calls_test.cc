// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/device_calls.h"

#include <gtest/gtest.h>

#include <atomic>

namespace coffer::agent {
namespace {

TEST(DeviceCallsTest, WithoutTimeNothingBeginsAndNoDeviceCountsAsHanging) {
  DeviceCalls calls;
  const auto made = std::make_shared<std::atomic<int>>(0);
  const DeviceCalls::Call call{1, [made] { ++*made; }};
  const auto none = calls.make({call, call}, Deadline::after(std::chrono::milliseconds(0)));
  EXPECT_EQ(none, std::vector(2, DeviceCalls::End::kNotBegun));
  EXPECT_EQ(*made, 0);
  EXPECT_EQ(calls.hanging(), 0U);

  const auto both = calls.make({call, call}, Deadline::after(std::chrono::seconds(30)));
  EXPECT_EQ(both, std::vector(2, DeviceCalls::End::kDone));
  EXPECT_EQ(*made, 2);
}

}  // namespace
}  // namespace coffer::agent

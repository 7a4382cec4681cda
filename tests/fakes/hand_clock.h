// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>

#include "core/base/clock.h"

namespace coffer::tests {

// HandClock's steady time stands still until a test moves it; the others are the machine's.
class HandClock final : public Clock {
 public:
  WallTime wall() const override { return system_clock().wall(); }
  SteadyTime steady() const override { return now; }
  std::chrono::microseconds since_boot() const override { return system_clock().since_boot(); }

  SteadyTime now{};
};

}  // namespace coffer::tests

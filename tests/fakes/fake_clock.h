// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>

#include "core/base/clock.h"

namespace coffer::tests {

// FakeClock's wall time stands still until a test turns it; deadlines go by the machine's clock.
// Thread-safe.
class FakeClock final : public Clock {
 public:
  WallTime wall() const override { return wall_from_usec(wall_usec_); }
  SteadyTime steady() const override { return system_clock().steady(); }
  std::chrono::microseconds since_boot() const override { return system_clock().since_boot(); }

  void advance(std::chrono::microseconds time) {
    wall_usec_ += static_cast<std::uint64_t>(time.count());
  }

 private:
  std::atomic<std::uint64_t> wall_usec_{1'800'000'000'000'000};  // 2027
};

}  // namespace coffer::tests

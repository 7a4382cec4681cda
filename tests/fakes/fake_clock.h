// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>

#include "core/base/clock.h"

namespace coffer::tests {

// FakeClock's wall time stands still until a test turns it; the others go by the machine's clock,
// and run on when a test lets time pass. Thread-safe.
class FakeClock final : public Clock {
 public:
  WallTime wall() const override { return wall_from_usec(wall_usec_); }
  SteadyTime steady() const override {
    return system_clock().steady() + std::chrono::microseconds(passed_usec_);
  }
  std::chrono::microseconds since_boot() const override {
    return system_clock().since_boot() + std::chrono::microseconds(passed_usec_);
  }

  // Time passes.
  void advance(std::chrono::microseconds time) {
    jump(time);
    passed_usec_ += time.count();
  }
  // Somebody sets the wall clock, to a later time or an earlier one.
  void jump(std::chrono::microseconds by) { wall_usec_ += static_cast<std::uint64_t>(by.count()); }

 private:
  std::atomic<std::uint64_t> wall_usec_{1'800'000'000'000'000};  // 2027
  std::atomic<std::int64_t> passed_usec_{0};
};

}  // namespace coffer::tests

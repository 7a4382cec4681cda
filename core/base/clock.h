// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

namespace coffer {

using SteadyTime = std::chrono::steady_clock::time_point;
using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::microseconds>;

// Clock is where timestamps and deadlines come from, so that tests can turn it. Thread-safe.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual WallTime wall() const = 0;      // For records and people.
  virtual SteadyTime steady() const = 0;  // For deadlines.
  virtual std::chrono::microseconds since_boot()
      const = 0;  // CLOCK_BOOTTIME: counts suspended time.
};

// The machine's clocks.
const Clock& system_clock();

inline std::uint64_t usec(WallTime time) {
  return static_cast<std::uint64_t>(time.time_since_epoch().count());
}
inline WallTime wall_from_usec(std::uint64_t usec) {
  return WallTime(std::chrono::microseconds(static_cast<std::int64_t>(usec)));
}

// Deadline is a point on the steady clock by which a wait ends.
class Deadline {
 public:
  explicit Deadline(SteadyTime at) noexcept : at_(at) {}
  static Deadline after(std::chrono::milliseconds wait, const Clock& clock = system_clock()) {
    return Deadline(clock.steady() + wait);
  }
  SteadyTime at() const noexcept { return at_; }
  bool passed(const Clock& clock = system_clock()) const { return clock.steady() >= at_; }
  // What is left, at least zero: for poll(2).
  std::chrono::milliseconds left(const Clock& clock = system_clock()) const;

 private:
  SteadyTime at_;
};

}  // namespace coffer

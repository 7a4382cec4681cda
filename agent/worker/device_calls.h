// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/clock.h"

namespace coffer::agent {

// DeviceCalls makes system calls that may hang in the kernel, such as open(2) of a disk that does
// not answer, several at once, and comes back by a deadline whatever the disks do. A call that
// hangs keeps its thread, and its device is left alone until it has come back: a bad disk costs one
// thread and its own result.
//
// Thread-safe. It may end before its hanging calls do.
class DeviceCalls {
 public:
  static constexpr std::size_t kThreads = 8;      // Of one make(), beside those that hang.
  static constexpr std::size_t kHangingMax = 64;  // Calls, of all.

  // What `make` writes to must live as long as `make` itself: it may run, and be destroyed, long
  // after DeviceCalls::make() has returned, on its own thread.
  struct Call {
    std::uint64_t device = 0;  // Calls of one device have one number. 0: never the same.
    std::function<void()> make;
  };
  enum class End : std::uint8_t {
    kDone = 1,
    kHangs = 2,    // It, or an earlier one of its device, has not come back.
    kNotBegun = 3  // No time or no thread was left for it.
  };

  DeviceCalls();

  // Makes each call once. Only of those that are kDone may the results be looked at.
  std::vector<End> make(std::vector<Call> calls, Deadline deadline);

  std::size_t hanging() const;

 private:
  struct Hanging;
  struct Batch;

  static bool start_thread(const std::shared_ptr<Batch>& batch);
  static void work(Batch& batch);

  std::shared_ptr<Hanging> hanging_;  // Shared with the threads of calls that hang.
};

}  // namespace coffer::agent

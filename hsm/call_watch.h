// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <functional>
#include <mutex>
#include <thread>

#include "core/base/clock.h"

namespace coffer::hsm {

// CallWatch notices a call that does not come back: a thread stuck inside somebody's PKCS#11 module
// can neither be cancelled nor left behind. `on_hang` runs on the watch's thread, once; the vault
// process ends itself there, and systemd starts a new one.
//
// Thread-safe. Costs a call a look at the clock and two writes, no lock, and wakes its thread at
// most once per deadline, so a call is noticed up to one deadline late. Of more than kCallsMax
// calls at once, those beyond wait for one to end.
class CallWatch {
 public:
  CallWatch(std::chrono::milliseconds deadline, std::function<void()> on_hang);
  ~CallWatch();
  static constexpr std::size_t kCallsMax = 256;
  CallWatch(const CallWatch&) = delete;
  CallWatch& operator=(const CallWatch&) = delete;

  // While it exists, a call is under way, which has so many deadlines of time.
  class Guard {
   public:
    // Null: nothing is watched.
    explicit Guard(CallWatch* watch, unsigned deadlines = 1);
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    std::atomic<SteadyTime::rep>* end_ = nullptr;
  };

 private:
  // By when a call must be back, as the steady clock counts; 0: free.
  struct alignas(64) Slot {  // Threads do not share a cache line.
    std::atomic<SteadyTime::rep> end{0};
  };

  std::atomic<SteadyTime::rep>& begin(unsigned deadlines);
  void wake();
  void watch();
  SteadyTime::rep earliest() const;

  const std::chrono::milliseconds deadline_;
  const std::function<void()> on_hang_;

  std::array<Slot, kCallsMax> slots_;
  std::atomic<bool> resting_{false};  // The thread waits for a call to begin.

  std::mutex mutex_;  // Guards what follows.
  std::condition_variable changed_;
  bool stopping_ = false;

  std::thread thread_;  // Last: it starts when all else is there.
};

}  // namespace coffer::hsm

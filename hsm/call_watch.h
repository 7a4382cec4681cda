// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <list>
#include <mutex>
#include <thread>

#include "core/base/clock.h"

namespace coffer::hsm {

// CallWatch notices a call that does not come back: a thread stuck inside somebody's PKCS#11 module
// can neither be cancelled nor left behind. `on_hang` runs on the watch's thread, once; the vault
// process ends itself there, and systemd starts a new one.
//
// Thread-safe. Costs a call an uncontended lock, and wakes its thread at most once per deadline.
class CallWatch {
 public:
  CallWatch(std::chrono::milliseconds deadline, std::function<void()> on_hang);
  ~CallWatch();
  CallWatch(const CallWatch&) = delete;
  CallWatch& operator=(const CallWatch&) = delete;

  // While it exists, a call is under way.
  class Guard {
   public:
    explicit Guard(CallWatch* watch);  // Null: nothing is watched.
    ~Guard();
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;

   private:
    CallWatch* watch_;
    std::list<SteadyTime>::iterator entry_;
  };

 private:
  void watch();

  const std::chrono::milliseconds deadline_;
  const std::function<void()> on_hang_;

  std::mutex mutex_;  // Guards what follows.
  std::condition_variable changed_;
  std::list<SteadyTime>
      ends_;  // By when each call must be back: in order, as all have one deadline.
  std::list<SteadyTime> spare_;  // Entries for calls to come, so that few are ever allocated.
  bool idle_ = true;             // The thread waits for a call to begin.
  bool stopping_ = false;

  std::thread thread_;  // Last: it starts when all else is there.
};

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "hsm/call_watch.h"

#include <algorithm>

namespace coffer::hsm {

CallWatch::CallWatch(std::chrono::milliseconds deadline, std::function<void()> on_hang)
    : deadline_(deadline), on_hang_(std::move(on_hang)), thread_([this] { watch(); }) {}

CallWatch::~CallWatch() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

std::atomic<SteadyTime::rep>& CallWatch::begin(unsigned deadlines) {
  static std::atomic<std::size_t> threads{0};
  // Each thread begins its search elsewhere, and mostly finds its own slot free.
  thread_local const std::size_t kFirst = threads.fetch_add(1, std::memory_order_relaxed);
  const auto end =
      (std::chrono::steady_clock::now() + deadlines * deadline_).time_since_epoch().count();
  for (std::size_t i = kFirst;; ++i) {
    auto& slot = slots_[i % slots_.size()].end;
    SteadyTime::rep free = 0;
    if (slot.compare_exchange_strong(free, end)) return slot;
    if (i - kFirst >= slots_.size()) std::this_thread::yield();
  }
}

void CallWatch::wake() {
  {
    const std::scoped_lock lock(mutex_);
    resting_ = false;
  }
  changed_.notify_all();
}

CallWatch::Guard::Guard(CallWatch* watch, unsigned deadlines) {
  if (watch == nullptr) return;
  end_ = &watch->begin(deadlines);
  // Written before this is read; the thread says that it rests before it looks at the slots.
  if (watch->resting_) watch->wake();
}

CallWatch::Guard::~Guard() {
  if (end_ != nullptr) end_->store(0, std::memory_order_release);
}

SteadyTime::rep CallWatch::earliest() const {
  SteadyTime::rep earliest = 0;
  for (const auto& slot : slots_) {
    const auto end = slot.end.load();
    if (end != 0 && (earliest == 0 || end < earliest)) earliest = end;
  }
  return earliest;
}

void CallWatch::watch() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    const SteadyTime end{SteadyTime::duration(earliest())};
    if (end == SteadyTime{}) {
      // No call now. One may begin and end many times before a whole deadline has passed, so the
      // thread looks again then, and rests only when nothing at all happened meanwhile.
      resting_ = true;
      changed_.wait(lock, [this] { return stopping_ || !resting_ || earliest() != 0; });
      resting_ = false;
      if (stopping_) return;
      changed_.wait_for(lock, deadline_, [this] { return stopping_; });
      continue;
    }
    if (std::chrono::steady_clock::now() >= end) {
      lock.unlock();
      on_hang_();
      return;
    }
    // One that begins meanwhile may have less time than this.
    const auto look = std::min<SteadyTime>(end, std::chrono::steady_clock::now() + deadline_);
    changed_.wait_until(lock, look, [this] { return stopping_; });
  }
}

}  // namespace coffer::hsm

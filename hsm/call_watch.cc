// SPDX-License-Identifier: Apache-2.0
#include "hsm/call_watch.h"

#include <utility>

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

CallWatch::Guard::Guard(CallWatch* watch) : watch_(watch) {
  if (watch_ == nullptr) return;
  bool wake = false;
  {
    const std::scoped_lock lock(watch_->mutex_);
    auto& spare = watch_->spare_;
    if (spare.empty()) spare.emplace_back();
    entry_ = spare.begin();
    *entry_ = std::chrono::steady_clock::now() + watch_->deadline_;
    watch_->ends_.splice(watch_->ends_.end(), spare, entry_);
    wake = std::exchange(watch_->idle_, false);
  }
  if (wake) watch_->changed_.notify_all();
}

CallWatch::Guard::~Guard() {
  if (watch_ == nullptr) return;
  const std::scoped_lock lock(watch_->mutex_);
  watch_->spare_.splice(watch_->spare_.begin(), watch_->ends_, entry_);
}

void CallWatch::watch() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    if (ends_.empty()) {
      // No call now. One may begin and end many times before a whole deadline has passed, so the
      // thread looks again then, and rests only when nothing at all happened meanwhile.
      idle_ = true;
      changed_.wait(lock, [this] { return stopping_ || !idle_; });
      if (stopping_) return;
      changed_.wait_for(lock, deadline_, [this] { return stopping_; });
      continue;
    }
    const auto end = ends_.front();
    if (std::chrono::steady_clock::now() >= end) {
      lock.unlock();
      on_hang_();
      return;
    }
    changed_.wait_until(lock, end, [this] { return stopping_; });
  }
}

}  // namespace coffer::hsm

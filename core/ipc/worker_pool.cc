// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/worker_pool.h"

#include <algorithm>
#include <chrono>

namespace coffer::ipc {

WorkerPool::WorkerPool(const Options& options) : queue_max_(options.queue_max) {
  threads_.reserve(options.threads);
  for (std::size_t i = 0; i < options.threads; ++i) threads_.emplace_back([this] { work(); });
}

Result<void> WorkerPool::push(Task task, bool left) {
  const std::scoped_lock lock(mutex_);
  if (stopping_) return fail(Reason::kCancelled, "the worker pool is stopping");
  if (queue_.size() >= queue_max_) {
    return fail(Reason::kLimitsExceeded, std::to_string(queue_max_) + " tasks wait already");
  }
  queue_.emplace_back(std::move(task), std::chrono::steady_clock::now());
  if (left) ++left_;
  return {};
}

Result<void> WorkerPool::submit(Task task) {
  if (auto taken = push(std::move(task), false); !taken) return taken;
  // Those that were left stand before it.
  if (oldest_left()) {
    wake_up();
  } else {
    changed_.notify_one();
  }
  return {};
}

Result<void> WorkerPool::leave(Task task) {
  return push(std::move(task), true);
}

void WorkerPool::wake_up() {
  {
    const std::scoped_lock lock(mutex_);
    left_ = 0;
  }
  changed_.notify_all();
}

std::optional<SteadyTime> WorkerPool::oldest_left() const {
  const std::scoped_lock lock(mutex_);
  if (left_ == 0) return std::nullopt;
  return queue_[queue_.size() - left_].second;
}

// The caller holds mutex_, and one waits.
Task WorkerPool::pop() {
  Task task = std::move(queue_.front().first);
  queue_.pop_front();
  left_ = std::min(left_, queue_.size());
  return task;
}

bool WorkerPool::run_one() {
  Task task;
  {
    const std::scoped_lock lock(mutex_);
    if (queue_.empty()) return false;
    task = pop();
  }
  task();
  return true;
}

void WorkerPool::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  for (auto& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

std::size_t WorkerPool::waiting() const {
  const std::scoped_lock lock(mutex_);
  return queue_.size();
}

void WorkerPool::work() {
  for (;;) {
    Task task;
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return stopping_ || !queue_.empty(); });
      if (queue_.empty()) return;
      task = pop();
    }
    task();
  }
}

}  // namespace coffer::ipc

// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/worker_pool.h"

namespace coffer::ipc {

WorkerPool::WorkerPool(const Options& options) : queue_max_(options.queue_max) {
  threads_.reserve(options.threads);
  for (std::size_t i = 0; i < options.threads; ++i) threads_.emplace_back([this] { work(); });
}

Result<void> WorkerPool::submit(Task task) {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return fail(Reason::kCancelled, "the worker pool is stopping");
    if (queue_.size() >= queue_max_) {
      return fail(Reason::kLimitsExceeded, std::to_string(queue_max_) + " tasks wait already");
    }
    queue_.push_back(std::move(task));
  }
  changed_.notify_one();
  return {};
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
      task = std::move(queue_.front());
      queue_.pop_front();
    }
    task();
  }
}

}  // namespace coffer::ipc

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include "core/base/result.h"
#include "core/ipc/task.h"

namespace coffer::ipc {

// WorkerPool runs what may block beside the event loop, on a fixed number of threads with a bounded
// queue. Tasks start in the order of submit(). A task must not throw.
//
// Thread-safe; stop() and the destructor must not be called by a task.
class WorkerPool {
 public:
  struct Options {
    std::size_t threads = 4;
    std::size_t queue_max = 1024;  // Tasks that wait, without those that run.
  };

  explicit WorkerPool(const Options& options);
  ~WorkerPool() { stop(); }
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  //   kLimitsExceeded  the queue is full; nothing was taken.
  //   kCancelled       the pool is stopping.
  Result<void> submit(Task task);

  // Takes no more, runs what was taken to its end, joins the threads. May be called again.
  void stop();

  std::size_t waiting() const;

 private:
  void work();

  const std::size_t queue_max_;
  mutable std::mutex mutex_;  // Guards queue_ and stopping_.
  std::condition_variable changed_;
  std::deque<Task> queue_;
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace coffer::ipc

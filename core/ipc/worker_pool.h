// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/clock.h"
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
  // The same without waking a thread for it: whoever will soon call run_one() does it, or else a
  // thread that is woken by wake_up() or submit().
  Result<void> leave(Task task);
  void wake_up();
  // When the first of those was left that no thread was woken for.
  std::optional<SteadyTime> oldest_left() const;

  // Runs the first task that waits, on the calling thread. False: none does.
  bool run_one();

  // Takes no more, runs what was taken to its end, joins the threads. May be called again.
  void stop();

  std::size_t waiting() const;

 private:
  void work();
  Result<void> push(Task task, bool left);
  Task pop();

  const std::size_t queue_max_;
  mutable std::mutex mutex_;  // Guards queue_, left_ and stopping_.
  std::condition_variable changed_;
  std::deque<std::pair<Task, SteadyTime>> queue_;  // When each was taken in.
  std::size_t left_ = 0;  // The last of them, which no thread was woken for.
  bool stopping_ = false;
  std::vector<std::thread> threads_;
};

}  // namespace coffer::ipc

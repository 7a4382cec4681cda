// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <memory>
#include <string_view>

#include "core/base/result.h"
#include "core/ipc/task.h"

struct sd_event;
struct sd_event_source;

namespace coffer::ipc {

// Something the loop waits for. Destroying it stops that; its function is not called afterwards. On
// the loop's thread alone, and before the loop is destroyed.
class EventSource {
 public:
  EventSource() noexcept;
  EventSource(EventSource&&) noexcept;
  EventSource& operator=(EventSource&&) noexcept;
  EventSource(const EventSource&) = delete;
  EventSource& operator=(const EventSource&) = delete;
  ~EventSource();

  bool active() const noexcept { return state_ != nullptr; }

 private:
  friend class EventLoop;
  struct State;
  explicit EventSource(std::unique_ptr<State> state) noexcept;
  std::unique_ptr<State> state_;
};

// EventLoop is the one loop of a process (sd-event): timers, fds, signals, and functions posted
// from other threads. Nothing that runs on it blocks. Functions must not throw.
//
// It belongs to the thread that made it; only post(), exit() and on_loop_thread() may be called
// from others.
class EventLoop {
 public:
  static Result<std::unique_ptr<EventLoop>> make();
  ~EventLoop();  // Functions posted and not yet run are dropped.
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Runs until exit(), then gives its code.
  Result<int> run();
  // Runs what is due, waiting at most `wait`: for tests. False once exit() was called.
  Result<bool> run_once(std::chrono::milliseconds wait);

  // Ends run() after what is posted has run. From any thread.
  void exit(int code);

  // Runs `task` on the loop, in the order posted. From any thread; dropped once the loop is gone.
  //   kLimitsExceeded  kPostedMax tasks wait.
  Result<void> post(Task task);
  static constexpr std::size_t kPostedMax = 65536;

  bool on_loop_thread() const noexcept;

  // Calls `function` once after `wait`; or every `interval`.
  Result<EventSource> after(std::chrono::microseconds wait, std::function<void()> function);
  Result<EventSource> every(std::chrono::microseconds interval, std::function<void()> function);

  // Calls `function` whenever `fd` has one of `epoll_events` (EPOLLIN, …). The fd stays the
  // caller's and must outlive the source.
  Result<EventSource> watch(int fd, std::uint32_t epoll_events,
                            std::function<void(std::uint32_t)> function);

  // Calls `function` when the signal comes. It must be blocked: block_signals() before any thread
  // starts, so that all threads inherit it.
  Result<EventSource> on_signal(int signal_number, std::function<void()> function);
  static Result<void> block_signals(std::initializer_list<int> signal_numbers);

  // Answers systemd's watchdog while the loop runs, if the unit has one.
  Result<void> keep_watchdog();

  // For sd-bus and sd-device, which attach themselves.
  sd_event* handle() const noexcept;

 private:
  struct Impl;
  explicit EventLoop(std::unique_ptr<Impl> impl) noexcept;
  std::unique_ptr<Impl> impl_;
};

// A class that is bound to the loop calls this first in each of its functions.
void assert_on_loop(const EventLoop& loop) noexcept;

// Tell systemd; nothing happens outside a unit. The text of the status is for `systemctl status`.
void notify_ready() noexcept;
void notify_stopping() noexcept;
void notify_status(std::string_view text) noexcept;

}  // namespace coffer::ipc

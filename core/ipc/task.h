// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <type_traits>
#include <utility>

namespace coffer::ipc {

// Task is a function without arguments that is called once, on another thread. Unlike std::function
// it can own what only moves: fds, secrets, replies.
class Task {
 public:
  Task() = default;
  template <class Function>
    requires(!std::is_same_v<std::remove_cvref_t<Function>, Task>)
  // NOLINTNEXTLINE(google-explicit-constructor): a lambda is a task.
  Task(Function&& function)
      : body_(std::make_unique<Body<std::remove_cvref_t<Function>>>(
            std::forward<Function>(function))) {}

  void operator()() { body_->run(); }
  explicit operator bool() const noexcept { return body_ != nullptr; }

 private:
  struct Runnable {
    virtual ~Runnable() = default;
    virtual void run() = 0;
  };
  template <class Function>
  struct Body final : Runnable {
    explicit Body(Function function) : function_(std::move(function)) {}
    void run() override { function_(); }
    Function function_;
  };

  std::unique_ptr<Runnable> body_;
};

}  // namespace coffer::ipc

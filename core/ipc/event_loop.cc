// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/event_loop.h"

#include <pthread.h>
#include <signal.h>  // NOLINT(modernize-deprecated-headers): sigset_t functions are not in <csignal>.
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <systemd/sd-daemon.h>
#include <systemd/sd-event.h>
#include <unistd.h>

#include <atomic>
#include <cassert>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "core/base/unique_fd.h"

namespace coffer::ipc {
namespace {

constexpr std::uint64_t kTimerAccuracyUsec = 1000;

using Event = CHandle<sd_event, ::sd_event_unref>;

tl::unexpected<Error> event_failure(int negative_errno, std::string_view step) {
  return fail_errno(-negative_errno, step, Reason::kInternal);
}

std::uint64_t whole_usec(std::chrono::microseconds time) {
  return static_cast<std::uint64_t>(std::max<std::int64_t>(time.count(), 0));
}

}  // namespace

// The function may destroy its own source, so a call keeps it alive by itself.
struct EventSource::State {
  using Function = std::function<void(std::uint32_t)>;

  explicit State(Function call) : function(std::make_shared<Function>(std::move(call))) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() { ::sd_event_source_disable_unref(source); }

  void call(std::uint32_t events) const noexcept {
    const auto kept = function;
    (*kept)(events);
  }

  static int on_io(sd_event_source*, int, std::uint32_t events, void* userdata) noexcept {
    static_cast<State*>(userdata)->call(events);
    return 0;
  }

  static int on_signal(sd_event_source*, const signalfd_siginfo*, void* userdata) noexcept {
    static_cast<State*>(userdata)->call(0);
    return 0;
  }

  static int on_time(sd_event_source* timer, std::uint64_t, void* userdata) noexcept {
    auto* state = static_cast<State*>(userdata);
    // Set again first: the function may destroy the source.
    if (state->interval_usec > 0) {
      ::sd_event_source_set_time_relative(timer, state->interval_usec);
      ::sd_event_source_set_enabled(timer, SD_EVENT_ONESHOT);
    }
    state->call(0);
    return 0;
  }

  sd_event_source* source = nullptr;
  std::uint64_t interval_usec = 0;
  std::shared_ptr<Function> function;
};

EventSource::EventSource() noexcept = default;
EventSource::EventSource(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
EventSource::EventSource(EventSource&&) noexcept = default;
EventSource& EventSource::operator=(EventSource&&) noexcept = default;
EventSource::~EventSource() = default;

struct EventLoop::Impl {
  std::thread::id owner = std::this_thread::get_id();
  Event event;
  UniqueFd wake;  // An eventfd: something was posted, or exit() called.
  EventSource wake_source;

  std::mutex mutex;  // Guards all below.
  std::deque<Task> posted;
  bool exiting = false;
  int exit_code = 0;

  void wake_up() const noexcept {
    const std::uint64_t one = 1;
    // It can only fail when the counter is full, and then the loop wakes anyway.
    [[maybe_unused]] const auto ignored = ::write(wake.get(), &one, sizeof(one));
  }

  // Runs what was posted up to now; what these tasks post comes in the next round, so that fds and
  // timers have their turn.
  void run_posted() {
    std::uint64_t count = 0;
    [[maybe_unused]] const auto ignored = ::read(wake.get(), &count, sizeof(count));
    std::deque<Task> tasks;
    {
      const std::scoped_lock lock(mutex);
      tasks.swap(posted);
    }
    for (auto& task : tasks) task();
    const std::scoped_lock lock(mutex);
    if (exiting && posted.empty()) ::sd_event_exit(event.get(), exit_code);
  }
};

EventLoop::EventLoop(std::unique_ptr<Impl> impl) noexcept : impl_(std::move(impl)) {}

EventLoop::~EventLoop() {
  // Tasks may own sources of this loop; these go before it.
  std::deque<Task> dropped;
  {
    const std::scoped_lock lock(impl_->mutex);
    dropped.swap(impl_->posted);
  }
}

Result<std::unique_ptr<EventLoop>> EventLoop::make() {
  auto impl = std::make_unique<Impl>();
  sd_event* event = nullptr;
  if (const int r = ::sd_event_new(&event); r < 0) return event_failure(r, "make an event loop");
  impl->event.reset(event);
  impl->wake.reset(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!impl->wake.valid()) return fail_errno(errno, "make an eventfd");

  std::unique_ptr<EventLoop> loop(new EventLoop(std::move(impl)));
  Impl* state = loop->impl_.get();
  auto source =
      loop->watch(state->wake.get(), EPOLLIN, [state](std::uint32_t) { state->run_posted(); });
  if (!source) return tl::unexpected(source.error());
  state->wake_source = std::move(*source);
  return loop;
}

Result<int> EventLoop::run() {
  assert_on_loop(*this);
  const int code = ::sd_event_loop(impl_->event.get());
  if (code < 0) return event_failure(code, "run the event loop");
  return code;
}

Result<bool> EventLoop::run_once(std::chrono::milliseconds wait) {
  assert_on_loop(*this);
  if (::sd_event_get_state(impl_->event.get()) == SD_EVENT_FINISHED) return false;
  const int r = ::sd_event_run(impl_->event.get(), whole_usec(wait));
  if (r < 0) return event_failure(r, "run the event loop");
  return ::sd_event_get_state(impl_->event.get()) != SD_EVENT_FINISHED;
}

void EventLoop::exit(int code) {
  {
    const std::scoped_lock lock(impl_->mutex);
    impl_->exiting = true;
    impl_->exit_code = code;
  }
  impl_->wake_up();
}

Result<void> EventLoop::post(Task task) {
  {
    const std::scoped_lock lock(impl_->mutex);
    if (impl_->posted.size() >= kPostedMax) {
      return fail(Reason::kLimitsExceeded, "the event loop does not keep up");
    }
    impl_->posted.push_back(std::move(task));
  }
  impl_->wake_up();
  return {};
}

bool EventLoop::on_loop_thread() const noexcept {
  return impl_->owner == std::this_thread::get_id();
}

Result<EventSource> EventLoop::after(std::chrono::microseconds wait,
                                     std::function<void()> function) {
  assert_on_loop(*this);
  auto state =
      std::make_unique<EventSource::State>([call = std::move(function)](std::uint32_t) { call(); });
  const int r = ::sd_event_add_time_relative(impl_->event.get(), &state->source, CLOCK_MONOTONIC,
                                             whole_usec(wait), kTimerAccuracyUsec,
                                             &EventSource::State::on_time, state.get());
  if (r < 0) return event_failure(r, "add a timer");
  return EventSource(std::move(state));
}

Result<EventSource> EventLoop::every(std::chrono::microseconds interval,
                                     std::function<void()> function) {
  auto source = after(interval, std::move(function));
  if (source) source->state_->interval_usec = std::max<std::uint64_t>(whole_usec(interval), 1);
  return source;
}

Result<EventSource> EventLoop::watch(int fd, std::uint32_t epoll_events,
                                     std::function<void(std::uint32_t)> function) {
  assert_on_loop(*this);
  auto state = std::make_unique<EventSource::State>(std::move(function));
  const int r = ::sd_event_add_io(impl_->event.get(), &state->source, fd, epoll_events,
                                  &EventSource::State::on_io, state.get());
  if (r < 0) return event_failure(r, "watch a file descriptor");
  return EventSource(std::move(state));
}

Result<EventSource> EventLoop::on_signal(int signal_number, std::function<void()> function) {
  assert_on_loop(*this);
  auto state =
      std::make_unique<EventSource::State>([call = std::move(function)](std::uint32_t) { call(); });
  const int r = ::sd_event_add_signal(impl_->event.get(), &state->source, signal_number,
                                      &EventSource::State::on_signal, state.get());
  if (r < 0) return event_failure(r, "watch for a signal");
  return EventSource(std::move(state));
}

Result<void> EventLoop::block_signals(std::initializer_list<int> signal_numbers) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : signal_numbers) ::sigaddset(&set, number);
  const int r = ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  if (r != 0) return fail_errno(r, "block signals", Reason::kInternal);
  return {};
}

Result<void> EventLoop::keep_watchdog() {
  assert_on_loop(*this);
  const int r = ::sd_event_set_watchdog(impl_->event.get(), 1);
  if (r < 0) return event_failure(r, "answer the watchdog");
  return {};
}

sd_event* EventLoop::handle() const noexcept {
  return impl_->event.get();
}

void assert_on_loop([[maybe_unused]] const EventLoop& loop) noexcept {
  // Also in release builds: what a second thread would do to the loop cannot be undone.
  if (loop.on_loop_thread()) return;
  static_cast<void>(std::fputs("coffer: event loop used from another thread\n", stderr));
  std::abort();
}

void notify_ready() noexcept {
  ::sd_notify(0, "READY=1");
}
void notify_stopping() noexcept {
  ::sd_notify(0, "STOPPING=1");
}
void notify_status(std::string_view text) noexcept {
  ::sd_notify(0, ("STATUS=" + std::string(text)).c_str());
}

}  // namespace coffer::ipc

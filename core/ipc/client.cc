// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/client.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>
#include <utility>

#include "core/ipc/channel.h"
#include "core/ipc/received.h"

namespace coffer::ipc {
namespace {

// What an answer means to the call that waits for it.
Result<Reply> to_reply(const Frame& frame, std::vector<UniqueFd> fds, bool secret) {
  if (frame.header.type == kTypeError) {
    const auto error = decode_error(frame.body);
    return tl::unexpected(error ? *error : error.error());
  }
  Reply reply;
  reply.fds = std::move(fds);
  if (!secret) {
    reply.body.assign(frame.body.begin(), frame.body.end());
    return reply;
  }
  auto locked = SecretBytes::copy_of(frame.body);
  if (!locked) return tl::unexpected(locked.error());
  reply.secret = std::move(*locked);
  return reply;
}

}  // namespace

class Client::Impl {
 public:
  explicit Impl(Options options)
      : options_(std::move(options)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
        thread_([this] { run(); }) {}
  ~Impl() { stop(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  // A call under way, from begin() to wait() or drop(). In pending_ until it has its answer.
  struct Pending {
    explicit Pending(Deadline until) : deadline(until) {}
    const Deadline deadline;
    std::uint64_t id = 0;
    std::condition_variable done;  // It has its answer, or its turn to receive.
    std::optional<Result<Reply>> result;
    bool waits = false;      // In wait(), for an answer or for its turn.
    bool abandoned = false;  // Nobody waits any more; its answer is still to come.
  };
  using PendingPtr = std::shared_ptr<Pending>;

  Result<PendingPtr> begin(std::uint16_t type, std::span<const ByteView> parts,
                           std::span<const int> fds, Deadline deadline);
  Result<Reply> wait(Pending& pending);
  void drop(Pending& pending);
  void stop();

  bool connected() const {
    const std::scoped_lock lock(mutex_);
    return channel_ != nullptr;
  }
  std::uint64_t connections_made() const {
    const std::scoped_lock lock(mutex_);
    return connections_made_;
  }
  std::uint64_t attempts_failed() const {
    const std::scoped_lock lock(mutex_);
    return attempts_failed_;
  }

 private:
  using Lock = std::unique_lock<std::mutex>;

  Error stopping_error() const { return {Reason::kCancelled, options_.peer + ": client stops"}; }

  Result<std::shared_ptr<Channel>> wait_connected(Lock& lock, Deadline deadline);
  Result<void> send_in_turn(Channel& channel, const FrameHeader& header,
                            std::span<const ByteView> parts, std::span<const int> fds,
                            Deadline deadline);

  // The thread: connects, receives until the connection ends, and again.
  void run();
  bool wait_for_work();
  Result<std::shared_ptr<Channel>> connect();
  void serve_connection(const std::shared_ptr<Channel>& channel);
  // Receives all that comes. Gives why the connection ended.
  Error receive_all(Channel& channel);
  Result<void> dispatch(ByteView message, std::vector<UniqueFd> fds);

  // With callers_receive. One thread at a time receives: a call that waits, or when the connection
  // ends or answers come that nobody waits for, this client's own.
  Error stand_by(Channel& channel);
  void receive_in_turn(Lock& lock, Pending& pending);
  void end_turn();
  void abandon(Pending& pending);
  void wake_thread() const;
  void fail_pending(const Error& error);
  bool wait_backoff();

  const Options options_;
  mutable std::mutex mutex_;          // Guards all below but thread_ and backoff_.
  std::condition_variable changed_;   // Any of these changed.
  std::shared_ptr<Channel> channel_;  // Null while there is no connection.
  std::map<std::uint64_t, PendingPtr> pending_;
  std::size_t calls_ = 0;  // Under way, waiting for a connection or an answer.
  std::uint64_t next_id_ = 1;
  std::uint64_t connections_made_ = 0;
  std::uint64_t attempts_failed_ = 0;
  std::uint64_t attempts_ended_ = 0;  // Failed, or made and lost again.
  std::optional<Error> last_failure_;
  bool wanted_ = false;   // A call waits for a connection.
  bool sending_ = false;  // A call has its turn to send.
  std::condition_variable sent_;
  std::size_t abandoned_ = 0;  // Of pending_.
  bool heard_ = false;         // On this connection something came.
  bool receiving_ = false;     // Somebody has the turn to receive.
  std::condition_variable turn_free_;
  std::optional<Error> broken_;      // Why nobody receives on this connection any more.
  std::optional<MessageRoom> room_;  // Of who has the turn to receive.
  bool stopping_ = false;

  const UniqueFd wake_;  // Readable: the thread that stands by has something to do.

  std::chrono::milliseconds backoff_{0};  // Of the thread: the wait before the next attempt.
  std::thread thread_;                    // Last: it uses all of the above.
};

// --- The callers' side.

Result<std::shared_ptr<Channel>> Client::Impl::wait_connected(Lock& lock, Deadline deadline) {
  const std::uint64_t ended_before = attempts_ended_;
  if (channel_ == nullptr) {
    wanted_ = true;
    changed_.notify_all();
  }
  const bool settled = changed_.wait_until(lock, deadline.at(), [&] {
    return stopping_ || channel_ != nullptr || attempts_ended_ != ended_before;
  });
  if (stopping_) return tl::unexpected(stopping_error());
  if (channel_ != nullptr) return channel_;
  if (!settled) return fail(Reason::kTimedOut, "wait for a connection to " + options_.peer);
  return tl::unexpected(*last_failure_);
}

Result<void> Client::Impl::send_in_turn(Channel& channel, const FrameHeader& header,
                                        std::span<const ByteView> parts, std::span<const int> fds,
                                        Deadline deadline) {
  const auto head = encode_header(header);
  std::vector<ByteView> all{head};
  all.insert(all.end(), parts.begin(), parts.end());
  {
    Lock lock(mutex_);
    if (!sent_.wait_until(lock, deadline.at(), [&] { return !sending_; })) {
      return fail(Reason::kTimedOut, "wait for the turn to send to " + options_.peer);
    }
    sending_ = true;
  }
  auto sent = channel.send(all, fds, deadline);
  {
    const std::scoped_lock lock(mutex_);
    sending_ = false;
  }
  sent_.notify_one();
  return sent;
}

Result<Client::Impl::PendingPtr> Client::Impl::begin(std::uint16_t type,
                                                     std::span<const ByteView> parts,
                                                     std::span<const int> fds, Deadline deadline) {
  if (type == 0 || type > kTypeMax) {
    return fail(Reason::kInvalidArgs, "request type " + std::to_string(type));
  }
  Lock lock(mutex_);
  if (stopping_) return tl::unexpected(stopping_error());
  if (calls_ >= options_.calls_max) {
    return fail(Reason::kLimitsExceeded, "too many calls of " + options_.peer + " under way");
  }
  ++calls_;
  const auto channel = wait_connected(lock, deadline);
  if (!channel) {
    --calls_;
    return tl::unexpected(channel.error());
  }
  // Known before it is sent: the answer may come before send() returns.
  auto pending = std::make_shared<Pending>(deadline);
  pending->id = next_id_++;
  pending_.emplace(pending->id, pending);
  lock.unlock();
  const auto sent = send_in_turn(**channel, {type, pending->id}, parts, fds, deadline);
  if (sent) return pending;
  // Whatever broke, the receiver sees the end and fails the other calls.
  if (sent.error().reason() == options_.lost) (*channel)->shutdown();
  lock.lock();
  if (pending->result) return pending;
  pending_.erase(pending->id);
  --calls_;
  return pass(sent.error(), "ask " + options_.peer);
}

Result<Reply> Client::Impl::wait(Pending& pending) {
  Lock lock(mutex_);
  pending.waits = true;
  const auto answered = [&] { return pending.result.has_value(); };
  const auto my_turn = [&] { return options_.callers_receive && !receiving_ && !broken_; };
  while (!answered()) {
    // Also when it is late: the answer may have come in time.
    if (my_turn()) receive_in_turn(lock, pending);
    if (answered() || pending.deadline.passed()) break;
    static_cast<void>(pending.done.wait_until(lock, pending.deadline.at(),
                                              [&] { return answered() || my_turn(); }));
  }
  pending.waits = false;
  --calls_;
  if (answered()) return std::move(*pending.result);
  abandon(pending);
  return fail(Reason::kTimedOut, options_.peer + " did not answer in time");
}

void Client::Impl::drop(Pending& pending) {
  const std::scoped_lock lock(mutex_);
  if (!pending.result) abandon(pending);
  --calls_;
}

// Its answer may come yet. Without a thread that receives always, somebody has to take it out of
// the socket, so that it does not fill up.
void Client::Impl::abandon(Pending& pending) {
  if (!options_.callers_receive || abandoned_ >= options_.calls_max) {
    pending_.erase(pending.id);
    return;
  }
  pending.abandoned = true;
  ++abandoned_;
  wake_thread();
}

// The caller holds `lock`, and nobody has the turn.
void Client::Impl::receive_in_turn(Lock& lock, Pending& pending) {
  receiving_ = true;
  const auto channel = channel_;
  std::optional<Error> end;
  do {
    lock.unlock();
    std::vector<UniqueFd> fds;
    const auto ready = channel->wait_readable(pending.deadline);
    if (ready) {
      const auto message = room_->receive(*channel, fds);
      const auto done = message ? dispatch(*message, std::move(fds))
                                : Result<void>(tl::unexpected(message.error()));
      if (!done) end = done.error();
      room_->clear();
    } else if (ready.error().reason() != Reason::kTimedOut) {
      end = ready.error();
    }
    lock.lock();
  } while (!pending.result && !end && !pending.deadline.passed());
  if (end) {
    broken_ = end;
    wake_thread();
  }
  end_turn();
}

// The caller holds mutex_. The next who waits receives.
void Client::Impl::end_turn() {
  receiving_ = false;
  turn_free_.notify_all();
  if (broken_) return;
  const auto next = std::ranges::find_if(
      pending_, [](const auto& entry) { return entry.second->waits && !entry.second->result; });
  if (next != pending_.end()) next->second->done.notify_one();
}

void Client::Impl::wake_thread() const {
  const std::uint64_t one = 1;
  // It can only fail when the counter is full, and then the thread wakes anyway.
  [[maybe_unused]] const auto ignored = ::write(wake_.get(), &one, sizeof(one));
}

void Client::Impl::stop() {
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    if (channel_ != nullptr) channel_->shutdown();
  }
  changed_.notify_all();
  if (thread_.joinable()) thread_.join();
}

// --- The thread's side.

void Client::Impl::run() {
  while (wait_for_work()) {
    auto channel = connect();
    if (channel) {
      serve_connection(*channel);
    } else {
      const std::scoped_lock lock(mutex_);
      ++attempts_failed_;
      ++attempts_ended_;
      last_failure_ = channel.error();
      wanted_ = false;
      changed_.notify_all();
    }
    if (!wait_backoff()) break;
  }
  fail_pending(stopping_error());
}

bool Client::Impl::wait_for_work() {
  Lock lock(mutex_);
  changed_.wait(lock, [this] { return stopping_ || wanted_ || options_.stay_connected; });
  return !stopping_;
}

Result<std::shared_ptr<Channel>> Client::Impl::connect() {
  // Doubled before it is known how this ends: a server that takes connections and dies at once is
  // backed off from as well. An answer sets it to nothing.
  backoff_ = std::clamp(backoff_ * 2, options_.backoff_min, options_.backoff_max);
  auto socket = options_.connect(Deadline::after(options_.connect_timeout));
  if (!socket) {
    return fail(options_.lost, "connect to " + options_.peer + ": " + socket.error().str());
  }
  auto channel = std::make_shared<Channel>(std::move(*socket), options_.lost);
  if (!options_.server_uid) return channel;
  const auto server = channel->peer();
  if (!server) return tl::unexpected(server.error());
  if (server->uid != *options_.server_uid) {
    return fail(options_.lost, options_.peer + " is served by uid " + std::to_string(server->uid));
  }
  return channel;
}

void Client::Impl::serve_connection(const std::shared_ptr<Channel>& channel) {
  auto room = options_.callers_receive ? MessageRoom::make(options_.secret) : MessageRoom();
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return;
    channel_ = channel;
    ++connections_made_;
    wanted_ = false;
    heard_ = false;
    broken_.reset();
    if (room) {
      room_ = std::move(*room);
    } else {
      broken_ = room.error();
    }
  }
  changed_.notify_all();
  if (options_.on_connected) options_.on_connected(true);

  auto end = options_.callers_receive ? stand_by(*channel) : receive_all(*channel);
  // First no new call may use it, then those under way fail.
  {
    const std::scoped_lock lock(mutex_);
    channel_ = nullptr;
    if (heard_) backoff_ = std::chrono::milliseconds(0);
    if (stopping_) end = stopping_error();
    // Also for a call that waited for this connection and comes too late to use it.
    last_failure_ = Error(end.reason(), options_.peer + ": " + end.message());
    ++attempts_ended_;
  }
  changed_.notify_all();
  channel->shutdown();
  fail_pending(*last_failure_);
  if (options_.on_connected) options_.on_connected(false);
}

Error Client::Impl::receive_all(Channel& channel) {
  for (;;) {
    auto received = receive(channel, options_.secret);
    if (!received) return received.error();
    const auto done = dispatch(received->bytes(), std::move(received->fds));
    if (!done) return done.error();
  }
}

Error Client::Impl::stand_by(Channel& channel) {
  for (;;) {
    {
      const std::scoped_lock lock(mutex_);
      if (broken_) return *broken_;
    }
    // Not woken by what comes: somebody waits for that.
    std::array<pollfd, 2> entries{{{channel.fd(), POLLRDHUP, 0}, {wake_.get(), POLLIN, 0}}};
    // It cannot fail but for a signal.
    static_cast<void>(::poll(entries.data(), entries.size(), -1));
    std::uint64_t count = 0;
    [[maybe_unused]] const auto ignored = ::read(wake_.get(), &count, sizeof(count));
    const bool ended = entries[0].revents != 0;

    Lock lock(mutex_);
    turn_free_.wait(lock, [this] { return !receiving_; });
    if (broken_) return *broken_;
    receiving_ = true;
    // After its end what it had sent is still there.
    while (!broken_ && (ended || abandoned_ > 0)) {
      lock.unlock();
      std::vector<UniqueFd> fds;
      const auto message = room_->receive(channel, fds);
      const auto done = message ? dispatch(*message, std::move(fds))
                                : Result<void>(tl::unexpected(message.error()));
      room_->clear();
      lock.lock();
      if (!done) broken_ = done.error();
    }
    const auto end = broken_;
    end_turn();
    if (end) return *end;
  }
}

Result<void> Client::Impl::dispatch(ByteView message, std::vector<UniqueFd> fds) {
  const auto frame = decode_frame(message);
  if (!frame) return tl::unexpected(frame.error());
  const FrameHeader header = frame->header;
  if (header.request_id == 0) {
    {
      const std::scoped_lock lock(mutex_);
      heard_ = true;
    }
    if (options_.on_notice) options_.on_notice(header.type, frame->body, std::move(fds));
    return {};
  }
  if (header.type < kTypeReply)
    return fail(Reason::kMessageInvalid, options_.peer + " sent a request");

  auto reply = to_reply(*frame, std::move(fds), options_.secret);
  PendingPtr pending;
  {
    const std::scoped_lock lock(mutex_);
    heard_ = true;
    const auto found = pending_.find(header.request_id);
    // The call may have timed out before.
    if (found == pending_.end()) return {};
    pending = std::move(found->second);
    pending_.erase(found);
    if (pending->abandoned) --abandoned_;
    pending->result = std::move(reply);
  }
  pending->done.notify_one();
  return {};
}

void Client::Impl::fail_pending(const Error& error) {
  const std::scoped_lock lock(mutex_);
  for (auto& [id, pending] : pending_) {
    pending->result = tl::unexpected(error);
    pending->done.notify_one();
  }
  pending_.clear();
  abandoned_ = 0;
}

bool Client::Impl::wait_backoff() {
  Lock lock(mutex_);
  changed_.wait_for(lock, backoff_, [this] { return stopping_; });
  return !stopping_;
}

// --- The interface.

Client::Client(Options options) : impl_(std::make_unique<Impl>(std::move(options))) {}
Client::~Client() = default;

struct Client::Sent::State {
  State(Impl& owner, Impl::PendingPtr started) : impl(owner), pending(std::move(started)) {}
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    if (pending != nullptr) impl.drop(*pending);
  }
  Impl& impl;
  Impl::PendingPtr pending;  // Null once it was waited for.
};

Client::Sent::Sent(std::unique_ptr<State> state) noexcept : state_(std::move(state)) {}
Client::Sent::Sent(Sent&&) noexcept = default;
Client::Sent::~Sent() = default;

Result<Reply> Client::Sent::wait() {
  return state_->impl.wait(*std::exchange(state_->pending, nullptr));
}

Result<Client::Sent> Client::send(std::uint16_t type, std::span<const ByteView> parts,
                                  std::span<const int> fds, Deadline deadline) {
  auto pending = impl_->begin(type, parts, fds, deadline);
  if (!pending) return tl::unexpected(pending.error());
  return Sent(std::make_unique<Sent::State>(*impl_, std::move(*pending)));
}

Result<Reply> Client::call(std::uint16_t type, std::span<const ByteView> parts,
                           std::span<const int> fds, Deadline deadline) {
  const auto pending = impl_->begin(type, parts, fds, deadline);
  if (!pending) return tl::unexpected(pending.error());
  return impl_->wait(**pending);
}

void Client::stop() {
  impl_->stop();
}
bool Client::connected() const {
  return impl_->connected();
}
std::uint64_t Client::connections_made() const {
  return impl_->connections_made();
}
std::uint64_t Client::attempts_failed() const {
  return impl_->attempts_failed();
}

}  // namespace coffer::ipc

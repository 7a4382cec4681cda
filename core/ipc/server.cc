// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "core/ipc/received.h"
#include "core/ipc/sockets.h"
#include "core/ipc/worker_pool.h"

namespace coffer::ipc {
namespace {

// The peer that just went away is no fault.
constexpr Reason kGone = Reason::kCancelled;
// Who is that quick takes the next request soon: no other thread is woken for it meanwhile.
constexpr std::chrono::microseconds kQuickMax{300};

// One connection. Its threads read, any thread may send.
struct Connection {
  Connection(std::uint64_t number, Channel socket, PeerCredentials who)
      : id(number), channel(std::move(socket)), peer(who) {}

  const std::uint64_t id;
  Channel channel;
  const PeerCredentials peer;
  std::vector<std::thread> threads;  // Guarded by the server's mutex.

  std::mutex send_mutex;  // One sender at a time.

  std::mutex mutex;  // Guards all below.
  std::condition_variable idle;
  std::size_t under_way = 0;       // Requests that the handler threads have.
  std::size_t running = 0;         // Of its threads.
  std::size_t reading = 0;         // Of those, the ones that do not handle a request.
  bool ended = false;              // What still comes is not looked at.
  std::atomic<bool> quick{false};  // What its thread answered last took no longer than kQuickMax.

  void begin() {
    const std::scoped_lock lock(mutex);
    ++under_way;
  }
  void end() {
    const std::scoped_lock lock(mutex);
    --under_way;
    idle.notify_all();
  }
  void wait_idle() {
    std::unique_lock lock(mutex);
    idle.wait(lock, [this] { return under_way == 0; });
  }
  // Whether another thread reads on while this one handles a request.
  bool leave_reading() {
    const std::scoped_lock lock(mutex);
    if (reading < 2) return false;
    --reading;
    return true;
  }
  void back_to_reading() {
    const std::scoped_lock lock(mutex);
    ++reading;
  }
  bool has_ended() {
    const std::scoped_lock lock(mutex);
    return ended;
  }
  // A thread reads no more. Whether it was the last one.
  bool end_reading() {
    const std::scoped_lock lock(mutex);
    ended = true;
    --reading;
    return --running == 0;
  }
};

}  // namespace

class Server::Impl {
 public:
  Impl(Options options, Handler handler)
      : options_(std::move(options)),
        handler_(std::move(handler)),
        wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    if (options_.peers.empty()) options_.peers.push_back(::geteuid());
    if (options_.handler_threads > 0) {
      pool_ = std::make_unique<WorkerPool>(
          WorkerPool::Options{options_.handler_threads, options_.queue_max});
    }
  }
  ~Impl() { stop(); }
  Impl(const Impl&) = delete;
  Impl& operator=(const Impl&) = delete;

  Result<void> listen(UniqueFd listening);
  Result<void> serve(UniqueFd connected);
  void notify_all(std::uint16_t type, ByteView body);
  void stop();
  std::size_t connections() const {
    const std::scoped_lock lock(mutex_);
    return connections_.size();
  }

 private:
  using ConnectionPtr = std::shared_ptr<Connection>;

  void accept_all(const UniqueFd& listening);
  Result<PeerCredentials> check_peer(const Channel& channel) const;
  void run(const ConnectionPtr& connection);
  Error read_by_one(const ConnectionPtr& connection);
  Error read_by_turns(const ConnectionPtr& connection);
  // The header of a request that may be answered now, and its body.
  Result<Frame> check(ByteView message) const;
  void queue(const ConnectionPtr& connection, const Frame& frame, Received received,
             std::optional<MessageRoom> room = {});
  // Does what waits on a thread that read, as long as another reads on. Each of them comes here
  // after the other may have left something, so nothing stays that both could have seen.
  void work_off(Connection& connection);
  Result<MessageRoom> take_room();
  void give_back(MessageRoom room);
  void answer(Connection& connection, const Frame& frame, std::vector<UniqueFd> fds,
              SteadyTime received_at);
  void send(Connection& connection, const FrameHeader& header, const Result<Reply>& reply);
  void report(const Error& error) const {
    if (options_.on_fault) {
      options_.on_fault(Error(error.reason(), options_.name + ": " + error.message()));
    }
  }
  void join_finished();

  Options options_;
  const Handler handler_;
  const UniqueFd wake_;  // Readable once the server stops.
  std::unique_ptr<WorkerPool> pool_;

  std::mutex rooms_mutex_;          // Guards rooms_.
  std::vector<MessageRoom> rooms_;  // Free ones, at most as many as handler threads.

  mutable std::mutex mutex_;  // Guards all below.
  std::map<std::uint64_t, ConnectionPtr> connections_;
  std::vector<std::thread> finished_;  // Of ended connections, to be joined.
  std::vector<std::thread> acceptors_;
  std::uint64_t next_id_ = 1;
  bool stopping_ = false;
};

// --- Connections come and go.

Result<void> Server::Impl::listen(UniqueFd listening) {
  int accepts = 0;
  socklen_t size = sizeof(accepts);
  const int fd = listening.get();
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &accepts, &size) != 0 || accepts == 0) {
    return fail(Reason::kInvalidArgs, options_.name + ": not a listening socket");
  }
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return fail_errno(errno, "make a listening socket nonblocking");
  }
  const std::scoped_lock lock(mutex_);
  if (stopping_) return fail(Reason::kCancelled, options_.name + " is stopping");
  acceptors_.emplace_back([this, owned = std::move(listening)] { accept_all(owned); });
  return {};
}

void Server::Impl::accept_all(const UniqueFd& listening) {
  for (;;) {
    std::array<pollfd, 2> entries{{{listening.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    auto connected = accept_from(listening.get(), Deadline::after(std::chrono::milliseconds(0)));
    if (!connected && connected.error().reason() == Reason::kTimedOut) continue;
    const auto served =
        connected ? serve(std::move(*connected)) : Result<void>(tl::unexpected(connected.error()));
    if (served || served.error().reason() == Reason::kCancelled) continue;
    report(served.error());
    // Without a file descriptor left the connection stays in the queue: wait a little, not in a
    // spin.
    if (!connected) static_cast<void>(::poll(&entries[1], 1, 100));
  }
}

Result<PeerCredentials> Server::Impl::check_peer(const Channel& channel) const {
  auto peer = channel.peer();
  if (!peer) return peer;
  const auto& allowed = options_.peers;
  if (std::find(allowed.begin(), allowed.end(), peer->uid) == allowed.end()) {
    return fail(Reason::kAccessDenied,
                options_.name + ": a connection of uid " + std::to_string(peer->uid));
  }
  return peer;
}

Result<void> Server::Impl::serve(UniqueFd connected) {
  Channel channel(std::move(connected), kGone);
  const auto peer = check_peer(channel);
  if (!peer) return tl::unexpected(peer.error());
  join_finished();

  const std::scoped_lock lock(mutex_);
  if (stopping_) return fail(Reason::kCancelled, options_.name + " is stopping");
  if (connections_.size() >= options_.connections_max) {
    return fail(Reason::kLimitsExceeded, options_.name + ": too many connections");
  }
  auto connection = std::make_shared<Connection>(next_id_++, std::move(channel), *peer);
  connections_.emplace(connection->id, connection);
  // Its threads wait for the lock before the last of them takes it out of connections_.
  const std::size_t threads = pool_ != nullptr && options_.handle_on_reader ? 2 : 1;
  connection->running = connection->reading = threads;
  while (connection->threads.size() < threads) {
    connection->threads.emplace_back([this, connection] { run(connection); });
  }
  return {};
}

void Server::Impl::run(const ConnectionPtr& connection) {
  const bool by_turns = pool_ != nullptr && options_.handle_on_reader;
  const Error end = by_turns ? read_by_turns(connection) : read_by_one(connection);
  if (by_turns) pool_->wake_up();  // For what its threads would have worked off.
  if (end.reason() != kGone) report(end);
  if (!connection->end_reading()) {
    connection->channel.shutdown_receiving();
    return;
  }
  // What the handler still does for this connection belongs to it: only then it is disconnected.
  connection->wait_idle();
  connection->channel.shutdown();
  if (options_.on_disconnected) options_.on_disconnected(connection->id);
  const std::scoped_lock lock(mutex_);
  for (auto& thread : connection->threads) finished_.push_back(std::move(thread));
  connection->threads.clear();
  connections_.erase(connection->id);
}

void Server::Impl::join_finished() {
  std::vector<std::thread> finished;
  {
    const std::scoped_lock lock(mutex_);
    finished.swap(finished_);
  }
  for (auto& thread : finished) {
    if (thread.joinable()) thread.join();
  }
}

// --- Requests.

Error Server::Impl::read_by_one(const ConnectionPtr& connection) {
  for (;;) {
    auto received = receive(connection->channel, options_.secret);
    if (!received) return received.error();
    const auto frame = check(received->bytes());
    if (!frame) return frame.error();
    if (pool_ == nullptr) {
      answer(*connection, *frame, std::move(received->fds), std::chrono::steady_clock::now());
    } else {
      queue(connection, *frame, std::move(*received));
    }
  }
}

Error Server::Impl::read_by_turns(const ConnectionPtr& connection) {
  // Larger ones take longer to copy than to go on with another room, and are not quick.
  constexpr std::size_t kCopyBytesMax = std::size_t{8} * 1024;
  auto room = take_room();
  if (!room) return room.error();
  for (;;) {
    if (const auto left = pool_->oldest_left()) {
      const Deadline late(*left + kQuickMax);
      const auto ready = connection->channel.wait_readable(late);
      if (late.passed()) pool_->wake_up();
      if (!ready && ready.error().reason() == Reason::kTimedOut) continue;
    }
    std::vector<UniqueFd> fds;
    const auto message = room->receive(connection->channel, fds);
    if (!message) return message.error();
    const auto now = std::chrono::steady_clock::now();
    if (connection->has_ended()) return {kGone, "its connection ends"};
    const auto frame = check(*message);
    if (!frame) return frame.error();
    if (pool_->waiting() == 0 && connection->leave_reading()) {
      answer(*connection, *frame, std::move(fds), now);
      connection->quick = std::chrono::steady_clock::now() - now <= kQuickMax;
      connection->back_to_reading();
      work_off(*connection);
      continue;
    }
    if (message->size() > kCopyBytesMax) {
      auto next = take_room();
      if (!next) return next.error();
      queue(connection, *frame, {{}, {}, std::move(fds)}, std::exchange(*room, std::move(*next)));
      continue;
    }
    auto kept = keep(*message, options_.secret);
    if (!kept) return kept.error();
    kept->fds = std::move(fds);
    const Frame same{frame->header, kept->bytes().subspan(kFrameHeaderBytes)};
    queue(connection, same, std::move(*kept));
    work_off(*connection);
  }
}

void Server::Impl::work_off(Connection& connection) {
  while (connection.quick && pool_->waiting() > 0 && connection.leave_reading()) {
    static_cast<void>(pool_->run_one());
    connection.back_to_reading();
  }
}

Result<MessageRoom> Server::Impl::take_room() {
  {
    const std::scoped_lock lock(rooms_mutex_);
    if (!rooms_.empty()) {
      auto room = std::move(rooms_.back());
      rooms_.pop_back();
      return room;
    }
  }
  return MessageRoom::make(options_.secret);
}

void Server::Impl::give_back(MessageRoom room) {
  room.clear();
  const std::scoped_lock lock(rooms_mutex_);
  if (rooms_.size() < options_.handler_threads) rooms_.push_back(std::move(room));
}

Result<Frame> Server::Impl::check(ByteView message) const {
  {
    const std::scoped_lock lock(mutex_);
    if (stopping_) return fail(kGone, options_.name + " is stopping");
  }
  auto frame = decode_frame(message);
  if (frame && frame->header.type > kTypeMax)
    return fail(Reason::kMessageInvalid, options_.name + ": answer from a client");
  return frame;
}

void Server::Impl::queue(const ConnectionPtr& connection, const Frame& frame, Received received,
                         std::optional<MessageRoom> room) {
  const auto now = std::chrono::steady_clock::now();
  const bool left = connection->quick && !room;
  connection->begin();
  // The body stays where it is: moving a buffer does not move what it points to.
  Task task([this, connection, frame, kept = std::move(received), kept_room = std::move(room),
             now]() mutable {
    answer(*connection, frame, std::move(kept.fds), now);
    if (kept_room) give_back(std::move(*kept_room));
    connection->end();
  });
  const auto queued = left ? pool_->leave(std::move(task)) : pool_->submit(std::move(task));
  if (queued) return;
  connection->end();
  send(*connection, frame.header, tl::unexpected(queued.error()));
}

void Server::Impl::answer(Connection& connection, const Frame& frame, std::vector<UniqueFd> fds,
                          SteadyTime received_at) {
  Request request{.type = frame.header.type,
                  .body = frame.body,
                  .fds = std::move(fds),
                  .peer = connection.peer,
                  .connection = connection.id,
                  .received = received_at,
                  .notice = frame.header.request_id == 0};
  const Result<Reply> reply = handler_(request);
  if (!request.notice) send(connection, frame.header, reply);
}

void Server::Impl::send(Connection& connection, const FrameHeader& header,
                        const Result<Reply>& reply) {
  if (header.request_id == 0) return;
  const auto send_parts = [&](std::uint16_t type, std::span<const ByteView> body,
                              std::span<const int> fds) {
    const auto head = encode_header({type, header.request_id});
    std::vector<ByteView> parts{head};
    parts.insert(parts.end(), body.begin(), body.end());
    const std::scoped_lock lock(connection.send_mutex);
    return connection.channel.send(parts, fds, Deadline::after(options_.send_timeout));
  };
  const auto send_error = [&](const Error& error) {
    const Bytes body = encode_error(error);
    const ByteView view(body);
    return send_parts(kTypeError, {&view, 1}, {});
  };
  Result<void> sent;
  if (reply) {
    std::vector<int> fds;
    for (const auto& fd : reply->fds) fds.push_back(fd.get());
    const std::array<ByteView, 2> body{ByteView(reply->body), reply->secret.reveal()};
    sent = send_parts(kTypeReply, body, fds);
    if (!sent && sent.error().reason() == Reason::kInvalidArgs) {
      sent = send_error(Error(Reason::kLimitsExceeded, "answer too large"));
    }
  } else {
    sent = send_error(reply.error());
  }
  if (sent) return;
  if (sent.error().reason() != kGone) report(sent.error());
  connection.channel.shutdown();
}

void Server::Impl::notify_all(std::uint16_t type, ByteView body) {
  std::vector<ConnectionPtr> all;
  {
    const std::scoped_lock lock(mutex_);
    for (const auto& [id, connection] : connections_) all.push_back(connection);
  }
  const Bytes frame = encode_frame({type, 0}, body);
  for (const auto& connection : all) {
    const std::scoped_lock lock(connection->send_mutex);
    const auto sent = connection->channel.send(frame, {}, Deadline::after(options_.send_timeout));
    if (!sent) connection->channel.shutdown();
  }
}

void Server::Impl::stop() {
  std::vector<std::thread> acceptors;
  {
    const std::scoped_lock lock(mutex_);
    stopping_ = true;
    acceptors.swap(acceptors_);
    for (const auto& [id, connection] : connections_) connection->channel.shutdown_receiving();
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto ignored = ::write(wake_.get(), &one, sizeof(one));
  for (auto& thread : acceptors) thread.join();
  // Each connection's thread ends once its requests have; none is added any more.
  for (;;) {
    std::vector<std::thread> threads;
    {
      const std::scoped_lock lock(mutex_);
      threads.swap(finished_);
      for (const auto& [id, connection] : connections_) {
        for (auto& thread : connection->threads) threads.push_back(std::move(thread));
        connection->threads.clear();
      }
    }
    if (threads.empty()) break;
    for (auto& thread : threads) {
      if (thread.joinable()) thread.join();
    }
  }
  if (pool_ != nullptr) pool_->stop();
}

// --- The interface.

Server::Server(Options options, Handler handler)
    : impl_(std::make_unique<Impl>(std::move(options), std::move(handler))) {}
Server::~Server() = default;

Result<void> Server::listen(UniqueFd listening) {
  return impl_->listen(std::move(listening));
}
Result<void> Server::serve(UniqueFd connected) {
  return impl_->serve(std::move(connected));
}
void Server::notify_all(std::uint16_t type, ByteView body) {
  impl_->notify_all(type, body);
}
void Server::stop() {
  impl_->stop();
}
std::size_t Server::connections() const {
  return impl_->connections();
}

}  // namespace coffer::ipc

// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/delivery_server.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

#include "core/ipc/sockets.h"

namespace coffer::agent {
namespace {
constexpr std::chrono::hours kLong{24};  // A connection has no deadline of its own.
constexpr std::chrono::milliseconds kNow{0};
constexpr int kRetryMs = 100;
constexpr std::chrono::seconds kReplyPatience{5};
}  // namespace

DeliveryServer::DeliveryServer(std::vector<uid_t> peers, Take take)
    : peers_(std::move(peers)),
      take_(std::move(take)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {}

DeliveryServer::~DeliveryServer() {
  stop();
}

Result<void> DeliveryServer::listen(UniqueFd listening) {
  listening_ = std::move(listening);
  // A peer may be gone again by the time it is accepted: that must not block.
  const int flags = ::fcntl(listening_.get(), F_GETFL);
  if (!wake_.valid() || flags < 0 ||
      ::fcntl(listening_.get(), F_SETFL, flags | O_NONBLOCK) != 0)  // NOLINT(*-vararg)
    return fail_errno(errno, "listen for deliveries");
  acceptor_ = std::thread([this] { accept_all(); });
  return {};
}

void DeliveryServer::accept_all() {
  for (;;) {
    std::array<pollfd, 2> entries{{{listening_.get(), POLLIN, 0}, {wake_.get(), POLLIN, 0}}};
    if (::poll(entries.data(), entries.size(), -1) < 0 && errno != EINTR) return;
    if (entries[1].revents != 0) return;
    auto connected = ipc::accept_from(listening_.get(), Deadline::after(kNow));
    // A refused peer sees its connection end; there is nobody else to tell.
    if (connected) static_cast<void>(serve(std::move(*connected)).has_value());
    // No fd is left, mostly: the queue keeps the connection until there is one.
    if (!connected && connected.error().reason() != Reason::kTimedOut)
      static_cast<void>(::poll(&entries[1], 1, kRetryMs));
  }
}

Result<void> DeliveryServer::serve(UniqueFd connected) {
  auto channel = std::make_shared<ipc::Channel>(std::move(connected), Reason::kHsmAbsent);
  const auto peer = channel->peer();
  if (!peer) return tl::unexpected(peer.error());
  if (std::ranges::find(peers_, peer->uid) == peers_.end())
    return fail(Reason::kAccessDenied, "only the vault's user delivers keys");

  const std::lock_guard lock(mutex_);
  if (stopping_) return fail(Reason::kCancelled, "the worker stops");
  for (auto& old : connections_)
    if (old.done) old.thread.join();
  connections_.remove_if([](const Connection& c) { return c.done; });
  if (connections_.size() >= kConnectionsMax)
    return fail(Reason::kLimitsExceeded, "too many vaults are connected");
  auto& connection = connections_.emplace_back();
  connection.channel = std::move(channel);
  connection.thread = std::thread([this, &connection] { answer_all(connection); });
  return {};
}

void DeliveryServer::answer_all(Connection& connection) {
  const auto channel = connection.channel;
  for (;;) {
    auto message = channel->receive_secret(Deadline::after(kLong));
    if (!message && message.error().reason() == Reason::kTimedOut) continue;
    if (!message) break;
    auto delivery = hsm::decode_delivery(message->bytes.reveal());
    if (!delivery) break;
    message->bytes = SecretBytes();
    const auto taken = take_(std::move(*delivery));
    const auto reply = hsm::encode_delivery_reply(taken);
    if (!channel->send(reply, {}, Deadline::after(kReplyPatience))) break;
  }
  channel->shutdown();
  const std::lock_guard lock(mutex_);
  connection.done = true;
}

void DeliveryServer::stop() {
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    for (auto& connection : connections_) connection.channel->shutdown();
  }
  if (acceptor_.joinable()) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto ignored = ::write(wake_.get(), &one, sizeof(one));
    acceptor_.join();
  }
  // No thread is added any more, and each takes the mutex only to say that it is done.
  for (auto& connection : connections_)
    if (connection.thread.joinable()) connection.thread.join();
}

}  // namespace coffer::agent

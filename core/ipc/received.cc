// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/received.h"

#include <chrono>

namespace coffer::ipc {
namespace {

constexpr std::chrono::minutes kTurn{10};  // Of a wait that only the connection's end ends.

Result<Received> receive_once(Channel& channel, bool secret) {
  const auto deadline = Deadline::after(kTurn);
  if (secret) {
    auto message = channel.receive_secret(deadline);
    if (!message) return tl::unexpected(message.error());
    return Received{{}, std::move(message->bytes), std::move(message->fds)};
  }
  auto message = channel.receive(deadline);
  if (!message) return tl::unexpected(message.error());
  return Received{std::move(message->bytes), {}, std::move(message->fds)};
}

}  // namespace

Result<Received> receive(Channel& channel, bool secret) {
  for (;;) {
    auto received = receive_once(channel, secret);
    if (received || received.error().reason() != Reason::kTimedOut) return received;
  }
}

Result<MessageRoom> MessageRoom::make(bool secret) {
  MessageRoom room;
  if (!secret) {
    room.open_.resize(kMessageBytesMax);
    return room;
  }
  auto locked = SecretBytes::zeroed(kMessageBytesMax);
  if (!locked) return tl::unexpected(locked.error());
  room.secret_ = std::move(*locked);
  return room;
}

Result<ByteView> MessageRoom::receive(Channel& channel, std::vector<UniqueFd>& fds) {
  clear();
  const std::span<std::byte> room =
      secret_.empty() ? std::span<std::byte>(open_) : secret_.reveal_mutable();
  auto taken = channel.receive_into(room);
  // A message that did not fit has filled it.
  size_bytes_ = taken ? taken->size_bytes : room.size();
  if (!taken) return tl::unexpected(taken.error());
  fds = std::move(taken->fds);
  return room.first(size_bytes_);
}

void MessageRoom::clear() noexcept {
  wipe(secret_.reveal_mutable().first(secret_.empty() ? 0 : size_bytes_));
  size_bytes_ = 0;
}

Result<Received> keep(ByteView message, bool secret) {
  if (!secret) return Received{{message.begin(), message.end()}, {}, {}};
  auto locked = SecretBytes::copy_of(message);
  if (!locked) return tl::unexpected(locked.error());
  return Received{{}, std::move(*locked), {}};
}

}  // namespace coffer::ipc

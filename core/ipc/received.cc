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

}  // namespace coffer::ipc

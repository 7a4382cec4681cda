// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/ipc/channel.h"

namespace coffer::ipc {

// Received is a message of either kind, for the client's and the server's receiving threads: its
// bytes stand in one of the two, and its fds beside them.
struct Received {
  Bytes open;
  SecretBytes secret;
  std::vector<UniqueFd> fds;

  ByteView bytes() const noexcept { return secret.empty() ? ByteView(open) : secret.reveal(); }
};

// MessageRoom is where one thread receives messages, one at a time, without memory of their own.
class MessageRoom {
 public:
  MessageRoom() = default;  // No room at all.
  // `secret`: in locked memory, wiped after each message. kNoMemory.
  static Result<MessageRoom> make(bool secret);

  // Waits for the next message as Channel::receive_into(). What it gives is valid until the next
  // call, or clear().
  Result<ByteView> receive(Channel& channel, std::vector<UniqueFd>& fds);
  void clear() noexcept;

 private:
  Bytes open_;
  SecretBytes secret_;
  std::size_t size_bytes_ = 0;  // Of the message that is in it.
};

// A copy that outlives the room.   kNoMemory
Result<Received> keep(ByteView message, bool secret);

// Waits for the next message for as long as the connection lasts; shutdown() of the channel ends
// that. `secret`: its bytes go to locked memory. Errors as Channel::receive(), but for kTimedOut.
Result<Received> receive(Channel& channel, bool secret);

}  // namespace coffer::ipc

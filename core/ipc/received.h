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

// Waits for the next message for as long as the connection lasts; shutdown() of the channel ends
// that. `secret`: its bytes go to locked memory. Errors as Channel::receive(), but for kTimedOut.
Result<Received> receive(Channel& channel, bool secret);

}  // namespace coffer::ipc

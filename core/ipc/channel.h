// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"

namespace coffer::ipc {

// Limits of one message. More fds travel as one sealed memfd or in several messages.
inline constexpr std::size_t kMessageBytesMax = std::size_t{64} * 1024;
inline constexpr std::size_t kMessageFdsMax = 16;
inline constexpr std::size_t kMessagePartsMax = 64;

struct Message {
  Bytes bytes;
  std::vector<UniqueFd> fds;
};

// A message that carries key material: its bytes never were in ordinary memory of this process.
struct SecretMessage {
  SecretBytes bytes;
  std::vector<UniqueFd> fds;
};

// Who made the other end, as the kernel saw it then. A connection to a socket that systemd listens
// on shows the user of the program that connected to the server, and systemd's to the client.
struct PeerCredentials {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};

// Channel is one end of a connected AF_UNIX SOCK_SEQPACKET socket: whole messages in order, each
// with up to 16 file descriptors, every wait with a deadline, never a SIGPIPE.
//
// One thread may send while another receives; two senders or two receivers need a lock of their
// own.
class Channel {
 public:
  Channel() = default;
  // Takes over a connected socket. `lost` is the reason every call fails with once the peer is
  // gone: kWorkerLost, kReaderLost, kHsmAbsent, kAgentUnreachable.
  explicit Channel(UniqueFd socket, Reason lost = Reason::kIoError) noexcept;

  // Sends one message. The bytes of `parts` follow each other in it: so a secret goes straight from
  // its locked memory, behind a header from ordinary memory. The fds stay the caller's.
  //   kInvalidArgs  empty, or above a limit.
  //   kTimedOut     the peer did not take it by `deadline`; nothing was sent.
  //   `lost`        the peer is gone.
  Result<void> send(std::span<const ByteView> parts, std::span<const int> fds, Deadline deadline);
  Result<void> send(ByteView bytes, std::span<const int> fds, Deadline deadline) {
    return send(std::span(&bytes, 1), fds, deadline);
  }

  // Waits for one message. Received fds are close-on-exec.
  //   kMessageInvalid  above a limit, or something was cut off (MSG_TRUNC, MSG_CTRUNC: also when
  //   this
  //                    process has no fd left); the message is gone, the channel should be closed.
  //   kTimedOut        none came by `deadline`.
  //   kNoMemory        no locked memory for a secret; the message is still there.
  //   `lost`           the peer closed, after everything it had sent was received.
  Result<Message> receive(Deadline deadline);
  Result<SecretMessage> receive_secret(Deadline deadline);

  // Waits for one message, however long, and takes it into `room`, of kMessageBytesMax bytes. Of
  // several threads that wait so, a message wakes one. Errors as receive(), without kTimedOut.
  struct Taken {
    std::size_t size_bytes = 0;
    std::vector<UniqueFd> fds;
  };
  Result<Taken> receive_into(std::span<std::byte> room);

  // Waits until a message is there, or the end.   kTimedOut
  Result<void> wait_readable(Deadline deadline) const;

  Result<PeerCredentials> peer() const;

  // Ends both directions: a thread that waits in receive() returns with `lost`. From any thread.
  void shutdown() noexcept;
  // The same for one direction: what is still to be sent goes out.
  void shutdown_receiving() noexcept;

  int fd() const noexcept { return socket_.get(); }
  bool valid() const noexcept { return socket_.valid(); }
  UniqueFd release() noexcept { return std::move(socket_); }

 private:
  UniqueFd socket_;
  Reason lost_ = Reason::kIoError;
};

// Two connected ends, close-on-exec.
Result<std::pair<Channel, Channel>> channel_pair(Reason lost = Reason::kIoError);

}  // namespace coffer::ipc

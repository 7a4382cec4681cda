// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace coffer::ipc {

// How a process comes to its sockets: from systemd when a socket unit started it, from a path in
// tests. All are AF_UNIX SOCK_SEQPACKET and close-on-exec.

struct NamedSocket {
  std::string name;  // FileDescriptorName= of the unit; "" when it has none.
  UniqueFd fd;
};

// The sockets systemd handed over (sd_listen_fds), each of them checked to be listening or
// connected. Empty when the process was started another way. Takes them once: the environment is
// cleared.
//   kConfigInvalid  one of them is not an AF_UNIX SOCK_SEQPACKET socket.
Result<std::vector<NamedSocket>> sockets_from_systemd();

// Makes a listening socket at `path`; a socket that stands there is replaced.
//   kInvalidArgs  the path is longer than sockaddr_un takes (107 bytes).
//   kAccessDenied, kIoError
Result<UniqueFd> listen_at(const std::string& path, mode_t mode = 0600, int backlog = 64);

// Connects.
//   kInvalidArgs  the path's length.
//   kTimedOut     the listener's queue was full until `deadline`.
//   kNoSuchFile, kAccessDenied; kIoError: nobody listens there.
Result<UniqueFd> connect_to(const std::string& path, Deadline deadline);

// Waits for a connection.   kTimedOut; kIoError; kLimitsExceeded: no fd left.
Result<UniqueFd> accept_from(int listening_fd, Deadline deadline);

}  // namespace coffer::ipc

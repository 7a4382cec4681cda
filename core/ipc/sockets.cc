// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/sockets.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace coffer::ipc {
namespace {

Result<sockaddr_un> address_of(const std::string& path) {
  sockaddr_un address{};
  if (path.empty() || path.size() >= sizeof(address.sun_path)) {
    return fail(Reason::kInvalidArgs, "socket path of " + std::to_string(path.size()) + " bytes");
  }
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  return address;
}

const sockaddr* generic(const sockaddr_un& address) {
  return reinterpret_cast<const sockaddr*>(&address);
}

// accept() must not block when a connection vanished between the poll and it.
Result<void> make_nonblocking(int fd) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0 || ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    return fail_errno(errno, "make a listening socket nonblocking");
  }
  return {};
}

// How long connect() may wait for room in the listener's queue; zero is for ever.
void set_send_timeout(int fd, std::chrono::microseconds wait) {
  const timeval value{wait.count() / 1'000'000, wait.count() % 1'000'000};
  ::setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &value, sizeof(value));
}

Result<NamedSocket> adopt(UniqueFd fd, const char* name) {
  NamedSocket socket{name == nullptr ? "" : name, std::move(fd)};
  if (::sd_is_socket(socket.fd.get(), AF_UNIX, SOCK_SEQPACKET, -1) <= 0) {
    return fail(Reason::kConfigInvalid,
                "socket " + socket.name + " from systemd is not AF_UNIX SOCK_SEQPACKET");
  }
  if (::sd_is_socket(socket.fd.get(), AF_UNIX, SOCK_SEQPACKET, 1) > 0) {
    if (auto set = make_nonblocking(socket.fd.get()); !set) return tl::unexpected(set.error());
  }
  return socket;
}

}  // namespace

Result<std::vector<NamedSocket>> sockets_from_systemd() {
  char** names = nullptr;
  const int count = ::sd_listen_fds_with_names(1, &names);
  if (count < 0) return fail_errno(-count, "take the sockets from systemd", Reason::kConfigInvalid);
  std::vector<NamedSocket> sockets;
  std::optional<Error> first_error;
  // All are taken even when one is wrong, so that none leaks.
  for (int i = 0; i < count; ++i) {
    auto socket = adopt(UniqueFd(SD_LISTEN_FDS_START + i), names == nullptr ? nullptr : names[i]);
    if (socket) {
      sockets.push_back(std::move(*socket));
    } else if (!first_error) {
      first_error = socket.error();
    }
  }
  for (char** name = names; name != nullptr && *name != nullptr; ++name) std::free(*name);
  std::free(names);  // NOLINT(bugprone-multi-level-implicit-pointer-conversion)
  if (first_error) return tl::unexpected(*first_error);
  return sockets;
}

Result<UniqueFd> listen_at(const std::string& path, mode_t mode, int backlog) {
  const auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return fail_errno(errno, "make a socket");

  struct stat there{};
  if (::lstat(path.c_str(), &there) == 0 && S_ISSOCK(there.st_mode)) ::unlink(path.c_str());
  // The mode of the socket before bind() limits that of the file: nobody can connect in between.
  if (::fchmod(fd.get(), mode) != 0 || ::bind(fd.get(), generic(*address), sizeof(*address)) != 0) {
    return fail_errno(errno, "bind " + path);
  }
  if (::chmod(path.c_str(), mode) != 0) return fail_errno(errno, "set the mode of " + path);
  if (::listen(fd.get(), backlog) != 0) return fail_errno(errno, "listen at " + path);
  return fd;
}

Result<UniqueFd> connect_to(const std::string& path, Deadline deadline) {
  const auto address = address_of(path);
  if (!address) return tl::unexpected(address.error());
  UniqueFd fd(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
  if (!fd.valid()) return fail_errno(errno, "make a socket");
  for (;;) {
    set_send_timeout(fd.get(), std::max(deadline.left(), std::chrono::milliseconds(1)));
    if (::connect(fd.get(), generic(*address), sizeof(*address)) == 0) break;
    if (errno != EINTR && errno != EAGAIN) return fail_errno(errno, "connect to " + path);
    if (deadline.passed()) return fail(Reason::kTimedOut, "connect to " + path);
  }
  set_send_timeout(fd.get(), std::chrono::microseconds(0));
  return fd;
}

Result<UniqueFd> accept_from(int listening_fd, Deadline deadline) {
  for (;;) {
    UniqueFd fd(::accept4(listening_fd, nullptr, nullptr, SOCK_CLOEXEC));
    if (fd.valid()) return fd;
    if (errno == EMFILE || errno == ENFILE) {
      return fail(Reason::kLimitsExceeded, "no file descriptor is left for a connection");
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN) return fail_errno(errno, "accept a connection");
    if (deadline.passed()) return fail(Reason::kTimedOut, "wait for a connection");
    pollfd entry{listening_fd, POLLIN, 0};
    const auto left = std::min<std::int64_t>(deadline.left().count(), 60'000);
    if (::poll(&entry, 1, static_cast<int>(left)) < 0 && errno != EINTR) {
      return fail_errno(errno, "wait for a connection");
    }
  }
}

}  // namespace coffer::ipc

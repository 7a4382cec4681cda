// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/channel.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>

namespace coffer::ipc {
namespace {

// Room for the fds of one message, aligned as the kernel wants it.
union ControlSpace {
  cmsghdr aligned;
  std::array<char, CMSG_SPACE(sizeof(int) * kMessageFdsMax)> bytes;
};

// Waits until `fd` is ready or failed; which of the two, the call that follows tells.
Result<void> wait_ready(int fd, short events, Deadline deadline) {
  for (;;) {
    pollfd entry{fd, events, 0};
    using std::chrono::nanoseconds;
    const auto left = std::clamp<nanoseconds>(deadline.at() - std::chrono::steady_clock::now(),
                                              nanoseconds(0), std::chrono::minutes(1));
    const auto whole = std::chrono::duration_cast<std::chrono::seconds>(left);
    const timespec time{whole.count(), (left - whole).count()};
    const int ready = ::ppoll(&entry, 1, &time, nullptr);
    if (ready > 0) return {};
    if (ready < 0 && errno != EINTR) return fail_errno(errno, "wait for a message channel");
    if (deadline.passed()) return fail(Reason::kTimedOut, "wait for a message channel");
  }
}

Result<void> check_outgoing(std::span<const ByteView> parts, std::span<const int> fds) {
  std::size_t total = 0;
  for (const ByteView part : parts) total += part.size();
  if (total == 0 || total > kMessageBytesMax || parts.size() > kMessagePartsMax) {
    return fail(Reason::kInvalidArgs, "message of " + std::to_string(total) + " bytes in " +
                                          std::to_string(parts.size()) + " parts");
  }
  if (fds.size() > kMessageFdsMax) {
    return fail(Reason::kInvalidArgs, "message with " + std::to_string(fds.size()) + " fds");
  }
  return {};
}

void attach_fds(msghdr& header, ControlSpace& control, std::span<const int> fds) {
  if (fds.empty()) return;
  header.msg_control = &control;
  header.msg_controllen = CMSG_SPACE(fds.size_bytes());
  cmsghdr* entry = CMSG_FIRSTHDR(&header);
  entry->cmsg_level = SOL_SOCKET;
  entry->cmsg_type = SCM_RIGHTS;
  entry->cmsg_len = CMSG_LEN(fds.size_bytes());
  std::memcpy(CMSG_DATA(entry), fds.data(), fds.size_bytes());
}

std::vector<UniqueFd> detach_fds(msghdr& header) {
  std::vector<UniqueFd> fds;
  for (cmsghdr* entry = CMSG_FIRSTHDR(&header); entry != nullptr;
       entry = CMSG_NXTHDR(&header, entry)) {
    if (entry->cmsg_level != SOL_SOCKET || entry->cmsg_type != SCM_RIGHTS) continue;
    const std::size_t count = (entry->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(entry) + i * sizeof(int), sizeof(int));
      fds.emplace_back(fd);
    }
  }
  return fds;
}

tl::unexpected<Error> peer_gone(Reason lost) {
  return fail(lost, "the peer closed its channel");
}

// The size of the next message, waiting for it; it stays in the queue.
Result<std::size_t> next_size(int fd, Reason lost, Deadline deadline) {
  for (;;) {
    std::byte unused{};
    const ssize_t size = ::recv(fd, &unused, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
    if (size > 0) return static_cast<std::size_t>(size);
    // Nobody sends an empty message, so this is the end.
    if (size == 0) return peer_gone(lost);
    // A peer that closed with unread messages is told as ECONNRESET once, before what it had sent.
    if (errno == EINTR || errno == ECONNRESET) continue;
    if (errno != EAGAIN) return fail_errno(errno, "receive a message");
    if (auto ready = wait_ready(fd, POLLIN, deadline); !ready) {
      return tl::unexpected(ready.error());
    }
  }
}

// Takes the next message out of the queue into `into`. With `flags` MSG_DONTWAIT it is there.
Result<Channel::Taken> take_next(int fd, Reason lost, std::span<std::byte> into, int flags) {
  ControlSpace control{};
  iovec space{into.data(), into.size()};
  msghdr header{};
  header.msg_iov = &space;
  header.msg_iovlen = 1;
  header.msg_control = &control;
  header.msg_controllen = sizeof(control);
  ssize_t got = -1;
  do {
    got = ::recvmsg(fd, &header, MSG_CMSG_CLOEXEC | flags);
  } while (got < 0 && (errno == EINTR || errno == ECONNRESET));
  if (got == 0) return peer_gone(lost);
  if (got < 0) return fail_errno(errno, "receive a message");

  Channel::Taken taken{static_cast<std::size_t>(got), detach_fds(header)};
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0) {
    return fail(Reason::kMessageInvalid, "message with too many bytes or file descriptors");
  }
  return taken;
}

// Gives the size of the next message if it is within the limit, and drops it otherwise.
Result<std::size_t> next_size_within_limit(int fd, Reason lost, Deadline deadline) {
  const auto size = next_size(fd, lost, deadline);
  if (!size || *size <= kMessageBytesMax) return size;
  std::byte first{};
  static_cast<void>(take_next(fd, lost, {&first, 1}, MSG_DONTWAIT));
  return fail(Reason::kMessageInvalid, "message of " + std::to_string(*size) + " bytes");
}

}  // namespace

Channel::Channel(UniqueFd socket, Reason lost) noexcept : socket_(std::move(socket)), lost_(lost) {}

Result<void> Channel::send(std::span<const ByteView> parts, std::span<const int> fds,
                           Deadline deadline) {
  if (auto fits = check_outgoing(parts, fds); !fits) return fits;
  std::array<iovec, kMessagePartsMax> pieces{};
  for (std::size_t i = 0; i < parts.size(); ++i) {
    // sendmsg() does not write to it.
    pieces[i] = {const_cast<std::byte*>(parts[i].data()), parts[i].size()};
  }
  ControlSpace control{};
  msghdr header{};
  header.msg_iov = pieces.data();
  header.msg_iovlen = parts.size();
  attach_fds(header, control, fds);
  for (;;) {
    if (::sendmsg(socket_.get(), &header, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) return {};
    if (errno == EINTR) continue;
    if (errno == EPIPE || errno == ECONNRESET || errno == ENOTCONN) return peer_gone(lost_);
    if (errno == ETOOMANYREFS) {
      return fail(Reason::kLimitsExceeded, "too many file descriptors are under way");
    }
    if (errno != EAGAIN) return fail_errno(errno, "send a message");
    if (auto ready = wait_ready(socket_.get(), POLLOUT, deadline); !ready) return ready;
  }
}

Result<Message> Channel::receive(Deadline deadline) {
  const auto size = next_size_within_limit(socket_.get(), lost_, deadline);
  if (!size) return tl::unexpected(size.error());
  Message message{Bytes(*size), {}};
  auto taken = take_next(socket_.get(), lost_, message.bytes, MSG_DONTWAIT);
  if (!taken) return tl::unexpected(taken.error());
  message.fds = std::move(taken->fds);
  return message;
}

Result<SecretMessage> Channel::receive_secret(Deadline deadline) {
  const auto size = next_size_within_limit(socket_.get(), lost_, deadline);
  if (!size) return tl::unexpected(size.error());
  auto bytes = SecretBytes::zeroed(*size);
  if (!bytes) return tl::unexpected(bytes.error());
  auto taken = take_next(socket_.get(), lost_, bytes->reveal_mutable(), MSG_DONTWAIT);
  if (!taken) return tl::unexpected(taken.error());
  return SecretMessage{std::move(*bytes), std::move(taken->fds)};
}

Result<Channel::Taken> Channel::receive_into(std::span<std::byte> room) {
  return take_next(socket_.get(), lost_, room, 0);
}

Result<void> Channel::wait_readable(Deadline deadline) const {
  return wait_ready(socket_.get(), POLLIN, deadline);
}

Result<PeerCredentials> Channel::peer() const {
  ucred credentials{};
  socklen_t size = sizeof(credentials);
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_PEERCRED, &credentials, &size) != 0) {
    return fail_errno(errno, "ask who the peer is");
  }
  return PeerCredentials{credentials.pid, credentials.uid, credentials.gid};
}

void Channel::shutdown() noexcept {
  ::shutdown(socket_.get(), SHUT_RDWR);
}
void Channel::shutdown_receiving() noexcept {
  ::shutdown(socket_.get(), SHUT_RD);
}

Result<std::pair<Channel, Channel>> channel_pair(Reason lost) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return fail_errno(errno, "make a socket pair");
  }
  return std::pair(Channel(UniqueFd(ends[0]), lost), Channel(UniqueFd(ends[1]), lost));
}

}  // namespace coffer::ipc

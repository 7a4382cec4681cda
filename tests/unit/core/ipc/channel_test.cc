// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/channel.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <thread>

#include "core/base/files.h"
#include "tests/support/result_matchers.h"
#include "tests/support/sanitizers.h"

namespace coffer::tests {
namespace {

using ipc::Channel;

Deadline soon() {
  return Deadline::after(std::chrono::milliseconds(5));
}
Deadline later() {
  return Deadline::after(std::chrono::seconds(10));
}

class ChannelTest : public testing::Test {
 protected:
  ChannelTest() {
    auto ends = ipc::channel_pair(Reason::kWorkerLost);
    here = std::move(ends->first);
    there = std::move(ends->second);
  }
  Channel here;
  Channel there;
};

TEST_F(ChannelTest, MessagesArriveWholeAndInOrder) {
  ASSERT_THAT(here.send(as_bytes("one"), {}, later()), Succeeds());
  const std::vector<ByteView> parts{as_bytes("tw"), {}, as_bytes("o")};
  ASSERT_THAT(here.send(parts, {}, later()), Succeeds());
  EXPECT_EQ(as_text(there.receive(later())->bytes), "one");
  EXPECT_EQ(as_text(there.receive(later())->bytes), "two");
}

TEST_F(ChannelTest, SecretsTravelFromLockedMemoryToLockedMemory) {
  const auto secret = SecretBytes::copy_of(as_bytes("key material"));
  const std::vector<ByteView> parts{as_bytes("head "), secret->reveal()};
  ASSERT_THAT(here.send(parts, {}, later()), Succeeds());
  const auto received = there.receive_secret(later());
  ASSERT_THAT(received, Succeeds());
  EXPECT_EQ(as_text(received->bytes.reveal()), "head key material");
}

TEST_F(ChannelTest, DescriptorsArriveCloseOnExecAndOpenTheSameFile) {
  const auto memfd = make_memfd("test", 5);
  ASSERT_THAT(write_exactly_at(memfd->get(), as_bytes("hello"), 0), Succeeds());
  const std::vector<int> fds(ipc::kMessageFdsMax, memfd->get());
  ASSERT_THAT(here.send(as_bytes("x"), fds, later()), Succeeds());
  const auto received = there.receive(later());
  ASSERT_THAT(received, Succeeds());
  ASSERT_EQ(received->fds.size(), ipc::kMessageFdsMax);
  for (const auto& fd : received->fds) {
    EXPECT_EQ(::fcntl(fd.get(), F_GETFD) & FD_CLOEXEC, FD_CLOEXEC);
    Bytes content(5);
    ASSERT_THAT(read_exactly_at(fd.get(), content, 0), Succeeds());
    EXPECT_EQ(as_text(content), "hello");
  }
}

TEST_F(ChannelTest, LargestMessagePassesAndALargerOneIsNotSent) {
  Bytes largest(ipc::kMessageBytesMax, std::byte{7});
  ASSERT_THAT(here.send(largest, {}, later()), Succeeds());
  EXPECT_EQ(there.receive(later())->bytes, largest);
  largest.push_back(std::byte{7});
  EXPECT_THAT(here.send(largest, {}, later()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(here.send(ByteView(), {}, later()), FailsWith(Reason::kInvalidArgs));
  const std::vector<int> fds(ipc::kMessageFdsMax + 1, here.fd());
  EXPECT_THAT(here.send(as_bytes("x"), fds, later()), FailsWith(Reason::kInvalidArgs));
  const std::vector<ByteView> parts(ipc::kMessagePartsMax + 1, as_bytes("x"));
  EXPECT_THAT(here.send(parts, {}, later()), FailsWith(Reason::kInvalidArgs));
}

TEST_F(ChannelTest, OversizedMessageIsRefusedAndTheNextOneArrives) {
  const Bytes large(ipc::kMessageBytesMax + 1);
  ASSERT_GT(::send(here.fd(), large.data(), large.size(), 0), 0);
  ASSERT_THAT(here.send(as_bytes("next"), {}, later()), Succeeds());
  EXPECT_THAT(there.receive(later()), FailsWith(Reason::kMessageInvalid));
  EXPECT_EQ(as_text(there.receive(later())->bytes), "next");
}

// Sends more descriptors than a channel would.
void send_raw_fds(int socket, std::size_t count) {
  std::vector<int> fds(count, socket);
  std::vector<char> control(CMSG_SPACE(fds.size() * sizeof(int)));
  char byte = 'x';
  iovec piece{&byte, 1};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  cmsghdr* entry = CMSG_FIRSTHDR(&header);
  entry->cmsg_level = SOL_SOCKET;
  entry->cmsg_type = SCM_RIGHTS;
  entry->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(entry), fds.data(), fds.size() * sizeof(int));
  ASSERT_EQ(::sendmsg(socket, &header, 0), 1);
}

int lowest_free_fd() {
  const UniqueFd fd(::dup(0));
  return fd.get();
}

TEST_F(ChannelTest, TooManyDescriptorsAreRefusedAndNoneLeaks) {
  const int before = lowest_free_fd();
  send_raw_fds(here.fd(), ipc::kMessageFdsMax + 4);
  EXPECT_THAT(there.receive(later()), FailsWith(Reason::kMessageInvalid));
  EXPECT_EQ(lowest_free_fd(), before);
}

TEST_F(ChannelTest, DescriptorsThatDoNotFitTheProcessAreAnErrorNotALoss) {
  const int free_fd = lowest_free_fd();
  rlimit old{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &old), 0);
  ASSERT_THAT(here.send(as_bytes("x"), std::vector<int>(4, here.fd()), later()), Succeeds());
  const rlimit tight{static_cast<rlim_t>(free_fd) + 2, old.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const auto received = there.receive(later());
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &old), 0);
  EXPECT_THAT(received, FailsWith(Reason::kMessageInvalid));
  EXPECT_EQ(lowest_free_fd(), free_fd);
}

TEST_F(ChannelTest, WaitsEndAtTheDeadline) {
  EXPECT_THAT(there.receive(soon()), FailsWith(Reason::kTimedOut));
  EXPECT_THAT(there.receive_secret(soon()), FailsWith(Reason::kTimedOut));
  const Bytes large(ipc::kMessageBytesMax);
  Result<void> sent;
  for (int i = 0; i < 1000 && sent; ++i) sent = here.send(large, {}, soon());
  EXPECT_THAT(sent, FailsWith(Reason::kTimedOut));
}

TEST_F(ChannelTest, LostPeerIsTheReasonGivenAndNoSignal) {
  ASSERT_THAT(there.send(as_bytes("last words"), {}, later()), Succeeds());
  // A message that nobody read makes the end abrupt.
  ASSERT_THAT(here.send(as_bytes("unread"), {}, later()), Succeeds());
  there = Channel();
  EXPECT_EQ(as_text(here.receive(later())->bytes), "last words");
  EXPECT_THAT(here.receive(later()), FailsWith(Reason::kWorkerLost));
  EXPECT_THAT(here.send(as_bytes("x"), {}, later()), FailsWith(Reason::kWorkerLost));
}

TEST_F(ChannelTest, ShutdownWakesAThreadThatWaits) {
  std::thread waiting([&] { EXPECT_THAT(there.receive(later()), FailsWith(Reason::kWorkerLost)); });
  there.shutdown();
  waiting.join();
}

TEST_F(ChannelTest, ShutdownOfReceivingLetsMessagesOut) {
  there.shutdown_receiving();
  EXPECT_THAT(there.receive(later()), FailsWith(Reason::kWorkerLost));
  ASSERT_THAT(there.send(as_bytes("out"), {}, later()), Succeeds());
  EXPECT_EQ(as_text(here.receive(later())->bytes), "out");
}

TEST_F(ChannelTest, PeerIsThisProcess) {
  const auto peer = here.peer();
  ASSERT_THAT(peer, Succeeds());
  EXPECT_EQ(peer->pid, ::getpid());
  EXPECT_EQ(peer->uid, ::geteuid());
}

TEST_F(ChannelTest, SecretWithoutLockedMemoryStaysInTheQueue) {
  if (!kMemoryLocks) GTEST_SKIP() << "sanitizers make mlock() do nothing";
  ASSERT_THAT(here.send(Bytes(60000), {}, later()), Succeeds());
  // In a child that is not root, which may lock any amount.
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0) ::_exit(2);
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(2);
    const auto received = there.receive_secret(later());
    ::_exit(!received && received.error().reason() == Reason::kNoMemory ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
  EXPECT_THAT(there.receive_secret(later()), Succeeds());
}

}  // namespace
}  // namespace coffer::tests

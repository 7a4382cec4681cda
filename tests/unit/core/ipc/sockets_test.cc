// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/ipc/channel.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

Deadline soon() {
  return Deadline::after(std::chrono::milliseconds(5));
}
Deadline later() {
  return Deadline::after(std::chrono::seconds(10));
}

class SocketsTest : public testing::Test {
 protected:
  TempDir folder;
  std::string path = folder.path() / "test.sock";
};

TEST_F(SocketsTest, ConnectsAndAccepts) {
  const auto listening = ipc::listen_at(path);
  ASSERT_THAT(listening, Succeeds());
  struct stat facts{};
  ASSERT_EQ(::stat(path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0600U);
  EXPECT_THAT(ipc::accept_from(listening->get(), soon()), FailsWith(Reason::kTimedOut));
  auto client = ipc::connect_to(path, later());
  ASSERT_THAT(client, Succeeds());
  auto server = ipc::accept_from(listening->get(), later());
  ASSERT_THAT(server, Succeeds());
  ipc::Channel one(std::move(*client));
  ipc::Channel other(std::move(*server));
  ASSERT_THAT(one.send(as_bytes("hello"), {}, later()), Succeeds());
  EXPECT_EQ(as_text(other.receive(later())->bytes), "hello");
}

TEST_F(SocketsTest, ListeningAgainReplacesASocketAndNothingElse) {
  ASSERT_THAT(ipc::listen_at(path), Succeeds());
  ASSERT_THAT(ipc::listen_at(path), Succeeds());
  const std::string file = folder.path() / "file";
  const UniqueFd made(::open(file.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  EXPECT_THAT(ipc::listen_at(file), FailsWith(Reason::kIoError));
}

TEST_F(SocketsTest, ConnectSaysWhatIsMissing) {
  EXPECT_THAT(ipc::connect_to(path, soon()), FailsWith(Reason::kNoSuchFile));
  ASSERT_THAT(ipc::listen_at(path), Succeeds());  // And closed again.
  EXPECT_THAT(ipc::connect_to(path, soon()), FailsWith(Reason::kIoError));
  EXPECT_THAT(ipc::connect_to(std::string(200, 'x'), soon()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(ipc::listen_at(std::string(200, 'x')), FailsWith(Reason::kInvalidArgs));
}

TEST_F(SocketsTest, ConnectWaitsNoLongerThanItsDeadlineForAFullQueue) {
  const auto listening = ipc::listen_at(path, 0600, 0);
  ASSERT_THAT(listening, Succeeds());
  std::vector<UniqueFd> waiting;
  Result<UniqueFd> last = UniqueFd();
  for (int i = 0; i < 8 && last; ++i) {
    last = ipc::connect_to(path, soon());
    if (last) waiting.push_back(std::move(*last));
  }
  EXPECT_THAT(last, FailsWith(Reason::kTimedOut));
}

// In a child, as systemd starts one: fds from 3 on, named by the environment.
int run_activated(int fd, const char* name) {
  const pid_t child = ::fork();
  if (child == 0) {
    // At 3, where it must stand; what stood there before is this child's own copy.
    if (fd != 3) ::dup2(fd, 3);
    ::setenv("LISTEN_PID", std::to_string(::getpid()).c_str(), 1);
    ::setenv("LISTEN_FDS", "1", 1);
    ::setenv("LISTEN_FDNAMES", name, 1);
    const auto sockets = ipc::sockets_from_systemd();
    if (!sockets) ::_exit(sockets.error().reason() == Reason::kConfigInvalid ? 2 : 3);
    const bool good = sockets->size() == 1 && sockets->front().name == name &&
                      sockets->front().fd.get() == 3 && ::getenv("LISTEN_FDS") == nullptr &&
                      (::fcntl(3, F_GETFL) & O_NONBLOCK) != 0 &&
                      (::fcntl(3, F_GETFD) & FD_CLOEXEC) != 0;
    ::_exit(good ? 0 : 1);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_F(SocketsTest, TakesNamedSocketsFromSystemd) {
  const auto listening = ipc::listen_at(path);
  EXPECT_EQ(run_activated(listening->get(), "control"), 0);
}

TEST_F(SocketsTest, RefusesASocketOfAnotherKind) {
  const UniqueFd wrong(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(run_activated(wrong.get(), "control"), 2);
}

TEST_F(SocketsTest, NothingComesFromSystemdOutsideAUnit) {
  const auto sockets = ipc::sockets_from_systemd();
  ASSERT_THAT(sockets, Succeeds());
  EXPECT_TRUE(sockets->empty());
}

}  // namespace
}  // namespace coffer::tests

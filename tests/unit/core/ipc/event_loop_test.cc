// SPDX-License-Identifier: Apache-2.0
#include "core/ipc/event_loop.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <csignal>
#include <thread>

#include "core/base/unique_fd.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

using ipc::EventLoop;
using ipc::EventSource;
using std::chrono::milliseconds;

class EventLoopTest : public testing::Test {
 protected:
  EventLoopTest() : loop(std::move(EventLoop::make().value())) {}
  std::unique_ptr<EventLoop> loop;
};

TEST_F(EventLoopTest, RunsPostedTasksInOrderAndThenExits) {
  std::vector<int> order;
  ASSERT_THAT(loop->post([&] { order.push_back(1); }), Succeeds());
  ASSERT_THAT(loop->post([&] {
    order.push_back(2);
    loop->exit(7);
    EXPECT_THAT(loop->post([&] { order.push_back(3); }), Succeeds());
  }),
              Succeeds());
  EXPECT_EQ(loop->run().value(), 7);
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
  EXPECT_FALSE(loop->run_once(milliseconds(0)).value());
}

TEST_F(EventLoopTest, OtherThreadsPostWhileItRuns) {
  int count = 0;
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      EXPECT_FALSE(loop->on_loop_thread());
      for (int n = 0; n < 250; ++n) {
        EXPECT_THAT(loop->post([&] {
          EXPECT_TRUE(loop->on_loop_thread());
          if (++count == 1000) loop->exit(0);
        }),
                    Succeeds());
      }
    });
  }
  EXPECT_EQ(loop->run().value(), 0);
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(count, 1000);
}

TEST_F(EventLoopTest, FullQueueRefuses) {
  for (std::size_t i = 0; i < EventLoop::kPostedMax; ++i) {
    ASSERT_THAT(loop->post([] {}), Succeeds());
  }
  EXPECT_THAT(loop->post([] {}), FailsWith(Reason::kLimitsExceeded));
}

TEST_F(EventLoopTest, TimersComeOnceOrAgainUntilDestroyed) {
  int once = 0;
  int often = 0;
  auto single = loop->after(milliseconds(1), [&] { ++once; }).value();
  EventSource repeated;
  repeated = loop->every(milliseconds(1),
                         [&] {
                           if (++often < 3) return;
                           repeated = EventSource();  // Itself, from within.
                           EXPECT_THAT(loop->post([&] { loop->exit(0); }), Succeeds());
                         })
                 .value();
  ASSERT_THAT(loop->run(), Succeeds());
  EXPECT_EQ(once, 1);
  EXPECT_EQ(often, 3);
  EXPECT_FALSE(repeated.active());
  EXPECT_TRUE(single.active());
}

TEST_F(EventLoopTest, WatchesDescriptors) {
  const UniqueFd event(::eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK));
  std::uint32_t seen = 0;
  auto source = loop->watch(event.get(), EPOLLIN,
                            [&](std::uint32_t events) {
                              seen = events;
                              loop->exit(0);
                            })
                    .value();
  ASSERT_THAT(loop->run(), Succeeds());
  EXPECT_EQ(seen, static_cast<std::uint32_t>(EPOLLIN));
}

TEST_F(EventLoopTest, HandlesBlockedSignals) {
  ASSERT_THAT(EventLoop::block_signals({SIGUSR1}), Succeeds());
  auto source = loop->on_signal(SIGUSR1, [&] { loop->exit(3); }).value();
  ASSERT_EQ(::kill(::getpid(), SIGUSR1), 0);
  EXPECT_EQ(loop->run().value(), 3);
}

TEST_F(EventLoopTest, RefusesASignalThatIsNotBlocked) {
  EXPECT_THAT(loop->on_signal(SIGUSR2, [] {}), FailsWith(Reason::kInternal));
}

TEST_F(EventLoopTest, DropsWhatWasPostedAndNotRun) {
  auto owned = std::make_shared<int>(1);
  ASSERT_THAT(loop->post([owned] {}), Succeeds());
  loop.reset();
  EXPECT_EQ(owned.use_count(), 1);
}

TEST_F(EventLoopTest, UseFromAnotherThreadAborts) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_DEATH(std::thread([&] { ipc::assert_on_loop(*loop); }).join(), "another thread");
}

TEST(NotifyTest, TellsSystemdWhenThereIsOne) {
  const TempDir folder;
  const std::string path = folder.path() / "notify";
  const UniqueFd socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(socket.get(), reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  ::setenv("NOTIFY_SOCKET", path.c_str(), 1);
  ipc::notify_ready();
  ipc::notify_status("two volumes open");
  ipc::notify_stopping();
  ::unsetenv("NOTIFY_SOCKET");
  ipc::notify_ready();
  const auto next = [&] {
    std::string text(200, '\0');
    const ssize_t size = ::recv(socket.get(), text.data(), text.size(), MSG_DONTWAIT);
    text.resize(size < 0 ? 0 : static_cast<std::size_t>(size));
    return text;
  };
  EXPECT_EQ(next(), "READY=1");
  EXPECT_EQ(next(), "STATUS=two volumes open");
  EXPECT_EQ(next(), "STOPPING=1");
  EXPECT_EQ(next(), "");
}

}  // namespace
}  // namespace coffer::tests

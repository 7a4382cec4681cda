// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <latch>
#include <thread>

#include "core/base/files.h"
#include "tests/unit/core/ipc/client_server_fixture.h"

namespace coffer::tests {
namespace {

TEST_P(ClientServerTest, AnswersComeBackWithTheirDescriptors) {
  start_server();
  Client client(client_options());
  const auto memfd = make_memfd("test", 1);
  const std::vector<int> fds{memfd->get()};
  const auto reply = client.call(kEcho, as_bytes("hello"), fds, later());
  ASSERT_THAT(reply, Succeeds());
  EXPECT_EQ(as_text(reply->body), "hello");
  EXPECT_EQ(reply->fds.size(), 1U);
  EXPECT_TRUE(client.connected());
  EXPECT_EQ(client.connections_made(), 1U);
  EXPECT_TRUE(client.call(kEcho, {}, later())->body.empty());
}

TEST_P(ClientServerTest, ErrorsOfTheHandlerComeBackWithReasonAndMessage) {
  start_server();
  Client client(client_options());
  const auto reply = client.call(kFail, {}, later());
  ASSERT_THAT(reply, FailsWith(Reason::kKeyDisabled));
  EXPECT_EQ(reply.error().message(), "the key is disabled");
  EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
}

TEST_P(ClientServerTest, ManyThreadsShareOneConnection) {
  auto options = server_options();
  options.handler_threads = 3;
  start_server(options);
  Client client(client_options());
  std::vector<std::thread> threads;
  threads.reserve(8);
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&, i] {
      for (int n = 0; n < 50; ++n) {
        const std::string text = std::to_string(i) + "/" + std::to_string(n);
        const auto reply = client.call(kEcho, as_bytes(text), later());
        ASSERT_THAT(reply, Succeeds());
        EXPECT_EQ(as_text(reply->body), text);
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(client.connections_made(), 1U);
}

TEST_P(ClientServerTest, SlowRequestDoesNotHoldUpOthersWithHandlerThreads) {
  auto options = server_options();
  options.handler_threads = 2;
  start_server(options);
  Client client(client_options());
  std::thread slow([&] { EXPECT_THAT(client.call(kBlock, {}, later()), Succeeds()); });
  gate.until_waiting(1);
  EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
  gate.open();
  slow.join();
}

TEST_P(ClientServerTest, RequestsBeyondTheQueueAreRefused) {
  auto options = server_options();
  options.handler_threads = 1;
  options.queue_max = 1;
  options.handle_on_reader = false;  // It would be one handler more.
  start_server(options);
  Client client(client_options());
  std::thread running([&] { EXPECT_THAT(client.call(kBlock, {}, later()), Succeeds()); });
  gate.until_waiting(1);
  // One of these waits in the queue, the other finds it full.
  int refused = 0;
  std::mutex refused_mutex;
  std::vector<std::thread> more;
  more.reserve(2);
  for (int i = 0; i < 2; ++i) {
    more.emplace_back([&] {
      const auto reply = client.call(kEcho, {}, later());
      if (reply) return;
      EXPECT_THAT(reply, FailsWith(Reason::kLimitsExceeded));
      {
        const std::scoped_lock lock(refused_mutex);
        ++refused;
      }
      gate.open();
    });
  }
  for (auto& thread : more) thread.join();
  running.join();
  EXPECT_EQ(refused, 1);
}

TEST_P(ClientServerTest, LateAnswerIsDroppedAndTheConnectionStays) {
  auto options = server_options();
  options.handler_threads = 2;
  start_server(options);
  Client client(client_options());
  EXPECT_THAT(client.call(kBlock, {}, soon()), FailsWith(Reason::kTimedOut));
  gate.open();
  EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
  EXPECT_EQ(client.connections_made(), 1U);
}

TEST_P(ClientServerTest, TooManyCallsAreRefused) {
  start_server();
  auto options = client_options();
  options.calls_max = 1;
  Client client(options);
  std::thread running([&] { EXPECT_THAT(client.call(kBlock, {}, later()), Succeeds()); });
  gate.until_waiting(1);
  EXPECT_THAT(client.call(kEcho, {}, later()), FailsWith(Reason::kLimitsExceeded));
  gate.open();
  running.join();
}

TEST_P(ClientServerTest, CallsAboveTheLimitsAreNotSent) {
  start_server();
  Client client(client_options());
  const Bytes large(ipc::kFrameBodyBytesMax + 1);
  EXPECT_THAT(client.call(kEcho, large, later()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(client.call(0, {}, later()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(client.call(ipc::kTypeReply, {}, later()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(client.call(kTooLarge, {}, later()), FailsWith(Reason::kLimitsExceeded));
  EXPECT_EQ(
      client.call(kEcho, ByteView(large).first(ipc::kFrameBodyBytesMax), later())->body.size(),
      ipc::kFrameBodyBytesMax);
}

TEST_P(ClientServerTest, AbsentServerFailsTheCallAndIsFoundLater) {
  Client client(client_options());
  EXPECT_THAT(client.call(kEcho, {}, later()), FailsWith(Reason::kWorkerLost));
  EXPECT_GE(client.attempts_failed(), 1U);
  start_server();
  EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
}

TEST_P(ClientServerTest, ServerThatGoesAwayFailsThePendingCallsAndIsFoundAgain) {
  auto options = client_options();
  // A server by hand, which takes the request and dies without an answer.
  auto ends = ipc::channel_pair();
  options.connect = [&, first = true](Deadline deadline) mutable -> Result<UniqueFd> {
    if (!std::exchange(first, false)) return ipc::connect_to(path, deadline);
    return ends->first.release();
  };
  start_server();
  Client client(options);
  std::thread caller(
      [&] { EXPECT_THAT(client.call(kEcho, {}, later()), FailsWith(Reason::kWorkerLost)); });
  ASSERT_THAT(ends->second.receive(later()), Succeeds());
  ends->second = ipc::Channel();
  caller.join();
  EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
  EXPECT_EQ(client.connections_made(), 2U);
}

TEST_P(ClientServerTest, KilledServerProcessIsNoticedAndItsSuccessorServes) {
  // As with socket activation: the listening socket outlives the process.
  const auto listening = ipc::listen_at(path);
  ASSERT_THAT(listening, Succeeds());
  const pid_t child = ::fork();
  if (child == 0) {
    auto connection = ipc::accept_from(listening->get(), later());
    ipc::Channel channel(std::move(*connection));
    static_cast<void>(channel.receive(later()));
    ::raise(SIGKILL);
  }
  Client client(client_options());
  EXPECT_THAT(client.call(kEcho, {}, later()), FailsWith(Reason::kWorkerLost));
  ::waitpid(child, nullptr, 0);
  server = std::make_unique<Server>(server_options(), [this](Request& r) { return handle(r); });
  ASSERT_THAT(server->listen(UniqueFd(::dup(listening->get()))), Succeeds());
  EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
}

TEST_P(ClientServerTest, StayingConnectedReconnectsWithoutACallAndTellsOfIt) {
  std::mutex states_mutex;
  std::condition_variable states_changed;
  std::vector<bool> states;
  auto options = client_options();
  options.stay_connected = true;
  options.on_connected = [&](bool connected) {
    const std::scoped_lock lock(states_mutex);
    states.push_back(connected);
    states_changed.notify_all();
  };
  const auto until = [&](const std::vector<bool>& wanted) {
    std::unique_lock lock(states_mutex);
    return states_changed.wait_for(lock, std::chrono::seconds(20),
                                   [&] { return states == wanted; });
  };
  start_server();
  const Client client(options);
  EXPECT_TRUE(until({true}));
  server.reset();
  EXPECT_TRUE(until({true, false}));
  start_server();
  EXPECT_TRUE(until({true, false, true}));
}

TEST_P(ClientServerTest, ServerThatDiesAtOnceIsBackedOffFrom) {
  auto options = client_options();
  options.stay_connected = true;
  options.backoff_min = milliseconds(1);
  options.backoff_max = std::chrono::hours(1);
  std::atomic<int> attempts{0};
  options.connect = [&](Deadline) -> Result<UniqueFd> {
    ++attempts;
    return ipc::channel_pair()->first.release();
  };
  const Client client(options);
  // 1 + 2 + 4 + … ms: by the time of the eighth attempt 127 ms have passed.
  const auto begin = std::chrono::steady_clock::now();
  while (attempts < 8) std::this_thread::yield();
  EXPECT_GE(std::chrono::steady_clock::now() - begin, milliseconds(120));
}

TEST_P(ClientServerTest, NoticesReachEveryClient) {
  start_server();
  std::latch received(2);
  auto options = client_options();
  options.callers_receive = false;  // It takes no notices.
  options.on_notice = [&](std::uint16_t type, ByteView body, const std::vector<UniqueFd>&) {
    EXPECT_EQ(type, 9);
    EXPECT_EQ(as_text(body), "news");
    received.count_down();
  };
  Client one(options);
  Client other(options);
  ASSERT_THAT(one.call(kEcho, {}, later()), Succeeds());
  ASSERT_THAT(other.call(kEcho, {}, later()), Succeeds());
  server->notify_all(9, as_bytes("news"));
  received.wait();
}

TEST_P(ClientServerTest, SecretsAreReceivedIntoLockedMemoryOnBothSides) {
  auto options = server_options();
  options.secret = true;
  Server secret_server(options, [](Request& request) -> Result<Reply> {
    Reply reply;
    reply.body = {std::byte{'<'}};
    auto copy = SecretBytes::copy_of(request.body);
    if (!copy) return tl::unexpected(copy.error());
    reply.secret = std::move(*copy);
    return reply;
  });
  auto ends = ipc::channel_pair();
  ASSERT_THAT(secret_server.serve(ends->second.release()), Succeeds());
  auto asking = client_options();
  asking.secret = true;
  asking.connect = [&](Deadline) -> Result<UniqueFd> { return ends->first.release(); };
  Client client(asking);
  const auto key = SecretBytes::copy_of(as_bytes("key"));
  const std::vector<ByteView> parts{as_bytes("a "), key->reveal()};
  const auto reply = client.call(kEcho, parts, {}, later());
  ASSERT_THAT(reply, Succeeds());
  EXPECT_TRUE(reply->body.empty());
  EXPECT_EQ(as_text(reply->secret.reveal()), "<a key");
}

TEST_P(ClientServerTest, StopFailsTheCallsUnderWay) {
  start_server();
  Client client(client_options());
  std::thread caller(
      [&] { EXPECT_THAT(client.call(kBlock, {}, later()), FailsWith(Reason::kCancelled)); });
  gate.until_waiting(1);
  client.stop();
  caller.join();
  EXPECT_THAT(client.call(kEcho, {}, later()), FailsWith(Reason::kCancelled));
  client.stop();
}

TEST_P(ClientServerTest, StoppingServerFinishesWhatItHasBegun) {
  auto options = server_options();
  options.handler_threads = 1;
  start_server(options);
  Client client(client_options());
  std::thread caller([&] { EXPECT_THAT(client.call(kBlock, {}, later()), Succeeds()); });
  gate.until_waiting(1);
  std::thread stopping([&] { server->stop(); });
  gate.open();
  stopping.join();
  caller.join();
  EXPECT_EQ(server->connections(), 0U);
  auto ends = ipc::channel_pair();
  EXPECT_THAT(server->serve(ends->first.release()), FailsWith(Reason::kCancelled));
}

TEST_P(ClientServerTest, MalformedMessageEndsItsConnectionAlone) {
  start_server();
  Client client(client_options());
  ASSERT_THAT(client.call(kEcho, {}, later()), Succeeds());
  const std::vector<Bytes> malformed{Bytes(3), ipc::encode_frame({ipc::kTypeReply, 1}, {}),
                                     ipc::encode_frame({0, 1}, {}),
                                     Bytes(ipc::kMessageBytesMax + 1)};
  int count = 0;
  for (const Bytes& message : malformed) {
    auto socket = ipc::connect_to(path, later());
    ASSERT_THAT(socket, Succeeds());
    ASSERT_GT(::send(socket->get(), message.data(), message.size(), 0), 0);
    ipc::Channel channel(std::move(*socket), Reason::kWorkerLost);
    EXPECT_THAT(channel.receive(later()), FailsWith(Reason::kWorkerLost));
    until_disconnected(++count);
  }
  EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
  EXPECT_EQ(client.connections_made(), 1U);
  const std::scoped_lock lock(mutex);
  ASSERT_EQ(faults.size(), malformed.size());
  for (const Error& fault : faults) EXPECT_EQ(fault.reason(), Reason::kMessageInvalid);
}

TEST_P(ClientServerTest, MalformedAnswerFailsTheCallAndClosesTheConnection) {
  for (const Bytes& answer : {Bytes(5), ipc::encode_frame({kEcho, 1}, {})}) {
    auto ends = ipc::channel_pair();
    auto options = client_options();
    options.connect = [&](Deadline) -> Result<UniqueFd> { return ends->first.release(); };
    Client client(options);
    std::thread caller(
        [&] { EXPECT_THAT(client.call(kEcho, {}, later()), FailsWith(Reason::kMessageInvalid)); });
    ASSERT_THAT(ends->second.receive(later()), Succeeds());
    ASSERT_THAT(ends->second.send(answer, {}, later()), Succeeds());
    caller.join();
    EXPECT_FALSE(ends->second.receive(later()).has_value());
  }
}

TEST_P(ClientServerTest, OtherUsersAreRefusedByServerAndClient) {
  auto options = server_options();
  options.peers = {::geteuid() + 1};
  start_server(options);
  auto ends = ipc::channel_pair();
  EXPECT_THAT(server->serve(ends->first.release()), FailsWith(Reason::kAccessDenied));
  Client client(client_options());
  EXPECT_THAT(client.call(kEcho, {}, later()), FailsWith(Reason::kWorkerLost));

  auto wary = client_options();
  wary.server_uid = ::geteuid() + 1;
  Client refusing(wary);
  EXPECT_THAT(refusing.call(kEcho, {}, later()), FailsWith(Reason::kWorkerLost));
}

TEST_P(ClientServerTest, ConnectionsBeyondTheLimitAreClosed) {
  auto options = server_options();
  options.connections_max = 1;
  start_server(options);
  Client first(client_options());
  ASSERT_THAT(first.call(kEcho, {}, later()), Succeeds());
  auto ends = ipc::channel_pair();
  EXPECT_THAT(server->serve(ends->first.release()), FailsWith(Reason::kLimitsExceeded));
  first.stop();
  until_disconnected(1);
  while (server->connections() > 0) std::this_thread::yield();
  Client second(client_options());
  EXPECT_THAT(second.call(kEcho, {}, later()), Succeeds());
}

TEST_P(ClientServerTest, SomethingElseCannotBeListenedOn) {
  start_server();
  auto ends = ipc::channel_pair();
  EXPECT_THAT(server->listen(ends->first.release()), FailsWith(Reason::kInvalidArgs));
}

TEST_P(ClientServerTest, PeerThatTakesNoAnswersIsCutOff) {
  auto options = server_options();
  options.send_timeout = milliseconds(5);
  start_server(options);
  auto socket = ipc::connect_to(path, later());
  ASSERT_THAT(socket, Succeeds());
  ipc::Channel channel(std::move(*socket), Reason::kWorkerLost);
  const Bytes large = ipc::encode_frame({kEcho, 1}, Bytes(60000));
  Result<void> sent;
  for (int i = 0; i < 100 && sent; ++i) sent = channel.send(large, {}, later());
  EXPECT_THAT(sent, FailsWith(Reason::kWorkerLost));
}

INSTANTIATE_TEST_SUITE_P(Ways, ClientServerTest, testing::Bool(), [](const auto& way) {
  return std::string(way.param ? "ByCallersAndReaders" : "ByThreads");
});

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include <thread>
#include <vector>

#include "core/ipc/channel.h"
#include "core/ipc/frame.h"
#include "tests/unit/core/ipc/client_server_fixture.h"

namespace coffer::tests {
namespace {

// What callers and readers do for each other.
class TurnsTest : public ClientServerTest {};

TEST_P(TurnsTest, AnswersThatNobodyWaitsForDoNotFillTheSocket) {
  constexpr int kCalls = 16;  // Of 60 KB each: more than a socket holds.
  auto options = server_options();
  options.handler_threads = kCalls;
  options.send_timeout = milliseconds(5000);
  start_server(options);
  Client client(client_options());
  const Bytes large(60'000);
  std::vector<std::thread> callers;
  callers.reserve(kCalls);
  for (int i = 0; i < kCalls; ++i) {
    callers.emplace_back([&] {
      EXPECT_THAT(client.call(kBlock, large, Deadline::after(milliseconds(500))),
                  FailsWith(Reason::kTimedOut));
    });
  }
  for (auto& caller : callers) caller.join();
  // One that is not even waited for.
  const ByteView view(large);
  {
    EXPECT_THAT(client.send(kBlock, {&view, 1}, {}, later()), Succeeds());
  }
  gate.until_waiting(kCalls);
  gate.open();
  server->stop();  // Once all its answers were taken.
  const std::scoped_lock lock(mutex);
  EXPECT_TRUE(faults.empty());
}

TEST_P(TurnsTest, AnswersSentBeforeTheEndAreReceived) {
  auto listening = ipc::listen_at(path);
  ASSERT_THAT(listening, Succeeds());
  Client client(client_options());
  std::thread caller([&] {
    const ByteView nothing;
    auto first = client.send(kEcho, {&nothing, 1}, {}, later());
    auto second = client.send(kEcho, {&nothing, 1}, {}, later());
    ASSERT_THAT(first, Succeeds());
    ASSERT_THAT(second, Succeeds());
    gate.wait();
    EXPECT_THAT(second->wait(), Succeeds());
    EXPECT_THAT(first->wait(), Succeeds());
  });
  {
    auto socket = ipc::accept_from(listening->get(), later());
    ASSERT_THAT(socket, Succeeds());
    ipc::Channel channel(std::move(*socket));
    for (int i = 0; i < 2; ++i) {
      const auto message = channel.receive(later());
      ASSERT_THAT(message, Succeeds());
      const auto frame = ipc::decode_frame(message->bytes);
      ASSERT_THAT(channel.send(ipc::encode_frame({ipc::kTypeReply, frame->header.request_id}, {}),
                               {}, later()),
                  Succeeds());
    }
  }
  gate.open();
  caller.join();
}

// While one call waits, the answers of others come through it, and it hands its turn on.
TEST_P(TurnsTest, CallsThatEndInAnyOrderDoNotHoldUpEachOther) {
  auto options = server_options();
  options.handler_threads = 3;
  start_server(options);
  Client client(client_options());
  std::thread slow([&] { EXPECT_THAT(client.call(kBlock, {}, later()), Succeeds()); });
  gate.until_waiting(1);
  std::thread gives_up(
      [&] { EXPECT_THAT(client.call(kBlock, {}, soon()), FailsWith(Reason::kTimedOut)); });
  for (int i = 0; i < 100; ++i) EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
  gives_up.join();
  for (int i = 0; i < 100; ++i) EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
  gate.open();
  slow.join();
}

// A thread that was quick so far is left the requests behind the one it has. When that one lasts,
// another is woken for them.
TEST_P(TurnsTest, WhatIsLeftToAThreadThatStaysAwayIsDoneByAnother) {
  auto options = server_options();
  options.handler_threads = GetParam() ? 1 : 2;
  start_server(options);
  Client client(client_options());
  for (int i = 0; i < 20; ++i) ASSERT_THAT(client.call(kEcho, {}, later()), Succeeds());
  std::thread slow([&] { EXPECT_THAT(client.call(kBlock, {}, later()), Succeeds()); });
  gate.until_waiting(1);
  for (int i = 0; i < 20; ++i) EXPECT_THAT(client.call(kEcho, {}, later()), Succeeds());
  gate.open();
  slow.join();
}

INSTANTIATE_TEST_SUITE_P(Ways, TurnsTest, testing::Bool(), [](const auto& way) {
  return std::string(way.param ? "ByCallersAndReaders" : "ByThreads");
});

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/delivery_server.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "core/ipc/sockets.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::agent {
namespace {

using tests::FailsWith;
using tests::Succeeds;

Deadline soon() {
  return Deadline::after(std::chrono::seconds(10));
}

class DeliveryServerTest : public ::testing::Test {
 protected:
  std::string path() const { return (folder_.path() / "deliver.sock").string(); }
  ipc::Channel connect() {
    return ipc::Channel(ipc::connect_to(path(), soon()).value(), Reason::kWorkerLost);
  }
  Bytes packet() {
    const auto secret = hsm::encode_delivery({}, 3, {}, SecretBytes::zeroed(64).value()).value();
    return {secret.reveal().begin(), secret.reveal().end()};
  }
  tests::TempDir folder_;
};

TEST_F(DeliveryServerTest, EachDeliveryIsAnswered) {
  std::vector<std::uint32_t> taken;
  DeliveryServer server({::getuid()}, [&](const hsm::Delivery& delivery) -> Result<void> {
    taken.push_back(delivery.index);
    if (taken.size() == 2) return fail(Reason::kTicketUnknown, "not expected");
    return {};
  });
  ASSERT_THAT(server.listen(ipc::listen_at(path()).value()), Succeeds());
  auto channel = connect();
  for (const auto reason : {std::optional<Reason>(), std::optional(Reason::kTicketUnknown)}) {
    ASSERT_THAT(channel.send(packet(), {}, soon()), Succeeds());
    const auto reply = channel.receive(soon());
    ASSERT_THAT(reply, Succeeds());
    const auto outcome = hsm::decode_delivery_reply(reply->bytes);
    if (reason)
      EXPECT_THAT(outcome, FailsWith(*reason));
    else
      EXPECT_THAT(outcome, Succeeds());
  }
  server.stop();
  EXPECT_EQ(taken, (std::vector<std::uint32_t>{3, 3}));
}

TEST_F(DeliveryServerTest, OtherUsersAreCutOff) {
  DeliveryServer server({::getuid() + 1}, [](const hsm::Delivery&) -> Result<void> {
    ADD_FAILURE() << "took a key from somebody else";
    return {};
  });
  ASSERT_THAT(server.listen(ipc::listen_at(path()).value()), Succeeds());
  auto channel = connect();
  static_cast<void>(channel.send(packet(), {}, soon()).has_value());
  EXPECT_THAT(channel.receive(soon()), FailsWith(Reason::kWorkerLost));
}

TEST_F(DeliveryServerTest, WhatIsNoDeliveryEndsTheConnection) {
  DeliveryServer server({::getuid()}, [](const hsm::Delivery&) { return Result<void>(); });
  ASSERT_THAT(server.listen(ipc::listen_at(path()).value()), Succeeds());
  auto channel = connect();
  ASSERT_THAT(channel.send(as_bytes("nonsense"), {}, soon()), Succeeds());
  EXPECT_THAT(channel.receive(soon()), FailsWith(Reason::kWorkerLost));
  auto again = connect();
  ASSERT_THAT(again.send(packet(), {}, soon()), Succeeds());
  EXPECT_THAT(again.receive(soon()), Succeeds());
}

TEST_F(DeliveryServerTest, ConnectionsAreLimited) {
  DeliveryServer server({::getuid()}, [](const hsm::Delivery&) { return Result<void>(); });
  std::vector<ipc::Channel> others;
  for (std::size_t i = 0; i < DeliveryServer::kConnectionsMax; ++i) {
    auto pair = ipc::channel_pair().value();
    ASSERT_THAT(server.serve(pair.first.release()), Succeeds());
    others.push_back(std::move(pair.second));
  }
  auto pair = ipc::channel_pair().value();
  EXPECT_THAT(server.serve(pair.first.release()), FailsWith(Reason::kLimitsExceeded));
  server.stop();
  EXPECT_THAT(server.serve(ipc::channel_pair().value().first.release()),
              FailsWith(Reason::kCancelled));
}

}  // namespace
}  // namespace coffer::agent

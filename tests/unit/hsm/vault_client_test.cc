// SPDX-License-Identifier: Apache-2.0
// The client of a vault process, and the vault's own client of the worker, with peers that are slow
// or silent.
#include "hsm/vault_client.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <future>
#include <mutex>

#include "core/ipc/channel.h"
#include "core/ipc/server.h"
#include "core/ipc/sockets.h"
#include "hsm/delivery_client.h"
#include "hsm/vault_protocol.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::hsm {
namespace {

using keyring::Presented;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tests::FailsWith;
using tests::Succeeds;

Presented one_key() {
  Presented key{
      {keyring::KekProfile::kAesGcm, *CmkId::random(), 1, Bytes(12), Bytes(64), Bytes(16)}, {}};
  key.context.volume = *VolumeId::random();
  key.context.cipher = "aes-xts-plain64";
  key.context.key_bytes = 64;
  return key;
}

class VaultClientTest : public testing::Test {
 protected:
  using Handler = ipc::Server::Handler;

  void serve(Handler handler, std::size_t threads = 0) {
    ipc::Server::Options serving;
    serving.name = "vault";
    serving.handler_threads = threads;
    server_ = std::make_unique<ipc::Server>(std::move(serving), std::move(handler));
    const auto path = (folder_.path() / "vault.sock").string();
    ASSERT_THAT(server_->listen(*ipc::listen_at(path)), Succeeds());
    VaultClient::Options options;
    options.name = "the vault";
    options.socket_path = path;
    options.call_timeout = call_timeout_;
    client_ = std::make_unique<VaultClient>(std::move(options));
  }
  std::vector<Result<void>> deliver(std::size_t count, Deadline deadline) {
    const std::vector<Presented> keys(count, one_key());
    std::vector<std::uint32_t> indexes(count);
    for (std::size_t i = 0; i < count; ++i) indexes[i] = static_cast<std::uint32_t>(100 + i);
    return client_->deliver(Bytes(10), keys, keyring::Ticket{}, indexes, deadline);
  }

  tests::TempDir folder_;
  milliseconds call_timeout_{4500};
  std::mutex mutex_;
  std::vector<std::uint32_t> done_;  // Indexes that were delivered.
  int messages_ = 0;
  std::unique_ptr<ipc::Server> server_;
  std::unique_ptr<VaultClient> client_;
};

TEST_F(VaultClientTest, AKeyPairIsGivenTheTimeThatItTakes) {
  milliseconds time{0};
  serve([&](const ipc::Request& request) -> Result<ipc::Reply> {
    const auto timed = decode_request_time(request.body);
    EXPECT_THAT(timed, Succeeds());
    const std::scoped_lock lock(mutex_);
    time = timed->time;
    return fail(Reason::kUnsupported, "the time was seen");
  });
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  EXPECT_THAT(client_->create_cmk(parameters), FailsWith(Reason::kUnsupported));
  EXPECT_LT(time, milliseconds(4500));
  parameters.algorithm = keyring::KeyAlgorithm::kRsa4096;
  parameters.usage = keyring::KeyUsage::kSignVerify;
  EXPECT_THAT(client_->create_cmk(parameters), FailsWith(Reason::kUnsupported));
  EXPECT_GT(time, seconds(20));
  EXPECT_THAT(client_->prepare_import(Bytes(10), keyring::ImportWrapping::kRsaPkcs1),
              FailsWith(Reason::kUnsupported));
  EXPECT_GT(time, seconds(20));
}

TEST_F(VaultClientTest, ASlowVaultIsAskedAgainForWhatItHadNotBegun) {
  // In the time of one message this vault delivers ten keys.
  serve([&](const ipc::Request& request) -> Result<ipc::Reply> {
    const auto timed = decode_request_time(request.body);
    EXPECT_THAT(timed, Succeeds());
    EXPECT_GT(timed->time, milliseconds(0));
    EXPECT_LT(timed->time, milliseconds(4500)) << "the answer needs time for its way";
    const auto asked = decode_deliver(timed->body);
    EXPECT_THAT(asked, Succeeds());
    const std::scoped_lock lock(mutex_);
    ++messages_;
    std::vector<Result<void>> results;
    for (std::size_t i = 0; i < asked->indexes.size(); ++i) {
      if (i < 10) done_.push_back(asked->indexes[i]);
      results.emplace_back(i < 10 ? Result<void>()
                                  : Result<void>(fail(Reason::kHsmTimeout, "not its turn")));
    }
    ipc::Reply reply;
    reply.body = encode_results(results);
    return reply;
  });
  for (const auto& result : deliver(75, Deadline::after(seconds(30))))
    EXPECT_THAT(result, Succeeds());
  EXPECT_EQ(messages_, 8);
  ASSERT_EQ(done_.size(), 75U) << "each key once";
  std::ranges::sort(done_);
  for (std::size_t i = 0; i < done_.size(); ++i) EXPECT_EQ(done_[i], 100 + i);
}

// Two messages are under way: the first is answered once the second has come.
TEST_F(VaultClientTest, WhatWasUnwrappedBehindASupersededRecordIsThrownAway) {
  std::promise<void> second;
  bool supersedes = false;
  serve(
      [&](const ipc::Request& request) -> Result<ipc::Reply> {
        const auto asked = decode_unwrap(decode_request_time(request.body)->body);
        EXPECT_THAT(asked, Succeeds());
        // The vault's threads may begin them in either order.
        const bool first = asked->keys.size() == VaultClient::kKeysFirstMax;
        if (first) {
          EXPECT_EQ(second.get_future().wait_for(seconds(10)), std::future_status::ready);
        } else {
          second.set_value();
        }
        std::vector<Result<SecretBytes>> results;
        results.reserve(asked->keys.size());
        for (std::size_t i = 0; i < asked->keys.size(); ++i) {
          results.push_back(first && supersedes
                                ? Result<SecretBytes>(fail(Reason::kRecordSuperseded, "changed"))
                                : SecretBytes::random(32));
        }
        ipc::Reply reply;
        reply.secret = *encode_results(results);
        return reply;
      },
      2);
  Presented key = one_key();
  key.context = {};
  key.context.purpose = keyring::Purpose::kEnvelopeData;
  key.context.key_bytes = 32;
  const std::vector<Presented> keys(VaultClient::kKeysFirstMax + 5, key);
  const auto unwrap = [&] {
    return client_->unwrap(Bytes(10), keys, Deadline::after(seconds(30)));
  };
  for (const auto& result : unwrap()) EXPECT_THAT(result, Succeeds());

  second = {};
  supersedes = true;
  for (const auto& result : unwrap()) EXPECT_THAT(result, FailsWith(Reason::kRecordSuperseded));
}

TEST_F(VaultClientTest, KeysAreMadeUnderIndexesThatFollowEachOtherThoughOneIsRefused) {
  std::vector<std::pair<std::uint32_t, std::size_t>> asked;
  serve([&](const ipc::Request& request) -> Result<ipc::Reply> {
    const auto made = decode_make_deks(decode_request_time(request.body)->body);
    EXPECT_THAT(made, Succeeds());
    const std::scoped_lock lock(mutex_);
    asked.emplace_back(made->first_index, made->contexts.size());
    return fail(Reason::kHsmBusy, "as the test wants");
  });
  std::vector<keyring::KeyContext> contexts(4, one_key().context);
  contexts[1].tenant = std::string(65, 'x');  // Outside its limits.
  const auto results =
      client_->make_deks(Bytes(10), contexts, {}, 10, Deadline::after(seconds(30)));
  EXPECT_THAT(results.at(0), FailsWith(Reason::kHsmBusy));
  EXPECT_THAT(results.at(1), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(results.at(3), FailsWith(Reason::kHsmBusy));
  EXPECT_EQ(asked, (std::vector<std::pair<std::uint32_t, std::size_t>>{{10, 1}, {12, 2}}));
}

TEST_F(VaultClientTest, ASilentVaultIsWaitedForOnceAndNotForEachMessage) {
  call_timeout_ = milliseconds(500);
  std::promise<void> over;
  std::promise<void> asked;
  std::once_flag once;
  const auto gate = over.get_future().share();
  serve([&](const ipc::Request&) -> Result<ipc::Reply> {
    {
      const std::scoped_lock lock(mutex_);
      ++messages_;
    }
    std::call_once(once, [&] { asked.set_value(); });
    gate.wait();
    return ipc::Reply();
  });
  const auto results = deliver(200, Deadline::after(seconds(30)));
  ASSERT_EQ(results.size(), 200U);
  for (const auto& result : results) EXPECT_THAT(result, FailsWith(Reason::kHsmTimeout));
  // On a busy machine the client may have given up before the vault has read the message.
  EXPECT_EQ(asked.get_future().wait_for(seconds(30)), std::future_status::ready);
  over.set_value();
  client_.reset();
  server_->stop();
  EXPECT_EQ(messages_, 1);
}

TEST_F(VaultClientTest, TheCallersDeadlineIsTheVaults) {
  serve([&](const ipc::Request& request) -> Result<ipc::Reply> {
    const auto timed = decode_request_time(request.body);
    EXPECT_LE(timed->time, milliseconds(1000));
    const std::scoped_lock lock(mutex_);
    ++messages_;
    return fail(Reason::kHsmBusy, "as the test wants");
  });
  EXPECT_THAT(deliver(1, Deadline::after(milliseconds(1000))).at(0), FailsWith(Reason::kHsmBusy));
  EXPECT_EQ(messages_, 1);
  EXPECT_THAT(deliver(1, Deadline(SteadyTime{})).at(0), FailsWith(Reason::kHsmTimeout));
  EXPECT_EQ(messages_, 1) << "what has no time left is not sent";
}

TEST(DeliveryClientTest, ASilentWorkerIsWaitedForUntilTheCallsDeadlineOnly) {
  const tests::TempDir folder;
  const auto path = (folder.path() / "deliver.sock").string();
  const auto listening = ipc::listen_at(path);  // Takes connections, never answers.
  ASSERT_THAT(listening, Succeeds());
  DeliveryClient client({.socket_path = path, .timeout = std::chrono::hours(1)});
  const auto dek = *SecretBytes::random(64);
  EXPECT_THAT(client.deliver({}, 0, {}, dek, Deadline::after(milliseconds(30))),
              FailsWith(Reason::kWorkerLost));

  // Nor does one that waits behind another wait for longer.
  auto other = std::async(std::launch::async, [&] {
    return client.deliver({}, 1, {}, dek, Deadline::after(std::chrono::hours(1)));
  });
  const auto soon = Deadline::after(seconds(30));
  ASSERT_THAT(ipc::accept_from(listening->get(), soon), Succeeds()) << "the first one's";
  auto accepted = ipc::accept_from(listening->get(), soon);
  ASSERT_THAT(accepted, Succeeds());
  ipc::Channel worker(std::move(*accepted));
  ASSERT_THAT(worker.receive(soon), Succeeds());  // Now it waits for the answer.
  auto behind = std::async(std::launch::async, [&] {
    return client.deliver({}, 2, {}, dek, Deadline::after(milliseconds(30)));
  });
  EXPECT_EQ(behind.wait_for(seconds(30)), std::future_status::ready);
  EXPECT_EQ(other.wait_for(seconds(0)), std::future_status::timeout);
  worker = ipc::Channel();
  EXPECT_THAT(behind.get(), FailsWith(Reason::kWorkerLost));
  EXPECT_THAT(other.get(), FailsWith(Reason::kWorkerLost));
}

TEST(DeliveryClientTest, NothingIsSentOnceTheTimeIsOver) {
  const tests::TempDir folder;
  const auto path = (folder.path() / "deliver.sock").string();
  const auto listening = ipc::listen_at(path);
  ASSERT_THAT(listening, Succeeds());
  DeliveryClient client({.socket_path = path});
  EXPECT_THAT(client.deliver({}, 0, {}, *SecretBytes::random(64), Deadline(SteadyTime{})),
              FailsWith(Reason::kWorkerLost));
  EXPECT_THAT(ipc::accept_from(listening->get(), Deadline(SteadyTime{})),
              FailsWith(Reason::kTimedOut));
}

}  // namespace
}  // namespace coffer::hsm

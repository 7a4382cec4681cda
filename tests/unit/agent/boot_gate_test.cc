// SPDX-License-Identifier: Apache-2.0
#include "agent/boot_gate.h"

#include <gtest/gtest.h>

#include <thread>

#include "core/ipc/channel.h"
#include "core/ipc/client.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using agent::BootGate;
using agent::BootStatus;
using agent::VolumeState;
using std::chrono::milliseconds;

class BootGateTest : public ::testing::Test {
 protected:
  void SetUp() override { loop = ipc::EventLoop::make().value(); }

  void make_gate(milliseconds deadline) {
    gate = std::make_unique<BootGate>(*loop, [this] { return status; }, deadline);
    auto ends = ipc::channel_pair().value();
    ASSERT_THAT(gate->serve(ends.first.release()), Succeeds());
    auto socket = std::make_shared<UniqueFd>(ends.second.release());
    ipc::Client::Options options;
    options.connect = [socket](Deadline) -> Result<UniqueFd> {
      if (!socket->valid()) return fail(Reason::kAgentUnreachable, "used up");
      return std::move(*socket);
    };
    client = std::make_unique<ipc::Client>(std::move(options));
  }

  // Asks on another thread while the loop runs here.
  Result<ipc::BootReport> ask(milliseconds wait, const std::function<void()>& meanwhile = {}) {
    Result<ipc::BootReport> report = fail(Reason::kInternal, "no answer");
    std::atomic<bool> done = false;
    std::thread asker([&] {
      const auto reply = client->call(ipc::kTypeBootWait, ipc::encode_boot_request(wait),
                                      Deadline::after(milliseconds(10'000)));
      report = reply ? ipc::decode_boot_report(reply->body)
                     : Result<ipc::BootReport>(tl::unexpected(reply.error()));
      done = true;
    });
    if (meanwhile) meanwhile();
    while (!done) EXPECT_THAT(loop->run_once(milliseconds(5)), Succeeds());
    asker.join();
    return report;
  }

  std::unique_ptr<ipc::EventLoop> loop;
  BootStatus status{.finished = false,
                    .lines = {{"good", VolumeState::kUnlocked, "after 3 ms"},
                              {"bad", VolumeState::kFailed, "HsmAbsent: no token"}}};
  std::unique_ptr<BootGate> gate;
  std::unique_ptr<ipc::Client> client;
};

TEST_F(BootGateTest, AnswersWhenTheBootIsOverWithTheBadOnesFirst) {
  make_gate(milliseconds(10'000));
  const auto report = ask(milliseconds(0), [&] {
    status.finished = true;
    gate->finish();
  });
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->finished);
  EXPECT_EQ(report->open, 1U);
  EXPECT_EQ(report->total, 2U);
  EXPECT_EQ(report->lines.front().name, "bad");
  EXPECT_EQ(report->lines.front().state, "failed");
}

TEST_F(BootGateTest, AnswersAtTheDeadlineThoughNothingIsOver) {
  make_gate(milliseconds(20));
  const auto report = ask(milliseconds(0));
  ASSERT_THAT(report, Succeeds());
  EXPECT_FALSE(report->finished);
  EXPECT_EQ(report->deadline, milliseconds(20));
}

TEST_F(BootGateTest, TellsAtOnceThatTheAgentCannotBegin) {
  make_gate(milliseconds(60'000));
  const auto report = ask(milliseconds(0), [&] {
    gate->refuse(Error(Reason::kStoreDamaged, "registry.db is not a database"));
  });
  EXPECT_THAT(report, FailsWith(Reason::kStoreDamaged));
  EXPECT_THAT(report.error().message(), ::testing::HasSubstr("registry.db"));
}

TEST_F(BootGateTest, EndsWaitsWhenTheAgentStops) {
  make_gate(milliseconds(60'000));
  const auto report = ask(milliseconds(0), [&] {
    EXPECT_THAT(loop->run_once(milliseconds(20)), Succeeds());
    gate.reset();
  });
  EXPECT_FALSE(report.has_value());
}

TEST(BootProtocolTest, TextsAndLinesAreCutToTheirLimits) {
  ipc::BootReport report;
  for (int i = 0; i < 300; ++i) report.lines.push_back({"n", "failed", std::string(1000, 'x')});
  const auto back = ipc::decode_boot_report(ipc::encode_boot_report(report));
  ASSERT_THAT(back, Succeeds());
  EXPECT_EQ(back->lines.size(), ipc::kBootLinesMax);
  EXPECT_LE(back->lines.front().text.size(), ipc::kBootTextBytesMax);
  EXPECT_THAT(ipc::decode_boot_report(as_bytes("x")), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(ipc::decode_boot_request(as_bytes("x")), FailsWith(Reason::kMessageInvalid));
}

}  // namespace
}  // namespace coffer::tests

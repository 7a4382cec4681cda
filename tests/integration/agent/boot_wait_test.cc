// SPDX-License-Identifier: Apache-2.0
// The program coffer-boot-wait against the gate of cofferd.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "agent/boot_gate.h"
#include "core/ipc/sockets.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using agent::BootGate;
using agent::BootStatus;
using agent::VolumeState;
using std::chrono::milliseconds;
using testing::HasSubstr;

class BootWaitTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string path = (std::filesystem::temp_directory_path() / "coffer-boot-XXXXXX").string();
    ASSERT_NE(::mkdtemp(path.data()), nullptr);
    folder = path;
    loop = ipc::EventLoop::make().value();
  }
  void TearDown() override {
    gate.reset();
    std::error_code error;
    std::filesystem::remove_all(folder, error);
  }

  std::string socket() const { return (folder / "boot.sock").string(); }
  void make_gate(milliseconds deadline) {
    gate = std::make_unique<BootGate>(*loop, [this] { return tell(); }, deadline);
    ASSERT_THAT(gate->listen(ipc::listen_at(socket()).value()), Succeeds());
  }

  // As an agent whose loop is busy with its start when the first question comes.
  BootStatus tell() {
    std::this_thread::sleep_for(std::exchange(busy, milliseconds(0)));
    return status;
  }

  // What the program wrote, while the loop serves it here.
  std::string run(const std::string& options) {
    std::string output;
    std::atomic<bool> done = false;
    std::thread reader([&] {
      const std::string command = (bin_dir() / "coffer-boot-wait").string() + " --socket " +
                                  socket() + " " + options + " 2>&1";
      if (FILE* program = ::popen(command.c_str(), "r")) {
        std::array<char, 256> part{};
        while (std::fgets(part.data(), static_cast<int>(part.size()), program) != nullptr) {
          output += part.data();
        }
        exit_status = ::pclose(program);
      }
      done = true;
    });
    while (!done) EXPECT_THAT(loop->run_once(milliseconds(5)), Succeeds());
    reader.join();
    return output;
  }

  std::filesystem::path folder;
  std::unique_ptr<ipc::EventLoop> loop;
  BootStatus status{.finished = false,
                    .lines = {{"good", VolumeState::kUnlocked, "after 3 ms"},
                              {"bad", VolumeState::kFailed, "HsmAbsent: no token"}}};
  std::unique_ptr<BootGate> gate;
  milliseconds busy{0};
  int exit_status = -1;
};

TEST_F(BootWaitTest, AnAgentThatAnswersIsWaitedForUntilItsOwnDeadline) {
  // Its first answer is within the limit also on a loaded machine, its deadline is not.
  make_gate(std::chrono::seconds(5));
  const std::string output = run("--limit 3");
  EXPECT_THAT(output, HasSubstr("1 of 2 volumes are open; the others are still being opened"));
  EXPECT_THAT(output, HasSubstr("HsmAbsent: no token"));
  EXPECT_EQ(exit_status, 0);
}

TEST_F(BootWaitTest, AnAgentThatIsBusyAtFirstIsWaitedFor) {
  busy = milliseconds(2500);  // Longer than the gate waits for the loop.
  make_gate(milliseconds(50));
  EXPECT_THAT(run("--limit 30"), HasSubstr("1 of 2 volumes are open"));
}

TEST_F(BootWaitTest, TheAgentsDeadlineCountsFromTheBeginOfTheWait) {
  const milliseconds deadline{600'000};
  const milliseconds first_answer{300};
  std::mutex mutex;  // The server's thread asks, this one looks.
  std::vector<milliseconds> asked;
  const auto take_asked = [&] {
    const std::lock_guard lock(mutex);
    return std::exchange(asked, {});
  };
  ipc::Server::Options options;
  options.name = "an agent";
  options.peers = {0, ::getuid()};
  ipc::Server server(options, [&](ipc::Request& request) -> Result<ipc::Reply> {
    const auto time = ipc::decode_boot_request(request.body).value();
    bool is_first = false;
    {
      const std::lock_guard lock(mutex);
      is_first = asked.empty();
      asked.push_back(time);
    }
    if (is_first) std::this_thread::sleep_for(first_answer);
    ipc::BootReport report;
    report.deadline = deadline;
    ipc::Reply reply;
    reply.body = ipc::encode_boot_report(report);
    return reply;
  });
  ASSERT_THAT(server.listen(ipc::listen_at(socket()).value()), Succeeds());
  EXPECT_THAT(run("--limit 30"), HasSubstr("the boot goes on"));
  const auto times = take_asked();
  ASSERT_EQ(times.size(), 2U);
  EXPECT_LE(times.back(), deadline - first_answer);
  EXPECT_GT(times.back(), milliseconds(0));
  run("--limit 30 --deadline 60");
  const auto shorter = take_asked();
  ASSERT_FALSE(shorter.empty());
  EXPECT_LE(shorter.back(), milliseconds(60'000) - first_answer);
}

TEST_F(BootWaitTest, ARefusalThatMayPassIsNotTheEnd) {
  std::atomic<int> asked = 0;
  ipc::Server::Options options;
  options.name = "an agent";
  options.peers = {0, ::getuid()};
  ipc::Server server(options, [&](ipc::Request& /*request*/) -> Result<ipc::Reply> {
    const int before = asked++;
    if (before == 0) return fail(Reason::kStoreUnavailable, "the disk is slow");
    if (before == 1) return fail(Reason::kTimedOut, "the agent is busy");
    ipc::Reply reply;
    ipc::BootReport report;
    report.finished = true;
    reply.body = ipc::encode_boot_report(report);
    return reply;
  });
  ASSERT_THAT(server.listen(ipc::listen_at(socket()).value()), Succeeds());
  EXPECT_THAT(run("--limit 30"), HasSubstr("0 of 0 volumes are open"));
  EXPECT_EQ(asked, 3);
}

TEST_F(BootWaitTest, ARefusalThatDoesNotPassInTimeIsTold) {
  make_gate(milliseconds(50));
  gate->refuse(Error(Reason::kStoreUnavailable, "the disk is away"));
  EXPECT_THAT(run("--limit 1"), HasSubstr("cofferd cannot begin, the boot goes on: StoreUnavail"));
}

TEST_F(BootWaitTest, AFinishedBootIsToldAtOnce) {
  status.finished = true;
  make_gate(std::chrono::minutes(10));
  gate->finish();
  EXPECT_THAT(run("--limit 10"), HasSubstr("1 of 2 volumes are open\n"));
}

TEST_F(BootWaitTest, AnAgentThatIsNotThereIsGivenUpAtTheLimit) {
  EXPECT_THAT(run("--limit 1"), HasSubstr("cofferd does not answer"));
  EXPECT_EQ(exit_status, 0);
  EXPECT_THAT(run("--limit 1 --strict"), HasSubstr("cofferd does not answer"));
  EXPECT_NE(exit_status, 0);
}

}  // namespace
}  // namespace coffer::tests

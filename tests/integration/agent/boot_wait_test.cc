// SPDX-License-Identifier: Apache-2.0
// The program coffer-boot-wait against the gate of cofferd.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <thread>

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
    gate = std::make_unique<BootGate>(*loop, [this] { return status; }, deadline);
    ASSERT_THAT(gate->listen(ipc::listen_at(socket()).value()), Succeeds());
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
  int exit_status = -1;
};

TEST_F(BootWaitTest, AnAgentThatAnswersIsWaitedForUntilItsOwnDeadline) {
  make_gate(milliseconds(2500));
  const std::string output = run("--limit 1");
  EXPECT_THAT(output, HasSubstr("1 of 2 volumes are open; the others are still being opened"));
  EXPECT_THAT(output, HasSubstr("HsmAbsent: no token"));
  EXPECT_EQ(exit_status, 0);
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

// SPDX-License-Identifier: Apache-2.0
// cofferd and coffer-boot-wait, as systemd starts them, when the agent cannot begin.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "core/base/clock.h"
#include "core/base/unique_fd.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using ::testing::HasSubstr;

struct Ended {
  int status = -1;  // Exit status.
  std::string output;
};

// Runs `command` in a shell to its end.
Ended run(const std::string& command) {
  Ended ended;
  FILE* pipe = ::popen((command + " 2>&1").c_str(), "re");
  if (pipe == nullptr) return ended;
  std::array<char, 512> line{};
  while (std::fgets(line.data(), line.size(), pipe) != nullptr) ended.output += line.data();
  const int status = ::pclose(pipe);
  ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : -1;
  return ended;
}

class StartTroubleTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string made = (std::filesystem::temp_directory_path() / "coffer-start-XXXXXX").string();
    ASSERT_NE(::mkdtemp(made.data()), nullptr);
    folder = made;
    std::filesystem::create_directory(folder / "state");
    std::ofstream(path("host-id")) << "11111111-2222-4333-8444-555555555555\n";
    write_config("");
    listen_for_status();
  }
  void TearDown() override {
    end_agent();
    std::filesystem::remove_all(folder);
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }
  // As a whole: an agent that reads half of it would take the defaults for the rest.
  void write_config(const std::string& further) const {
    std::ofstream(path("new")) << "[paths]\nstate = \"" << path("state") << "\"\nrun = \""
                               << folder.string() << "\"\nhost_id = \"" << path("host-id") << "\"\n"
                               << further;
    std::filesystem::rename(path("new"), path("cofferd.toml"));
  }

  // Where sd_notify() of the agent goes.
  void listen_for_status() {
    status.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const std::string name = path("notify");
    ASSERT_LT(name.size(), sizeof(address.sun_path));
    std::memcpy(&address.sun_path[0], name.c_str(), name.size() + 1);
    ASSERT_EQ(::bind(status.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)),
              0);
  }
  bool is_told_to_systemd(const std::string& text) const {
    const Deadline patience = Deadline::after(std::chrono::seconds(60));
    while (!patience.passed()) {
      pollfd waiting{.fd = status.get(), .events = POLLIN, .revents = 0};
      if (::poll(&waiting, 1, 1000) <= 0) continue;
      std::array<char, 4096> message{};
      const auto size = ::recv(status.get(), message.data(), message.size(), 0);
      if (size <= 0) return false;
      const std::string said(message.data(), static_cast<std::size_t>(size));
      if (said.find(text) != std::string::npos) return true;
    }
    return false;
  }

  std::string command(bool with_socket) const {
    return (bin_dir() / "cofferd").string() + " --config " + path("cofferd.toml") + " --bus none" +
           (with_socket ? " --boot-socket " + path("boot.sock") : "");
  }
  void start_agent() {
    const std::string words = "exec " + command(true);
    agent = ::fork();
    if (agent != 0) return;
    ::setenv("NOTIFY_SOCKET", path("notify").c_str(), 1);
    ::execl("/bin/sh", "sh", "-c", words.c_str(), nullptr);
    ::_exit(127);
  }
  int end_agent() {
    if (agent <= 0) return -1;
    int ended = 0;
    ::kill(agent, SIGTERM);
    ::waitpid(std::exchange(agent, -1), &ended, 0);
    return WIFEXITED(ended) ? WEXITSTATUS(ended) : -1;
  }
  // Far under its limit, or the test's own time is over.
  Ended wait_for_boot(const std::string& options = "") const {
    return run((bin_dir() / "coffer-boot-wait").string() + " --socket " + path("boot.sock") +
               " --limit 3600 --deadline 3600 " + options);
  }
  // An agent whose status nobody reads waits at last.
  void pass_over_status() const {
    std::array<char, 4096> message{};
    while (::recv(status.get(), message.data(), message.size(), MSG_DONTWAIT) > 0) {
    }
  }
  // Once the agent could begin, there are no volumes.
  bool begins_at_last() const {
    const Deadline patience = Deadline::after(std::chrono::seconds(60));
    while (!patience.passed()) {
      pass_over_status();
      if (wait_for_boot().output.find("0 of 0 volumes are open") != std::string::npos) return true;
    }
    return false;
  }

  std::filesystem::path folder;
  UniqueFd status;
  pid_t agent = -1;
};

TEST_F(StartTroubleTest, AWrongConfigurationEndsTheBootsWaitWithItsNameAndIsReadAgain) {
  write_config("[boot]\nnonsense = 1\n");
  start_agent();

  const Ended waited = wait_for_boot();
  EXPECT_EQ(waited.status, 0) << "the boot goes on";
  EXPECT_THAT(waited.output, HasSubstr("cannot begin"));
  EXPECT_THAT(waited.output, HasSubstr("ConfigInvalid"));
  EXPECT_THAT(waited.output, HasSubstr("nonsense"));
  EXPECT_EQ(wait_for_boot("--strict").status, 1);
  EXPECT_TRUE(is_told_to_systemd("STATUS=cannot begin, tries again: ConfigInvalid"));

  write_config("");
  EXPECT_TRUE(begins_at_last());
  EXPECT_TRUE(is_told_to_systemd("STATUS=serving"));
  EXPECT_EQ(end_agent(), 0);
}

TEST_F(StartTroubleTest, AStoreThatCannotBeReadEndsTheBootsWaitWithItsName) {
  for (const std::string store : {"registry.db", "keyring.db"}) {
    std::ofstream(path("state/" + store)) << std::string(8192, 'x');
    start_agent();
    EXPECT_THAT(wait_for_boot().output, HasSubstr("StoreDamaged")) << store;
    EXPECT_TRUE(is_told_to_systemd("StoreDamaged")) << store;
    EXPECT_EQ(end_agent(), 0) << "it can be stopped meanwhile";
    std::filesystem::remove(path("state/" + store));
  }
}

TEST_F(StartTroubleTest, WithoutABootSocketTheExitStatusSaysWhy) {
  std::ofstream(path("state/registry.db")) << std::string(8192, 'x');
  EXPECT_EQ(run(command(false)).status, 69);
  write_config("[boot]\nnonsense = 1\n");
  EXPECT_EQ(run(command(false)).status, 78);
}

}  // namespace
}  // namespace coffer::tests

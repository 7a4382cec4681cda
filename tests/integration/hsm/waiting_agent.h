// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string_view>

#include "core/base/unique_fd.h"
#include "tests/support/paths.h"

namespace coffer::tests {

// A cofferd of the host in `folder`, told by it what it does.
class WaitingAgent {
 public:
  explicit WaitingAgent(const std::filesystem::path& folder) {
    std::filesystem::create_directories(folder / "run");
    const auto config = (folder / "agent.toml").string();
    std::ofstream(config) << "[paths]\nstate = \"" << (folder / "var/lib/coffer/agent").string()
                          << "\"\nrun = \"" << (folder / "run").string() << "\"\nhost_id = \""
                          << (folder / "etc/coffer/host-id").string() << "\"\n";
    const auto notify = (folder / "run/notify").string();
    status_.reset(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(&address.sun_path[0], notify.c_str(), sizeof(address.sun_path) - 1);
    const timeval patience{.tv_sec = 60, .tv_usec = 0};
    ::setsockopt(status_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (::bind(status_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0)
      return;
    const auto program = (bin_dir() / "cofferd").string();
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::setenv("NOTIFY_SOCKET", notify.c_str(), 1);
    ::execl(program.c_str(), program.c_str(), "--config", config.c_str(), "--bus", "none", nullptr);
    ::_exit(127);
  }
  ~WaitingAgent() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGTERM);
    ::waitpid(pid_, nullptr, 0);
  }
  WaitingAgent(const WaitingAgent&) = delete;
  WaitingAgent& operator=(const WaitingAgent&) = delete;

  // Waits until it says so.
  bool says(std::string_view text) const {
    std::array<char, 4096> message{};
    for (;;) {
      const auto size = ::recv(status_.get(), message.data(), message.size(), 0);
      if (size <= 0) return false;
      if (std::string_view(message.data(), static_cast<std::size_t>(size)).find(text) !=
          std::string_view::npos)
        return true;
    }
  }

 private:
  UniqueFd status_;
  pid_t pid_ = -1;
};

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/command.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>

#include "core/base/unique_fd.h"

namespace coffer::tests {
namespace {

// Ends a child that does not end itself, and collects it.
int end_of(pid_t child, std::chrono::milliseconds limit) {
  const UniqueFd watched(static_cast<int>(::syscall(SYS_pidfd_open, child, 0)));
  pollfd ended{.fd = watched.get(), .events = POLLIN, .revents = 0};
  if (::poll(&ended, 1, static_cast<int>(limit.count())) != 1) ::kill(child, SIGKILL);
  int status = 0;
  if (::waitpid(child, &status, 0) != child || !WIFEXITED(status)) return -1;
  return WEXITSTATUS(status);
}

std::string text_in(int fd) {
  std::string text;
  std::array<char, 4096> buffer{};
  for (off_t at = 0;;) {
    const auto got = ::pread(fd, buffer.data(), buffer.size(), at);
    if (got <= 0) return text;
    text.append(buffer.data(), static_cast<std::size_t>(got));
    at += got;
  }
}

}  // namespace

CommandEnd run_command(std::vector<std::string> words, const CommandOptions& options) {
  std::vector<char*> argv;
  argv.reserve(words.size() + 1);
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  const UniqueFd output(
      options.output_path.empty()
          ? ::memfd_create("output", MFD_CLOEXEC)
          : ::open(options.output_path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  posix_spawn_file_actions_t actions{};
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_addopen(&actions, 0, options.input_path.c_str(), O_RDONLY, 0);
  ::posix_spawn_file_actions_adddup2(&actions, output.get(), 1);
  ::posix_spawn_file_actions_adddup2(&actions, output.get(), 2);
  pid_t child = -1;
  const int failed = ::posix_spawnp(&child, argv[0], &actions, nullptr, argv.data(), ::environ);
  ::posix_spawn_file_actions_destroy(&actions);
  CommandEnd end;
  if (failed == 0) end.status = end_of(child, options.limit);
  end.output = text_in(output.get());
  return end;
}

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/listening_process.h"

#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>

#include "core/ipc/sockets.h"

namespace coffer::tests {

ListeningProcess::~ListeningProcess() {
  kill();
}

Result<void> ListeningProcess::start() {
  std::filesystem::remove(socket_path_);  // Of the one before, which was killed.
  std::vector<char*> argv;
  argv.reserve(words_.size() + 1);
  for (auto& word : words_) argv.push_back(word.data());
  argv.push_back(nullptr);
  if (const int failed = ::posix_spawn(&pid_, argv[0], nullptr, nullptr, argv.data(), ::environ);
      failed != 0) {
    pid_ = -1;
    return fail_errno(failed, "start " + words_.front());
  }

  const auto deadline = Deadline::after(std::chrono::seconds(20));
  while (!deadline.passed()) {
    if (ipc::connect_to(socket_path_, deadline)) return {};
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return fail(Reason::kInternal, words_.front() + " ended at its start");
    }
    ::poll(nullptr, 0, 5);
  }
  return fail(Reason::kTimedOut, words_.front() + " did not listen");
}

void ListeningProcess::send_signal(int number) const {
  if (pid_ > 0) ::kill(pid_, number);
}

int ListeningProcess::wait() {
  int status = 0;
  if (pid_ > 0) ::waitpid(pid_, &status, 0);
  pid_ = -1;
  return status;
}

void ListeningProcess::kill() {
  send_signal(SIGKILL);
  wait();
}

}  // namespace coffer::tests

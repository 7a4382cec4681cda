// SPDX-License-Identifier: Apache-2.0
#include "tests/support/kill_point.h"

#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdint>
#include <set>

namespace coffer::tests {
namespace {

constexpr std::array kChanging{
    SYS_pwrite64, SYS_pwritev,   SYS_fsync,    SYS_fdatasync, SYS_ftruncate,      SYS_fallocate,
    SYS_renameat, SYS_renameat2, SYS_unlinkat, SYS_mkdirat,   SYS_io_uring_enter, SYS_linkat,
#ifdef SYS_rename  // Of older machines alone.
    SYS_rename,   SYS_unlink,    SYS_mkdir,    SYS_link,      SYS_rmdir,
#endif
};

bool is_point(const ::__ptrace_syscall_info& info) {
  if (info.op != PTRACE_SYSCALL_INFO_ENTRY) return false;
  const auto call = static_cast<long>(info.entry.nr);
  const auto& arguments = info.entry.args;
  if (call == SYS_write || call == SYS_writev) return arguments[0] > STDERR_FILENO;
  if (call == SYS_openat) return (arguments[2] & static_cast<std::uint64_t>(O_CREAT)) != 0;
  return std::ranges::find(kChanging, call) != kChanging.end();
}

[[noreturn]] void become(char* const* words, char* const* environment) {
  const int nowhere = ::open("/dev/null", O_RDWR);
  const bool ready = nowhere >= 0 && ::dup2(nowhere, STDIN_FILENO) >= 0 &&
                     ::dup2(nowhere, STDOUT_FILENO) >= 0 && ::dup2(nowhere, STDERR_FILENO) >= 0 &&
                     ::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr) == 0;
  if (ready) ::execve(words[0], words, environment);
  ::_exit(127);
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> all;
  all.reserve(texts.size());
  for (auto& text : texts) all.push_back(text.data());
  return all;
}

// The program with its threads, each of which stops before and after every call of the kernel.
class Watch {
 public:
  Watch(::pid_t child, std::optional<std::size_t> kill_at, Watched watched)
      : child_(child), kill_at_(kill_at), watched_(watched) {}

  Result<WatchedRun> run() {
    int status = 0;
    if (::waitpid(child_, &status, 0) != child_) return fail_errno(errno, "wait for a program");
    if (!WIFSTOPPED(status)) return fail(Reason::kIoError, "a program cannot be watched here");
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_EXITKILL;
    if (watched_ == Watched::kChildren) options |= PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK;
    if (::ptrace(PTRACE_SETOPTIONS, child_, nullptr, options) != 0) {
      return fail_errno(errno, "watch a program");
    }
    go_on(child_, 0);
    for (;;) {
      const ::pid_t task = ::waitpid(-1, &status, __WALL);
      if (task < 0 && errno == ECHILD && ended_) return run_;
      if (task < 0) return fail_errno(errno, "wait for a program");
      if (WIFSTOPPED(status)) {
        tasks_.insert(task);
        stopped(task, status);
        continue;
      }
      tasks_.erase(task);
      if (task == child_) {
        ended_ = true;
        if (WIFEXITED(status)) run_.status = WEXITSTATUS(status);
      }
      if (ended_ && (watched_ == Watched::kProgram || tasks_.empty())) return run_;
    }
  }

 private:
  static void go_on(::pid_t task, int signal) {
    ::ptrace(PTRACE_SYSCALL, task, nullptr, static_cast<long>(signal));
  }

  void stopped(::pid_t task, int status) {
    constexpr int kCall = SIGTRAP | 0x80;  // PTRACE_O_TRACESYSGOOD
    const int signal = WSTOPSIG(status);
    // Begun just before the kill.
    if (run_.killed) {
      ::kill(task, SIGKILL);
      return;
    }
    if (signal != kCall) {
      // The news of another task, which may not have stopped yet.
      unsigned long begun = 0;
      if (status >> 16 != 0 && ::ptrace(PTRACE_GETEVENTMSG, task, nullptr, &begun) == 0)
        tasks_.insert(static_cast<::pid_t>(begun));
      // A thread's first stop and the news of it are this watch's own.
      const bool own = signal == SIGSTOP || signal == SIGTRAP;
      return go_on(task, own ? 0 : signal);
    }
    ::__ptrace_syscall_info info{};
    const long got = ::ptrace(PTRACE_GET_SYSCALL_INFO, task, sizeof(info), &info);
    if (got > 0 && !run_.killed && is_point(info)) {
      if (run_.points == kill_at_) {
        run_.killed = true;
        for (const ::pid_t one : tasks_) ::kill(one, SIGKILL);
        return;
      }
      ++run_.points;
    }
    go_on(task, 0);
  }

  ::pid_t child_;
  std::optional<std::size_t> kill_at_;
  Watched watched_;
  WatchedRun run_;
  std::set<::pid_t> tasks_;  // Processes and their threads.
  bool ended_ = false;       // The program itself.
};

}  // namespace

Result<WatchedRun> run_to_kill_point(std::vector<std::string> words,
                                     std::vector<std::string> environment,
                                     std::optional<std::size_t> kill_at, Watched watched) {
  auto arguments = pointers(words);
  arguments.push_back(nullptr);
  auto variables = pointers(environment);
  for (char** one = environ; *one != nullptr; ++one) variables.push_back(*one);
  variables.push_back(nullptr);
  const ::pid_t child = ::fork();
  if (child < 0) return fail_errno(errno, "start a program");
  if (child == 0) become(arguments.data(), variables.data());
  return Watch(child, kill_at, watched).run();
}

}  // namespace coffer::tests

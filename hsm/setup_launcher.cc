// SPDX-License-Identifier: Apache-2.0
#include "hsm/setup_launcher.h"

#include <fcntl.h>
#include <grp.h>
#include <pwd.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <utility>

#include "core/base/files.h"
#include "core/ipc/channel.h"
#include "core/ipc/frame.h"

namespace coffer::hsm {
namespace {

constexpr int kExitNotStarted = 126;
constexpr int kInheritedFd = 3;
constexpr std::size_t kLineBytesMax = 1024;
constexpr int kGroupsMax = 256;
constexpr std::chrono::seconds kSetupDeadline{90};

struct Ids {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;
};

Result<Ids> ids_of(const std::string& user) {
  // Called while there is one thread alone.
  const passwd* entry = ::getpwnam(user.c_str());
  if (entry == nullptr) return fail(Reason::kNoSuchFile, "there is no user " + user);
  Ids ids{entry->pw_uid, entry->pw_gid, std::vector<gid_t>(kGroupsMax)};
  int count = kGroupsMax;
  if (::getgrouplist(user.c_str(), ids.gid, ids.groups.data(), &count) < 0)
    return fail(Reason::kInternal, "user " + user + " is in too many groups");
  ids.groups.resize(static_cast<std::size_t>(count));
  return ids;
}

// In the child: false when it could not become that user for good. With its groups, as a service of
// that user has them: one may own the HSM's device.
bool become(const Ids& ids) {
  return ::setgroups(ids.groups.size(), ids.groups.data()) == 0 &&
         ::setresgid(ids.gid, ids.gid, ids.gid) == 0 && ::setresuid(ids.uid, ids.uid, ids.uid) == 0;
}

// A copy of `fd` at `number`, which survives exec.
bool place(int fd, int number) {
  if (fd == number) return ::fcntl(fd, F_SETFD, 0) == 0;
  return ::dup2(fd, number) == number;
}

// This process twice, each with one end of a socket pair.
struct Forked {
  pid_t pid = -1;          // 0 in the child.
  std::optional<Ids> ids;  // Of the user that the child is to become, if any.
  UniqueFd end;
};

Result<Forked> fork_for(const RunAs& user) {
  Forked forked;
  if (!user.user.empty()) {
    const auto found = ids_of(user.user);
    if (!found) return tl::unexpected(found.error());
    forked.ids = *found;
  }
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0)
    return fail_errno(errno, "make a socket pair", Reason::kInternal);
  UniqueFd mine(ends[0]);
  UniqueFd theirs(ends[1]);
  forked.pid = ::fork();
  if (forked.pid < 0) return fail_errno(errno, "fork", Reason::kInternal);
  forked.end = std::move(forked.pid == 0 ? theirs : mine);
  return forked;
}

[[noreturn]] void become_program(const std::vector<std::string>& arguments,
                                 const std::optional<Ids>& ids, int socket, int inherited) {
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): execv does not write to them.
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  // Out of the way of the numbers that are given out now.
  const int from = inherited < 0 ? -1 : ::fcntl(inherited, F_DUPFD_CLOEXEC, kInheritedFd + 1);
  const bool ready = place(socket, STDIN_FILENO) &&
                     (inherited < 0 || (from >= 0 && place(from, kInheritedFd))) &&
                     (!ids || become(*ids));
  if (ready) ::execv(argv[0], argv.data());
  ::_exit(kExitNotStarted);
}

}  // namespace

Result<void> RunAs::change_owner(const std::string& path) const {
  if (user.empty()) return {};
  const auto ids = ids_of(user);
  if (!ids) return tl::unexpected(ids.error());
  if (::lchown(path.c_str(), ids->uid, ids->gid) != 0)
    return fail_errno(errno, "give " + path + " to " + user);
  return {};
}

Child::~Child() {
  socket_.reset();
  if (pid_ > 0) ::waitpid(pid_, nullptr, 0);
}

Result<void> Child::wait() {
  socket_.reset();
  int status = 0;
  const pid_t pid = std::exchange(pid_, -1);
  while (::waitpid(pid, &status, 0) < 0) {
    if (errno != EINTR) return fail_errno(errno, "wait for a child process", Reason::kInternal);
  }
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return {};
  if (WIFEXITED(status))
    return fail(Reason::kInternal,
                "a child process ended with status " + std::to_string(WEXITSTATUS(status)));
  return fail(Reason::kInternal,
              "a child process was ended by signal " + std::to_string(WTERMSIG(status)));
}

Result<Child> start_program(const std::vector<std::string>& arguments, const RunAs& user,
                            int inherited) {
  auto forked = fork_for(user);
  if (!forked) return pass(forked.error(), "start " + arguments.front());
  if (forked->pid == 0) become_program(arguments, forked->ids, forked->end.get(), inherited);
  return Child(forked->pid, std::move(forked->end));
}

Result<void> run_as(const RunAs& user, const std::function<Result<void>()>& work,
                    std::chrono::seconds time_max) {
  auto forked = fork_for(user);
  if (!forked) return tl::unexpected(forked.error());
  if (forked->pid == 0) {
    if (forked->ids && !become(*forked->ids)) ::_exit(kExitNotStarted);
    ipc::Channel channel(std::move(forked->end));
    const auto done = work();
    const Bytes text = done ? Bytes{std::byte{1}} : ipc::encode_error(done.error());
    const auto sent = channel.send(text, {}, Deadline::after(std::chrono::seconds(5)));
    ::_exit(sent ? EXIT_SUCCESS : EXIT_FAILURE);
  }
  ipc::Channel channel(std::move(forked->end), Reason::kInternal);
  const auto answer = channel.receive(Deadline::after(time_max));
  Child child(forked->pid, UniqueFd());
  if (!answer) {
    const auto ended = child.wait();
    return ended ? Result<void>(tl::unexpected(answer.error())) : ended;
  }
  if (answer->bytes.size() == 1) return child.wait();
  const auto error = ipc::decode_error(answer->bytes);
  return tl::unexpected(error ? *error : error.error());
}

Result<std::string> first_line_of(const std::vector<std::string>& arguments) {
  Bytes text(kLineBytesMax);
  const auto output = make_memfd("coffer-line", text.size());
  if (!output) return tl::unexpected(output.error());
  std::vector<char*> argv;
  argv.reserve(arguments.size() + 1);
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): posix_spawn does not write to them.
  for (const auto& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, output->get(), STDOUT_FILENO);
  pid_t pid = -1;
  const int spawned = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), ::environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (spawned != 0) return fail_errno(spawned, "start " + arguments.front(), Reason::kInternal);
  if (const auto ended = Child(pid, UniqueFd()).wait(); !ended)
    return pass(ended.error(), arguments.front());
  if (const auto read = read_exactly_at(output->get(), text, 0); !read)
    return tl::unexpected(read.error());
  const auto end = as_text(text).find('\n');
  if (end == std::string_view::npos)
    return fail(Reason::kInternal, arguments.front() + " wrote no line");
  return std::string(as_text(text).substr(0, end));
}

Result<SetupAnswer> ask_setup(const std::string& vault_program, const RunAs& user,
                              const SetupRequest& request) {
  const auto message = encode_setup(request);
  if (!message) return tl::unexpected(message.error());
  auto child = start_program({vault_program, "--setup"}, user);
  if (!child) return tl::unexpected(child.error());
  ipc::Channel channel(child->take_socket(), Reason::kHsmFailed);
  const auto deadline = Deadline::after(kSetupDeadline);
  auto sent = channel.send(message->reveal(), {}, deadline);
  auto answer =
      sent ? channel.receive(deadline) : Result<ipc::Message>(tl::unexpected(sent.error()));
  const auto ended = child->wait();
  if (!answer && !ended) return pass(ended.error(), vault_program + " --setup");
  if (!answer) return pass(answer.error(), vault_program + " --setup");
  return decode_setup_answer(answer->bytes);
}

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/one_shot.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <mutex>

#include "core/ipc/frame.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kPathBytesMax = 4096;
constexpr std::size_t kLabelBytesMax = 48;
constexpr std::chrono::seconds kKilledPatience{2};
constexpr std::chrono::seconds kExitPatience{5};

// Children that did not die although they were killed: they hang in the kernel on a dead disk.
class Unreaped {
 public:
  void add(pid_t pid) {
    const std::lock_guard lock(mutex_);
    pids_.push_back(pid);
  }
  bool has(pid_t pid) {
    const std::lock_guard lock(mutex_);
    return std::ranges::find(pids_, pid) != pids_.end();
  }
  void reap() {
    const std::lock_guard lock(mutex_);
    std::erase_if(pids_, [](pid_t pid) { return ::waitpid(pid, nullptr, WNOHANG) != 0; });
  }

 private:
  std::mutex mutex_;  // Guards pids_.
  std::vector<pid_t> pids_;
};
Unreaped& unreaped() {
  static Unreaped children;
  return children;
}

// Waits until the child has ended. False: it had not by `deadline`.
bool await_end(pid_t pid, Deadline deadline) {
  const UniqueFd watched(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!watched.valid()) return false;
  for (;;) {
    pollfd waiting{watched.get(), POLLIN, 0};
    const int r = ::poll(&waiting, 1, static_cast<int>(deadline.left().count()));
    if (r > 0) return true;
    if (r < 0 && errno == EINTR) continue;
    return false;
  }
}

struct SpawnActions {
  posix_spawn_file_actions_t files{};
  posix_spawnattr_t attributes{};
  SpawnActions() {
    ::posix_spawn_file_actions_init(&files);
    ::posix_spawnattr_init(&attributes);
  }
  ~SpawnActions() {
    ::posix_spawn_file_actions_destroy(&files);
    ::posix_spawnattr_destroy(&attributes);
  }
  SpawnActions(const SpawnActions&) = delete;
  SpawnActions& operator=(const SpawnActions&) = delete;

  void give(int fd, int as) {
    if (fd >= 0)
      ::posix_spawn_file_actions_adddup2(&files, fd, as);
    else
      ::posix_spawn_file_actions_addopen(&files, as, "/dev/null", O_RDWR, 0);
  }
};

}  // namespace

Bytes OneShotRequest::encode() const {
  ByteWriter out;
  out.u8(static_cast<std::uint8_t>(mode)).bytes(luks2::encode_profile(profile)).text(mapping);
  out.boolean(read_only).boolean(allow_discards);
  out.boolean(no_read_workqueue).boolean(no_write_workqueue);
  out.text(data_path).u64(data_bytes).u64(header_bytes).text(label).text(token_json);
  return out.take();
}

Result<OneShotRequest> OneShotRequest::decode(ByteView bytes) {
  ByteReader in(bytes);
  OneShotRequest request;
  const auto mode = in.u8();
  if (mode < 1 || mode > 4) in.reject();
  request.mode = static_cast<Mode>(mode);
  const auto profile = luks2::decode_profile(in.bytes(luks2::kProfileBytesMax));
  request.mapping = in.text(kMappingNameBytesMax);
  request.read_only = in.boolean();
  request.allow_discards = in.boolean();
  request.no_read_workqueue = in.boolean();
  request.no_write_workqueue = in.boolean();
  request.data_path = in.text(kPathBytesMax);
  request.data_bytes = in.u64();
  request.header_bytes = in.u64();
  request.label = in.text(kLabelBytesMax);
  request.token_json = in.text(luks2::kTokenJsonBytesMax);
  if (const auto end = in.finish(Reason::kMessageInvalid, "a one-shot request"); !end)
    return tl::unexpected(end.error());
  if (!profile) return tl::unexpected(profile.error());
  request.profile = *profile;
  return request;
}

Result<pid_t> start_program(const std::vector<std::string>& command, int stdin_fd, int output_fd) {
  unreaped().reap();
  SpawnActions actions;
  actions.give(stdin_fd, STDIN_FILENO);
  actions.give(output_fd, STDOUT_FILENO);
  if (output_fd >= 0) actions.give(output_fd, STDERR_FILENO);
  sigset_t none;
  sigset_t all;
  ::sigemptyset(&none);
  ::sigfillset(&all);
  ::posix_spawnattr_setsigmask(&actions.attributes, &none);
  ::posix_spawnattr_setsigdefault(&actions.attributes, &all);
  ::posix_spawnattr_setflags(&actions.attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> arguments;
  arguments.reserve(command.size() + 1);
  for (const auto& argument : command)
    arguments.push_back(const_cast<char*>(argument.c_str()));  // NOLINT(*-const-cast): exec's type.
  arguments.push_back(nullptr);
  std::string path = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";
  std::string language = "LC_ALL=C";
  std::array<char*, 3> environment{path.data(), language.data(), nullptr};
  pid_t pid = 0;
  const int r = ::posix_spawn(&pid, command.front().c_str(), &actions.files, &actions.attributes,
                              arguments.data(), environment.data());
  if (r != 0) return fail_errno(r, "start " + command.front(), Reason::kActivationFailed);
  return pid;
}

Result<int> end_program(pid_t pid, Deadline deadline) {
  const bool ended = await_end(pid, deadline);
  if (!ended) ::kill(pid, SIGKILL);
  int status = 0;
  if (!ended && !await_end(pid, Deadline::after(kKilledPatience))) {
    unreaped().add(pid);
    return fail(Reason::kTimedOut, "a helper process hangs in the kernel");
  }
  if (::waitpid(pid, &status, 0) != pid) return fail_errno(errno, "wait for a helper process");
  if (!ended) return fail(Reason::kTimedOut, "a helper process took too long");
  return status;
}

namespace {

Result<OneShotReply> read_answer(ipc::Message& message) {
  ByteReader in(message.bytes);
  if (!in.boolean()) {
    const auto error = ipc::decode_error(in.raw(in.rest_bytes()));
    return tl::unexpected(error ? *error : error.error());
  }
  OneShotReply reply;
  reply.boot_usec = in.u64();
  const auto outcome = in.bytes(luks2::kCheckOutcomeBytesMax);
  reply.outcome.assign(outcome.begin(), outcome.end());
  if (const auto end = in.finish(Reason::kMessageInvalid, "a one-shot answer"); !end)
    return tl::unexpected(end.error());
  if (!message.fds.empty()) reply.header = std::move(message.fds.front());
  return reply;
}

}  // namespace

// cut_off says here that no answer came.
OneShotEnd OneShotRunner::talk(ipc::Channel& channel, const OneShotRequest& request,
                               std::span<const int> fds, const SecretBytes* key,
                               Deadline deadline) {
  auto sent = channel.send(request.encode(), fds, deadline);
  if (sent && key != nullptr) sent = channel.send(key->reveal(), {}, deadline);
  if (!sent) return {tl::unexpected(sent.error()), true};
  auto message = channel.receive(deadline);
  if (!message) return {tl::unexpected(message.error()), true};
  return {read_answer(*message), false};
}

OneShotEnd OneShotRunner::run(const OneShotRequest& request, std::span<const int> fds,
                              const SecretBytes* key, Deadline deadline) {
  auto pair = ipc::channel_pair(Reason::kActivationFailed);
  if (!pair) return {tl::unexpected(pair.error())};
  auto& [ours, theirs] = *pair;
  const auto pid = start_program({program_, "--one-shot"}, theirs.fd(), -1);
  if (!pid) return {tl::unexpected(pid.error())};
  theirs.release().reset();  // So that its death is seen.

  auto end = talk(ours, request, fds, key, deadline);
  const bool timed_out = end.cut_off && end.reply.error().reason() == Reason::kTimedOut;
  // Having answered it has nothing left to do; having not, it gets no more time.
  const auto status = end_program(*pid, timed_out ? deadline : Deadline::after(kExitPatience));
  end.lives = !status && unreaped().has(*pid);
  if (!end.cut_off) return end;
  const bool signalled = status && WIFSIGNALED(*status);
  if (signalled)
    end.reply = fail(Reason::kActivationFailed, "the one-shot process was ended by signal " +
                                                    std::to_string(WTERMSIG(*status)));
  // A status of its own says that it failed, and so made nothing. 0 says the opposite: its answer
  // was lost, and what it made stands.
  end.cut_off = timed_out || signalled || !status || *status == 0;
  return end;
}

}  // namespace coffer::agent

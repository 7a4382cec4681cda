// SPDX-License-Identifier: Apache-2.0
// coffer-reader: parses LUKS2 headers for the worker, in a process that has no right to anything.
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <mutex>
#include <string>

#include "agent/reader/header_batch.h"
#include "core/base/secret_bytes.h"
#include "core/ipc/event_loop.h"
#include "core/ipc/server.h"
#include "core/ipc/sockets.h"

namespace coffer::agent {
namespace {

// A batch that takes longer ends the process: systemd starts the next one, and the worker gives
// that one the headers one by one.
constexpr unsigned kBatchSecondsMax = 20;
constexpr rlim_t kFilesMax = 256;

// One batch at a time: the limit above is on the process.
class HeaderService {
 public:
  Result<ipc::Reply> answer(ipc::Request& request) {
    const std::lock_guard lock(mutex_);
    if (request.type != kCheckHeaders || request.fds.size() != 1)
      return fail(Reason::kMessageInvalid, "the reader takes batches of headers");
    const auto slots = decode_slots(request.body);
    if (!slots) return tl::unexpected(slots.error());

    ::alarm(kBatchSecondsMax);
    auto outcomes = check_batch(request.fds.front().get(), *slots);
    ::alarm(0);
    if (!outcomes) return tl::unexpected(outcomes.error());
    ipc::Reply reply;
    reply.fds.push_back(std::move(*outcomes));
    return reply;
  }

 private:
  std::mutex mutex_;
};

Result<UniqueFd> listening_socket(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--socket") return ipc::listen_at(argv[2]);
  auto sockets = ipc::sockets_from_systemd();
  if (!sockets) return tl::unexpected(sockets.error());
  if (argc != 1 || sockets->size() != 1)
    return fail(Reason::kConfigInvalid, "usage: coffer-reader [--socket PATH], or one socket unit");
  return std::move(sockets->front().fd);
}

Result<void> run(int argc, char** argv) {
  if (const auto undumpable = forbid_core_dumps(); !undumpable) return undumpable;
  const rlimit files{kFilesMax, kFilesMax};
  ::setrlimit(RLIMIT_NOFILE, &files);
  if (const auto blocked = ipc::EventLoop::block_signals({SIGTERM, SIGINT}); !blocked)
    return blocked;
  auto loop = ipc::EventLoop::make();
  if (!loop) return tl::unexpected(loop.error());
  auto socket = listening_socket(argc, argv);
  if (!socket) return tl::unexpected(socket.error());

  HeaderService service;
  ipc::Server::Options options;
  options.name = "reader";
  options.connections_max = 4;
  options.peers = {0, ::getuid()};  // The worker is root.
  ipc::Server server(options, [&](ipc::Request& request) { return service.answer(request); });
  if (const auto listening = server.listen(std::move(*socket)); !listening) return listening;

  const auto terminate = (*loop)->on_signal(SIGTERM, [&] { (*loop)->exit(0); });
  const auto interrupt = (*loop)->on_signal(SIGINT, [&] { (*loop)->exit(0); });
  if (!terminate || !interrupt) return fail(Reason::kInternal, "watch signals");
  if (const auto dog = (*loop)->keep_watchdog(); !dog) return dog;
  ipc::notify_ready();
  const auto code = (*loop)->run();
  ipc::notify_stopping();
  server.stop();
  if (!code) return tl::unexpected(code.error());
  return {};
}

}  // namespace
}  // namespace coffer::agent

int main(int argc, char** argv) {
  const auto done = coffer::agent::run(argc, argv);
  if (done) return 0;
  std::fprintf(stderr, "<3>coffer-reader: %s\n", done.error().str().c_str());
  return 1;
}

// SPDX-License-Identifier: Apache-2.0
// coffer-worker: the process that touches devices. Started with --one-shot by itself, it makes one
// call of libcryptsetup and ends.
#include <pwd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "agent/reader/header_batch.h"
#include "agent/worker/one_shot.h"
#include "agent/worker/worker_client.h"
#include "agent/worker/worker_service.h"
#include "core/base/secret_bytes.h"
#include "core/ipc/event_loop.h"
#include "core/ipc/sockets.h"

namespace coffer::agent {
namespace {

constexpr std::string_view kUsage =
    "usage: coffer-worker [--control PATH] [--deliver PATH] [--reader PATH] [--marks FOLDER]\n"
    "                     [--agent-user NAME] [--vault-user NAME] [--one-shots N] [--allow-files]\n"
    "Sockets that are not named come from systemd (control, deliver).\n";
constexpr std::chrono::milliseconds kTick{250};
constexpr rlim_t kFilesWanted = 65536;

struct Settings {
  std::map<std::string, std::string, std::less<>> values{
      {"--reader", std::string(kReaderSocketPath)},
      {"--marks", "/run/coffer/dm"},
      {"--agent-user", "coffer"},
      {"--vault-user", "coffer-vault"},
      {"--one-shots", "4"},
      {"--control", ""},
      {"--deliver", ""}};
  FilesAllowed files = FilesAllowed::kNo;
};

Result<Settings> parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name(argv[i]);
    const auto value = settings.values.find(name);
    if (name == "--allow-files") {
      settings.files = FilesAllowed::kYes;
    } else if (value != settings.values.end() && i + 1 < argc) {
      value->second = argv[++i];
    } else {
      return fail(Reason::kConfigInvalid, std::string(kUsage));
    }
  }
  return settings;
}

// Root may always connect: it could do anything to the sockets anyway. A user that does not exist
// (tests, a host half installed) may not.
std::vector<uid_t> users(const std::string& name) {
  std::vector<uid_t> ids{0, ::getuid()};
  if (const auto* entry = ::getpwnam(name.c_str())) ids.push_back(entry->pw_uid);
  return ids;
}

// One fd for each device of a big scan, and a few for each of many activations.
void raise_file_limit() {
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) != 0) return;
  files.rlim_cur = std::min(std::max(files.rlim_cur, kFilesWanted), files.rlim_max);
  ::setrlimit(RLIMIT_NOFILE, &files);
}

Result<UniqueFd> socket_named(std::vector<ipc::NamedSocket>& sockets, std::string_view name,
                              const std::string& path) {
  if (!path.empty()) return ipc::listen_at(path);
  for (auto& socket : sockets)
    if (socket.name == name && socket.fd.valid()) return std::move(socket.fd);
  return fail(Reason::kConfigInvalid, "no socket named " + std::string(name) + " was handed over");
}

Result<void> listen(WorkerService& service, const Settings& settings) {
  auto sockets = ipc::sockets_from_systemd();
  if (!sockets) return tl::unexpected(sockets.error());
  auto control = socket_named(*sockets, "control", settings.values.at("--control"));
  if (!control) return tl::unexpected(control.error());
  auto deliver = socket_named(*sockets, "deliver", settings.values.at("--deliver"));
  if (!deliver) return tl::unexpected(deliver.error());
  if (const auto listening = service.listen_deliver(std::move(*deliver)); !listening)
    return listening;
  return service.listen_control(std::move(*control));
}

void say(int level, const std::string& text) {
  std::fprintf(stderr, "<%d>coffer-worker: %s\n", level, text.c_str());
}

Result<WorkerService::Options> service_options(const Settings& settings) {
  const auto& count = settings.values.at("--one-shots");
  if (count.empty() || count.size() > 2 ||
      count.find_first_not_of("0123456789") != std::string::npos)
    return fail(Reason::kConfigInvalid, "--one-shots takes a number from 1 to 99");
  WorkerService::Options options;
  options.agent_users = users(settings.values.at("--agent-user"));
  options.vault_users = users(settings.values.at("--vault-user"));
  options.mark_folder = settings.values.at("--marks");
  options.jobs.files = settings.files;
  options.jobs.one_shots_max = std::max<std::size_t>(1, std::stoul(count));
  options.on_fault = [](const Error& error) { say(4, error.str()); };
  options.connect_reader = [path = settings.values.at("--reader")](Deadline deadline) {
    return ipc::connect_to(path, deadline);
  };
  return options;
}

Result<void> run(int argc, char** argv) {
  const auto settings = parse(argc, argv);
  if (!settings) return tl::unexpected(settings.error());
  raise_file_limit();
  if (const auto blocked = ipc::EventLoop::block_signals({SIGTERM, SIGINT}); !blocked)
    return blocked;
  auto loop = ipc::EventLoop::make();
  if (!loop) return tl::unexpected(loop.error());
  auto options = service_options(*settings);
  if (!options) return tl::unexpected(options.error());
  WorkerService service(std::move(*options));
  const auto left = service.clean_up();
  if (!left) say(4, "look for what an earlier run left: " + left.error().str());
  if (left)
    for (const auto& mapping : *left) say(5, "took away the useless mapping " + mapping.name);
  if (const auto listening = listen(service, *settings); !listening) return listening;

  const auto terminate = (*loop)->on_signal(SIGTERM, [&] { (*loop)->exit(0); });
  const auto interrupt = (*loop)->on_signal(SIGINT, [&] { (*loop)->exit(0); });
  const auto tick = (*loop)->every(kTick, [&] { service.tick(); });
  if (!terminate || !interrupt || !tick) return fail(Reason::kInternal, "set up the event loop");
  if (const auto dog = (*loop)->keep_watchdog(); !dog) return dog;
  ipc::notify_ready();
  const auto code = (*loop)->run();
  ipc::notify_stopping();
  service.stop();
  if (!code) return tl::unexpected(code.error());
  return {};
}

}  // namespace
}  // namespace coffer::agent

int main(int argc, char** argv) {
  // Before anything else: a key may come at any time.
  const auto undumpable = coffer::forbid_core_dumps();
  if (undumpable && argc == 2 && std::string_view(argv[1]) == "--one-shot")
    return coffer::agent::run_one_shot(coffer::UniqueFd(STDIN_FILENO));
  const auto done = undumpable ? coffer::agent::run(argc, argv) : undumpable;
  if (done) return 0;
  coffer::agent::say(3, done.error().str());
  return 1;
}

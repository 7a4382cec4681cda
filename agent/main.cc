// SPDX-License-Identifier: Apache-2.0
// cofferd: reads the configuration, builds the parts, runs the loop. Stopping it closes no mapping.
#include <fcntl.h>

#include <csignal>
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/boot_gate.h"
#include "agent/config.h"
#include "agent/host_engine.h"
#include "agent/journal_print.h"
#include "agent/reopening_log.h"
#include "agent/worker/worker_client.h"
#include "core/audit/journal.h"
#include "core/base/files.h"
#include "core/base/secret_bytes.h"
#include "core/ipc/sockets.h"
#include "core/keyring/keyring.h"
#include "dbus/service.h"
#include "hsm/standby_vault.h"
#include "hsm/vault_client.h"

namespace coffer::agent {
namespace {

constexpr int kExitUsage = 64;
constexpr int kExitUnavailable = 69;
constexpr int kExitConfig = 78;
constexpr std::chrono::seconds kInitInterval{2};
constexpr std::chrono::seconds kTroubleInterval{2};
constexpr std::string_view kUsage =
    "usage: cofferd [--config FILE] [--boot-socket PATH] [--bus ADDRESS | --bus none]\n"
    "       cofferd [--config FILE] --print vault-token|vault-standby\n"
    "A socket that is not named comes from systemd (boot).\n";

struct Settings {
  std::map<std::string, std::string, std::less<>> values{{"--config", "/etc/coffer/cofferd.toml"},
                                                         {"--boot-socket", ""},
                                                         {"--bus", ""},
                                                         {"--print", ""}};
};

std::optional<Settings> parse(int argc, char** argv) {
  Settings settings;
  for (int i = 1; i + 1 < argc; i += 2) {
    const auto value = settings.values.find(std::string_view(argv[i]));
    if (value == settings.values.end()) return std::nullopt;
    value->second = argv[i + 1];
  }
  if (argc % 2 == 0) return std::nullopt;
  return settings;
}

void print(int priority, const std::string& text) {
  LogEntry entry;
  entry.priority = priority;
  entry.message = text;
  print_to_journal(entry);
}

int give_up(const Error& error, int code) {
  print(3, error.str());
  return code;
}

std::string trimmed(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.remove_suffix(1);
  return std::string(text);
}

Result<std::string> read_line(const std::string& path) {
  const auto bytes = read_file(path, 256);
  if (!bytes) return tl::unexpected(bytes.error());
  return trimmed(as_text(*bytes));
}

// The file that `coffer init` makes. Until it does there is nothing to do: the agent waits, and
// says so, rather than being started over and over.
Result<std::optional<HostId>> wait_for_host_id(ipc::EventLoop& loop, const std::string& path) {
  std::optional<Result<std::string>> line;
  const auto look = [&] {
    auto found = read_line(path);
    if (!found && found.error().reason() == Reason::kNoSuchFile) return;
    line = std::move(found);
    loop.exit(0);
  };
  look();
  if (!line) {
    print(4, path + " is not there: waiting for `coffer init`");
    if (const auto watched = loop.keep_watchdog(); !watched) print(4, watched.error().str());
    ipc::notify_ready();
    ipc::notify_status("waiting for `coffer init`");
    auto timer = loop.every(kInitInterval, look);
    if (!timer) return tl::unexpected(timer.error());
    if (const auto ran = loop.run(); !ran) return tl::unexpected(ran.error());
  }
  if (!line) return std::optional<HostId>();
  if (!*line) return tl::unexpected(line->error());
  const auto id = HostId::parse(**line);
  if (!id) return fail(Reason::kConfigInvalid, path + " holds no host id");
  return std::optional(*id);
}

// Takes SIGTERM and SIGINT. The sources live as long as the loop runs.
struct Signals {
  ipc::EventSource term;
  ipc::EventSource interrupt;
  bool asked_to_stop = false;
};

Result<void> catch_signals(ipc::EventLoop& loop, Signals& signals) {
  const auto stop = [&] {
    signals.asked_to_stop = true;
    loop.exit(0);
  };
  auto term = loop.on_signal(SIGTERM, stop);
  if (!term) return tl::unexpected(term.error());
  auto interrupt = loop.on_signal(SIGINT, stop);
  if (!interrupt) return tl::unexpected(interrupt.error());
  signals.term = std::move(*term);
  signals.interrupt = std::move(*interrupt);
  return {};
}

// Everything below the engine; what stands lower uses what stands above it.
struct Ground {
  std::unique_ptr<Registry> registry;
  std::unique_ptr<keyring::KeyStore> store;
  std::unique_ptr<ReopeningLog> journal;
  std::unique_ptr<ObservedLog> log;
  std::unique_ptr<hsm::VaultClient> active;
  std::unique_ptr<hsm::VaultClient> standby;  // Null: there is none.
  std::unique_ptr<keyring::KeyVault> both;    // Of the two, when there are two.
  keyring::KeyVault& vault() { return both ? *both : *active; }
  std::unique_ptr<keyring::Keyring> keyring;
};

std::unique_ptr<hsm::VaultClient> make_vault(const Config& config, const std::string& token) {
  hsm::VaultClient::Options options;
  options.name = "coffer-vault@" + token;
  options.socket_path = config.run_folder + "/vault-" + token + ".sock";
  return std::make_unique<hsm::VaultClient>(std::move(options));
}

Result<Ground> lay_ground(const Config& config, const HostId& host) {
  Ground ground;
  auto registry = Registry::open(config.state_folder + "/registry.db");
  if (!registry) return tl::unexpected(registry.error());
  ground.registry = std::move(*registry);
  auto store = keyring::open_sqlite_key_store(config.state_folder + "/keyring.db");
  if (!store) return tl::unexpected(store.error());
  ground.store = std::move(*store);

  const auto open_journal = [folder = config.state_folder + "/audit",
                             host]() -> Result<std::unique_ptr<audit::AuditLog>> {
    const audit::Journal::Options options{.node = host};
    auto journal = audit::Journal::open(folder, options);
    if (!journal) return tl::unexpected(journal.error());
    return std::unique_ptr<audit::AuditLog>(std::move(*journal));
  };
  ground.journal = std::make_unique<ReopeningLog>(open_journal, system_clock());
  if (const auto opened = ground.journal->try_open(); !opened) {
    print(3, "no volume is opened without its record: " + opened.error().str());
  }
  ground.log = std::make_unique<ObservedLog>(*ground.journal);

  ground.active = make_vault(config, config.vault_token);
  if (!config.vault_standby.empty()) {
    ground.standby = make_vault(config, config.vault_standby);
    ground.both = std::make_unique<hsm::StandbyVault>(
        hsm::StandbyVault::Options{.active = {config.vault_token, ground.active.get()},
                                   .standby = {config.vault_standby, ground.standby.get()},
                                   .on_switch = [](const std::string& text) { print(4, text); },
                                   .store = ground.store.get()});
  }
  ground.keyring = std::make_unique<keyring::Keyring>(
      keyring::Keyring::Parts{ground.vault(), *ground.store, *ground.log, system_clock()});
  return ground;
}

Result<UniqueFd> boot_socket(const std::string& path) {
  if (!path.empty()) return ipc::listen_at(path);
  auto sockets = ipc::sockets_from_systemd();
  if (!sockets) return tl::unexpected(sockets.error());
  for (ipc::NamedSocket& socket : *sockets) {
    if (socket.name == "boot") return std::move(socket.fd);
  }
  return UniqueFd();
}

// The engine is told of the worker's connection, by a client that is there before it.
class WorkerNews {
 public:
  void set(HostEngine* engine) {
    const std::scoped_lock lock(mutex_);
    engine_ = engine;
  }
  void tell(bool connected) {
    const std::scoped_lock lock(mutex_);
    if (engine_ != nullptr) engine_->worker_connected(connected);
  }

 private:
  std::mutex mutex_;  // Guards engine_.
  HostEngine* engine_ = nullptr;
};

// A further descriptor of the socket: who listens on it may end and another go on.
Result<UniqueFd> again(const UniqueFd& socket) {
  UniqueFd other(::fcntl(socket.get(), F_DUPFD_CLOEXEC, 3));
  if (!other.valid()) return fail_errno(errno, "keep the boot socket");
  return other;
}

Result<int> serve(ipc::EventLoop& loop, const Settings& settings, const Config& config,
                  const HostId& host, const UniqueFd& boot) {
  auto ground = lay_ground(config, host);
  if (!ground) return tl::unexpected(ground.error());
  const auto boot_id = read_line("/proc/sys/kernel/random/boot_id");
  if (!boot_id) return tl::unexpected(boot_id.error());

  WorkerNews news;
  WorkerClientOptions worker_options;
  worker_options.connect = [path = config.run_folder + "/worker.sock"](Deadline deadline) {
    return ipc::connect_to(path, deadline);
  };
  worker_options.on_connected = [&news](bool connected) { news.tell(connected); };
  const auto worker = make_worker_client(std::move(worker_options));
  const auto watch = make_udev_watch(loop);

  auto engine = HostEngine::make({.loop = loop,
                                  .worker = *worker,
                                  .keyring = *ground->keyring,
                                  .vault = ground->vault(),
                                  .log = *ground->log,
                                  .registry = *ground->registry,
                                  .watch = *watch,
                                  .clock = system_clock(),
                                  .config = config,
                                  .host_id = host.str(),
                                  .boot_id = *boot_id,
                                  .version = COFFER_VERSION,
                                  .print = print_to_journal});
  if (!engine) return tl::unexpected(engine.error());
  news.set(engine->get());

  BootGate gate(loop, [&] { return (*engine)->boot_status(); }, config.boot_deadline);
  (*engine)->set_boot_listener([&] { gate.finish(); });
  if (boot.valid()) {
    auto socket = again(boot);
    if (!socket) return tl::unexpected(socket.error());
    if (const auto listening = gate.listen(std::move(*socket)); !listening) {
      return tl::unexpected(listening.error());
    }
  }

  std::unique_ptr<dbus::Service> bus;
  if (const std::string& address = settings.values.at("--bus"); address != "none") {
    dbus::ServiceOptions options;
    options.address = address;
    options.on_event = [](const std::string& text) { print(6, text); };
    auto started = dbus::Service::start(loop, **engine, std::move(options));
    if (!started) return tl::unexpected(started.error());
    bus = std::move(*started);
  }

  (*engine)->start();
  if (const auto watched = loop.keep_watchdog(); !watched) print(4, watched.error().str());
  ipc::notify_ready();
  ipc::notify_status("serving");
  auto code = loop.run();
  ipc::notify_stopping();
  news.set(nullptr);
  return code;
}

// One life of the agent, from its configuration to the end of its loop. An error: it could not
// begin, and nothing of it is left.
Result<int> live(const Settings& settings, const UniqueFd& boot) {
  auto config = load_config(settings.values.at("--config"));
  if (!config) return tl::unexpected(config.error());
  std::optional<HostId> host;
  {
    auto waiting = ipc::EventLoop::make();
    if (!waiting) return tl::unexpected(waiting.error());
    Signals signals;
    if (const auto caught = catch_signals(**waiting, signals); !caught) {
      return tl::unexpected(caught.error());
    }
    const auto found = wait_for_host_id(**waiting, config->host_id_file);
    if (!found) return tl::unexpected(found.error());
    if (!*found || signals.asked_to_stop) return 0;
    host = **found;
  }
  // `coffer init` may have written one while this waited for it.
  config = load_config(settings.values.at("--config"));
  if (!config) return tl::unexpected(config.error());
  auto loop = ipc::EventLoop::make();
  if (!loop) return tl::unexpected(loop.error());
  Signals signals;
  if (const auto caught = catch_signals(**loop, signals); !caught) {
    return tl::unexpected(caught.error());
  }
  return serve(**loop, settings, *config, *host, boot);
}

// Says why the agent cannot begin, to systemd and to who waits on boot.sock, until it is time to
// try again: to be started over and over would leave the boot waiting, and nobody told. False: it
// was asked to stop.
Result<bool> tell_trouble(const Error& why, const UniqueFd& boot) {
  auto loop = ipc::EventLoop::make();
  if (!loop) return tl::unexpected(loop.error());
  Signals signals;
  if (const auto caught = catch_signals(**loop, signals); !caught) {
    return tl::unexpected(caught.error());
  }
  BootGate gate(**loop, [] { return BootStatus{}; }, std::chrono::milliseconds(1));
  gate.refuse(why);
  auto socket = again(boot);
  if (!socket) return tl::unexpected(socket.error());
  if (const auto listening = gate.listen(std::move(*socket)); !listening) {
    return tl::unexpected(listening.error());
  }
  if (const auto watched = (*loop)->keep_watchdog(); !watched) print(4, watched.error().str());
  ipc::notify_ready();
  ipc::notify_status("cannot begin, tries again: " + why.str());
  const auto timer = (*loop)->after(kTroubleInterval, [&] { (*loop)->exit(0); });
  if (!timer) return tl::unexpected(timer.error());
  if (const auto ran = (*loop)->run(); !ran) return tl::unexpected(ran.error());
  return !signals.asked_to_stop;
}

// For programs that must know what the configuration means, without a parser of their own.
int print_setting(const Settings& settings) {
  const auto& name = settings.values.at("--print");
  if (name != "vault-token" && name != "vault-standby") {
    std::fwrite(kUsage.data(), 1, kUsage.size(), stderr);
    return kExitUsage;
  }
  const auto config = load_config(settings.values.at("--config"));
  if (!config) return give_up(config.error(), kExitConfig);
  const auto& token = name == "vault-token" ? config->vault_token : config->vault_standby;
  std::printf("%s\n", token.c_str());
  return 0;
}

int run(int argc, char** argv) {
  const auto settings = parse(argc, argv);
  if (!settings) {
    std::fwrite(kUsage.data(), 1, kUsage.size(), stderr);
    return kExitUsage;
  }
  if (!settings->values.at("--print").empty()) return print_setting(*settings);
  static_cast<void>(std::signal(SIGPIPE, SIG_IGN));
  // No volume's key comes here, but what callers encrypt and decrypt does.
  if (const auto hidden = forbid_core_dumps(); !hidden)
    return give_up(hidden.error(), kExitUnavailable);
  const auto blocked = ipc::EventLoop::block_signals({SIGTERM, SIGINT});
  if (!blocked) return give_up(blocked.error(), kExitUnavailable);
  const auto boot = boot_socket(settings->values.at("--boot-socket"));
  if (!boot) return give_up(boot.error(), kExitUnavailable);

  std::string told;
  while (true) {
    const auto code = live(*settings, *boot);
    if (code) return *code;
    const Error& why = code.error();
    // Nobody waits for it: whoever started it sees how it ended.
    if (!boot->valid()) {
      return give_up(why, why.reason() == Reason::kConfigInvalid ? kExitConfig : kExitUnavailable);
    }
    if (told != why.str()) print(3, "cannot begin, tries again: " + why.str());
    told = why.str();
    const auto on = tell_trouble(why, *boot);
    if (!on) return give_up(on.error(), kExitUnavailable);
    if (!*on) return 0;
  }
}

}  // namespace
}  // namespace coffer::agent

int main(int argc, char** argv) try { return coffer::agent::run(argc, argv); } catch (...) {
  return 70;
}

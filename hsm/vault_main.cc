// SPDX-License-Identifier: Apache-2.0
// coffer-vault: serves the KeyVault of one token, of PKCS#11 or SDF, to cofferd, and delivers DEKs
// to the worker.
#include <fmt/format.h>
#include <pwd.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv, secure_getenv.
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/files.h"
#include "core/ipc/event_loop.h"
#include "core/ipc/server.h"
#include "core/ipc/sockets.h"
#include "core/ipc/worker_pool.h"
#include "hsm/call_watch.h"
#include "hsm/delivery_client.h"
#include "hsm/pkcs11_token.h"
#include "hsm/revision_floors.h"
#include "hsm/ruled_vault.h"
#include "hsm/sdf_token.h"
#include "hsm/setup_process.h"
#include "hsm/softhsm_copy.h"
#include "hsm/vault_config.h"
#include "hsm/vault_server.h"

namespace coffer::hsm {
namespace {

constexpr int kExitUsage = 64;
constexpr int kExitHang = 75;
constexpr int kExitConfig = 78;
constexpr std::size_t kHandlerThreads = 4;
constexpr std::chrono::seconds kProbeInterval{10};
// A credential comes with the start of its unit alone. A vault without a PIN says so for this many
// probes, and then ends to be started anew, in case the PIN is there by now or can be decrypted by
// now.
constexpr int kProbesWithoutPin = 3;
constexpr int kExitWithoutPin = 75;  // EX_TEMPFAIL
constexpr std::string_view kDeliverSocket = "/run/coffer/deliver.sock";

struct Arguments {
  std::string config;
  std::string socket;  // Empty: from systemd.
  std::string deliver{kDeliverSocket};
  std::string pin_file;     // Instead of the configured one.
  bool connection = false;  // Serve the connected socket that is standard input, then end.
  bool setup = false;
  bool make_sdf_keys = false;  // Of the SDF device in the configuration; then end.
};

// One line to the journal; 3 is an error, 4 a warning, 6 information.
void log(int level, std::string_view text) {
  const auto line = fmt::format("<{}>{}\n", level, printable(text, 2000));
  std::fwrite(line.data(), 1, line.size(), stderr);
}

std::optional<Arguments> parse(int argc, char** argv) {
  Arguments out;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--setup") {
      out.setup = true;
      continue;
    }
    if (name == "--make-sdf-keys") {
      out.make_sdf_keys = true;
      continue;
    }
    if (name == "--connection") {
      out.connection = true;
      continue;
    }
    std::string* const value = name == "--config"     ? &out.config
                               : name == "--socket"   ? &out.socket
                               : name == "--deliver"  ? &out.deliver
                               : name == "--pin-file" ? &out.pin_file
                                                      : nullptr;
    if (value == nullptr || ++i == argc) return std::nullopt;
    *value = argv[i];
  }
  if (out.config.empty() != out.setup) return std::nullopt;
  return out;
}

// Who may connect. The socket's owner and mode are what keeps others out. In the unit's own user
// namespace (PrivateUsers=) every other user, cofferd's too, shows as the overflow user.
std::vector<uid_t> allowed_peers() {
  constexpr uid_t kOverflow = 65534;
  std::vector<uid_t> peers{::getuid()};
  if (const passwd* user = ::getpwnam("coffer"); user != nullptr) peers.push_back(user->pw_uid);
  const auto map = read_file("/proc/self/uid_map", 4096);
  const bool whole = map && as_text(*map).find("4294967295") != std::string_view::npos;
  if (!whole) peers.push_back(kOverflow);
  return peers;
}

Result<UniqueFd> request_socket(const Arguments& arguments) {
  if (arguments.connection) return UniqueFd(STDIN_FILENO);
  if (!arguments.socket.empty()) return ipc::listen_at(arguments.socket);
  auto given = ipc::sockets_from_systemd();
  if (!given) return tl::unexpected(given.error());
  if (given->size() != 1)
    return fail(Reason::kConfigInvalid, "expected one socket from systemd, or --socket");
  return std::move(given->front().fd);
}

std::string pin_file(const Arguments& arguments, const VaultConfig& config) {
  if (!arguments.pin_file.empty()) return arguments.pin_file;
  if (!config.pin_file.empty()) return config.pin_file;
  const char* folder = ::secure_getenv("CREDENTIALS_DIRECTORY");
  // A path that is not there: the vault then says that it needs a login.
  return folder != nullptr ? std::string(folder) + "/pin" : config.state_folder + "/no-credential";
}

[[noreturn]] void end_after_hang() {
  constexpr std::string_view kText =
      "<3>a call into the token's module does not come back: ending\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kText.data(), kText.size());
  ::_exit(kExitHang);
}

// The token that the configuration names, and what its kind tells beside what a VaultToken does.
struct Served {
  std::unique_ptr<VaultToken> token;
  std::function<bool()> connected;  // Without asking the token.
};

// Looks at the token at start and whenever it is not up, so that the first request after its return
// does not pay for the login; says what changed.
class Prober {
 public:
  explicit Prober(const Served& served) : served_(served), pool_({1, 1}) {}

  void probe() {
    if (served_.connected()) return;
    // A probe under way is enough.
    [[maybe_unused]] const auto taken = pool_.submit([this] {
      const auto health = served_.token->health();
      const int state = static_cast<int>(health.state);
      if (last_.exchange(state) == state) return;
      const auto text =
          fmt::format("token {}: {}", keyring::vault_state_name(health.state), health.detail);
      log(health.state == keyring::VaultState::kUp ? 6 : 4, text);
      ipc::notify_status(text);
    });
  }
  bool lacks_pin() const {
    return !served_.connected() && last_ == static_cast<int>(keyring::VaultState::kLoginNeeded);
  }
  void stop() { pool_.stop(); }

 private:
  const Served& served_;
  std::atomic<int> last_{0};
  ipc::WorkerPool pool_;
};

// The folder for the copy of SoftHSM's tokens: on /run under systemd. `coffer init` may run its
// vault beside the one that serves.
Result<std::string> copy_folder(const Arguments& arguments, const VaultConfig& config) {
  const char* run = ::secure_getenv("RUNTIME_DIRECTORY");
  if (run != nullptr && !arguments.connection) return run;
  std::string own = config.state_folder + (arguments.connection ? "/softhsm-init" : "/softhsm-run");
  if (::mkdir(own.c_str(), 0700) != 0 && errno != EEXIST) return fail_errno(errno, "make " + own);
  return own;
}

SdfToken::Options sdf_options(const VaultConfig& config, CallWatch& watch) {
  SdfToken::Options options;
  options.link.library_path = config.sdf_library;
  options.link.kek = config.sdf_kek;
  options.link.serial = config.sdf_serial;
  options.link.sessions_max = config.sessions;
  options.link.watch = &watch;
  options.keys_file = config.state_folder + "/sdf-keys";
  options.kind =
      config.sdf_hardware ? keyring::TokenKind::kHardware : keyring::TokenKind::kSoftware;
  return options;
}

Pkcs11Token::Options pkcs11_options(const Arguments& arguments, const VaultConfig& config,
                                    CallWatch& watch, const std::optional<SoftHsmCopy>& copy) {
  Pkcs11Token::Options options;
  if (copy) options.link.before_initialize = [&copy] { return copy->refresh(); };
  options.link.module_path = config.module_path;
  options.link.uri = config.uri;
  options.link.pin_file = pin_file(arguments, config);
  options.link.pin_mark_file = config.state_folder + "/pin-refused";
  options.link.sessions_max = config.sessions;
  options.link.watch = &watch;
  return options;
}

template <class Token>
Served serving(std::unique_ptr<Token> token) {
  auto* const same = token.get();
  return {std::move(token), [same] { return same->connected(); }};
}

Served make_token(const Arguments& arguments, const VaultConfig& config, CallWatch& watch,
                  const std::optional<SoftHsmCopy>& copy) {
  if (!config.sdf_library.empty())
    return serving(std::make_unique<SdfToken>(sdf_options(config, watch)));
  return serving(std::make_unique<Pkcs11Token>(pkcs11_options(arguments, config, watch, copy)));
}

Result<int> make_sdf_keys(const Arguments& arguments) {
  const auto config = VaultConfig::read(arguments.config);
  if (!config) return tl::unexpected(config.error());
  if (config->sdf_library.empty())
    return fail(Reason::kConfigInvalid, arguments.config + ": sdf_library is missing");
  CallWatch watch(config->call_deadline, end_after_hang);
  const auto root_id = SdfToken::make_keys(sdf_options(*config, watch));
  if (!root_id) return pass(root_id.error(), "make the keys of the SDF token");
  fmt::print("{}\n", *root_id);
  return 0;
}

ipc::Server::Options server_options(const Arguments& arguments, ipc::EventLoop& loop) {
  ipc::Server::Options options;
  options.name = "vault";
  options.peers = allowed_peers();
  options.secret = true;
  options.handler_threads = kHandlerThreads;
  options.handle_on_reader = true;
  if (arguments.connection) {
    options.peers.push_back(0);  // `coffer init` made the pair, as root.
    options.on_disconnected = [&loop](std::uint64_t) { loop.exit(0); };
  }
  options.on_fault = [](const Error& error) { log(4, error.str()); };
  return options;
}

Result<int> serve(const Arguments& arguments) {
  const auto config = VaultConfig::read(arguments.config);
  if (!config) return tl::unexpected(config.error());
  std::optional<SoftHsmCopy> copy;
  if (!config->softhsm_conf.empty()) {
    const auto folder = copy_folder(arguments, *config);
    if (!folder) return tl::unexpected(folder.error());
    copy.emplace(config->softhsm_conf, *folder);
    ::setenv("SOFTHSM2_CONF", copy->conf().c_str(), 1);  // Before any thread starts.
  }

  auto loop = ipc::EventLoop::make();
  if (!loop) return tl::unexpected(loop.error());
  auto listening = request_socket(arguments);
  if (!listening) return tl::unexpected(listening.error());
  auto floors = open_sqlite_floors(config->state_folder + "/floors.db");
  if (!floors) return pass(floors.error(), "open the floors of records");

  CallWatch watch(config->call_deadline, end_after_hang);
  const Served served_token = make_token(arguments, *config, watch, copy);
  DeliveryClient deliver({arguments.deliver});
  RuledVault vault({*served_token.token, **floors, deliver, system_clock()});
  VaultServer server(vault);

  ipc::Server requests(server_options(arguments, **loop),
                       [&](ipc::Request& request) { return server.handle(request); });
  const auto served = arguments.connection ? requests.serve(std::move(*listening))
                                           : requests.listen(std::move(*listening));
  if (!served) return tl::unexpected(served.error());

  Prober prober(served_token);
  if (!arguments.connection) prober.probe();
  const bool pin_comes_with_start = arguments.pin_file.empty() && config->pin_file.empty();
  int without_pin = 0;
  const auto again = (*loop)->every(kProbeInterval, [&] {
    without_pin = pin_comes_with_start && prober.lacks_pin() ? without_pin + 1 : 0;
    if (without_pin == kProbesWithoutPin) (*loop)->exit(kExitWithoutPin);
    prober.probe();
  });
  if (!again) return tl::unexpected(again.error());
  std::vector<ipc::EventSource> signals;
  for (const int number : {SIGTERM, SIGINT}) {
    auto source = (*loop)->on_signal(number, [&] { (*loop)->exit(0); });
    if (!source) return tl::unexpected(source.error());
    signals.push_back(std::move(*source));
  }
  if (const auto kept = (*loop)->keep_watchdog(); !kept) return tl::unexpected(kept.error());
  ipc::notify_ready();
  const auto code = (*loop)->run();
  ipc::notify_stopping();
  prober.stop();
  requests.stop();
  if (copy && arguments.connection) copy->remove();
  return code;
}

int run(int argc, char** argv) {
  if (const auto safe = forbid_core_dumps(); !safe) {
    log(3, safe.error().str());
    return EXIT_FAILURE;
  }
  // A module's own connection to its device may break while it is written to.
  std::signal(SIGPIPE, SIG_IGN);
  const auto arguments = parse(argc, argv);
  if (!arguments) {
    log(3,
        "usage: coffer-vault --config FILE [--socket PATH] [--deliver PATH] [--pin-file PATH] "
        "[--connection] | --config FILE --make-sdf-keys | --setup");
    return kExitUsage;
  }
  if (arguments->setup) return run_setup_process(STDIN_FILENO);
  if (const auto blocked = ipc::EventLoop::block_signals({SIGTERM, SIGINT}); !blocked) {
    log(3, blocked.error().str());
    return EXIT_FAILURE;
  }
  const auto code = arguments->make_sdf_keys ? make_sdf_keys(*arguments) : serve(*arguments);
  if (code) return *code;
  log(3, code.error().str());
  return code.error().reason() == Reason::kConfigInvalid ? kExitConfig : EXIT_FAILURE;
}

}  // namespace
}  // namespace coffer::hsm

int main(int argc, char** argv) {
  const int code = coffer::hsm::run(argc, argv);
  // Not exit(): modules are known to crash in their destructors once OpenSSL's have run.
  std::fflush(nullptr);
  ::_exit(code);
}

// SPDX-License-Identifier: Apache-2.0
#include "tests/support/swtpm.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): setenv.
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>

#include "core/base/clock.h"
#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/base/secret_bytes.h"

// Asked by ThreadSanitizer, which does not see the locks of libraries that were not built with it:
// the way to the TPM's broker is GLib's.
// NOLINTNEXTLINE(bugprone-reserved-identifier,readability-identifier-naming): its name.
extern "C" const char* __tsan_default_suppressions() {
  return "race:libglib-2.0.so\nrace:libgobject-2.0.so\nrace:libgio-2.0.so\n";
}

namespace coffer::tests {
namespace fs = std::filesystem;

namespace {

constexpr const char* kTpm = "/usr/bin/swtpm";
constexpr const char* kBroker = "/usr/sbin/tpm2-abrmd";
constexpr const char* kTokenTool = "/usr/bin/tpm2_ptool";
constexpr const char* kProbeTool = "/usr/bin/tpm2_getrandom";
constexpr const char* kStarter = "/usr/bin/setpriv";
constexpr const char* kTcti = "tabrmd:bus_type=session";

constexpr std::chrono::seconds kStartPatience{10};
constexpr std::chrono::seconds kToolPatience{60};
constexpr std::chrono::seconds kStopPatience{5};
constexpr int kPauseMs = 10;

std::string first_there(std::initializer_list<const char*> paths) {
  for (const char* path : paths) {
    if (fs::exists(path)) return path;
  }
  return {};
}

std::string broker_tcti() {
  return first_there({"/usr/lib/x86_64-linux-gnu/libtss2-tcti-tabrmd.so.0",
                      "/usr/lib/aarch64-linux-gnu/libtss2-tcti-tabrmd.so.0"});
}

}  // namespace

std::string tpm_module_path() {
  return first_there({"/usr/lib/x86_64-linux-gnu/pkcs11/libtpm2_pkcs11.so",
                      "/usr/lib/aarch64-linux-gnu/pkcs11/libtpm2_pkcs11.so"});
}

std::string swtpm_missing() {
  for (const char* program : {kTpm, kBroker, kTokenTool, kProbeTool, kStarter}) {
    if (::access(program, X_OK) != 0) return std::string(program) + " is not installed";
  }
  if (tpm_module_path().empty()) return "tpm2-pkcs11's module is not installed";
  if (broker_tcti().empty()) return "libtss2-tcti-tabrmd is not installed";
  return {};
}

// A program beside the test, which is killed when the test is.
class SwtpmFolder::Program {
 public:
  // Its output goes to the end of `log`.
  static Result<std::unique_ptr<Program>> start(const std::vector<std::string>& arguments,
                                                const fs::path& log) {
    std::vector<std::string> words{kStarter, "--pdeathsig", "KILL", "--"};
    words.insert(words.end(), arguments.begin(), arguments.end());
    std::vector<char*> argv;
    argv.reserve(words.size() + 1);
    for (auto& word : words) argv.push_back(word.data());
    argv.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    ::posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_APPEND,
                                       0600);
    ::posix_spawn_file_actions_adddup2(&actions, 1, 2);
    pid_t pid = -1;
    const int failed = ::posix_spawn(&pid, argv[0], &actions, nullptr, argv.data(), ::environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (failed != 0) return fail_errno(failed, "start " + arguments.front());
    return std::unique_ptr<Program>(new Program(pid));
  }

  ~Program() {
    if (status_) return;
    ::kill(pid_, SIGTERM);
    if (ended_by(Deadline::after(kStopPatience))) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  Program(const Program&) = delete;
  Program& operator=(const Program&) = delete;

  bool ended() {
    int status = 0;
    if (!status_ && ::waitpid(pid_, &status, WNOHANG) == pid_) status_ = status;
    return status_.has_value();
  }
  bool ended_by(Deadline deadline) {
    while (!ended() && !deadline.passed()) ::poll(nullptr, 0, kPauseMs);
    return ended();
  }
  bool went_well() const noexcept { return status_ == 0; }

 private:
  explicit Program(pid_t pid) noexcept : pid_(pid) {}

  const pid_t pid_;
  std::optional<int> status_;  // Of waitpid(2).
};

SwtpmFolder::SwtpmFolder() : problem_(swtpm_missing()) {
  if (problem_.empty()) problem_ = bus_.problem();
  if (!problem_.empty()) return;
  if (const auto started = start(); !started) problem_ = started.error().str();
}

SwtpmFolder::~SwtpmFolder() {
  broker_.reset();
  tpm_.reset();
}

Result<void> SwtpmFolder::start() {
  fs::create_directory(path() / "tpm");
  fs::create_directory(path() / "store");
  ::setenv("DBUS_SESSION_BUS_ADDRESS", bus_.address().c_str(), 1);
  ::setenv("TPM2_PKCS11_STORE", (path() / "store").c_str(), 1);
  ::setenv("TPM2_PKCS11_TCTI", kTcti, 1);
  ::setenv("TPM2TOOLS_TCTI", kTcti, 1);
  ::setenv("TSS2_LOG", "all+NONE", 1);
  ::setenv("TPM2_PKCS11_LOG_LEVEL", "0", 1);

  const fs::path socket = path() / "tpm.sock";
  auto tpm = Program::start(
      {kTpm, "socket", "--tpm2", "--tpmstate", "dir=" + (path() / "tpm").string(), "--server",
       "type=unixio,path=" + socket.string(), "--ctrl",
       "type=unixio,path=" + socket.string() + ".ctrl", "--flags", "not-need-init,startup-clear"},
      path() / "swtpm.log");
  if (!tpm) return tl::unexpected(tpm.error());
  tpm_ = std::move(*tpm);
  const auto deadline = Deadline::after(kStartPatience);
  while (!fs::exists(socket)) {
    if (tpm_->ended() || deadline.passed()) return fail(Reason::kInternal, "swtpm did not listen");
    ::poll(nullptr, 0, kPauseMs);
  }
  if (const auto broker = start_broker(); !broker) return broker;
  return run({kTokenTool, "init"}, kToolPatience);
}

Result<void> SwtpmFolder::start_broker() {
  auto broker = Program::start({kBroker, "--session", "--allow-root", "--flush-all",
                                "--tcti=swtpm:path=" + (path() / "tpm.sock").string()},
                               path() / "abrmd.log");
  if (!broker) return tl::unexpected(broker.error());
  broker_ = std::move(*broker);
  // It is there when a command reaches the TPM by it.
  const auto deadline = Deadline::after(kStartPatience);
  while (!run({kProbeTool, "--hex", "8"}, kStartPatience)) {
    if (broker_->ended() || deadline.passed())
      return fail(Reason::kInternal, "tpm2-abrmd does not answer");
    ::poll(nullptr, 0, kPauseMs);
  }
  return {};
}

void SwtpmFolder::stop_broker() {
  broker_.reset();
}

Result<void> SwtpmFolder::run(const std::vector<std::string>& arguments,
                              std::chrono::milliseconds patience) {
  auto program = Program::start(arguments, path() / "tools.log");
  if (!program) return tl::unexpected(program.error());
  if (!(*program)->ended_by(Deadline::after(patience)))
    return fail(Reason::kTimedOut, arguments.front() + " did not end");
  if ((*program)->went_well()) return {};
  return fail(Reason::kInternal, arguments.front() + " failed");
}

Result<void> SwtpmFolder::make_token(std::string_view label) {
  const auto drawn = SecretBytes::random(16);
  if (!drawn) return tl::unexpected(drawn.error());
  const auto both = to_hex(drawn->reveal());
  const std::string pin = both.substr(0, 16);
  if (const auto written = write_file_durably(pin_file(label).string(), as_bytes(pin)); !written)
    return written;
  return run({kTokenTool, "addtoken", "--pid=1", "--label=" + std::string(label),
              "--sopin=" + both.substr(16), "--userpin=" + pin},
             kToolPatience);
}

Result<void> SwtpmFolder::add_key(std::string_view label, hsm::TokenKeyRole role,
                                  std::string_view algorithm) {
  const auto pin = read_file(pin_file(label).string(), 64);
  if (!pin) return tl::unexpected(pin.error());
  return run({kTokenTool, "addkey", "--label=" + std::string(label),
              "--key-label=" + std::string(hsm::token_key_label(role)),
              "--id=" + std::string(hsm::token_key_id(role)),
              "--algorithm=" + std::string(algorithm), "--userpin=" + std::string(as_text(*pin))},
             kToolPatience);
}

Result<void> SwtpmFolder::make_coffer_token(std::string_view label) {
  if (const auto made = make_token(label); !made) return made;
  for (const auto role :
       {hsm::TokenKeyRole::kSeal, hsm::TokenKeyRole::kWrap, hsm::TokenKeyRole::kRoot}) {
    const bool root = role == hsm::TokenKeyRole::kRoot;
    if (const auto made = add_key(label, role, root ? "aes256" : "hmac:sha256"); !made) return made;
  }
  return {};
}

hsm::TokenLink::Options SwtpmFolder::link(std::string_view label) const {
  hsm::TokenLink::Options options;
  options.module_path = tpm_module_path();
  options.uri.token = std::string(label);
  options.pin_file = pin_file(label).string();
  options.pin_mark_file = (path() / (std::string(label) + ".pin-refused")).string();
  options.reconnect_pause = std::chrono::milliseconds(0);
  return options;
}

}  // namespace coffer::tests

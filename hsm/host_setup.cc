// SPDX-License-Identifier: Apache-2.0
#include "hsm/host_setup.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <utility>

#include "core/audit/journal.h"
#include "core/base/files.h"
#include "core/keyring/key_store.h"
#include "core/keyring/keyring.h"
#include "hsm/pin_credential.h"
#include "hsm/vault_client.h"
#include "hsm/vault_config.h"

namespace coffer::hsm {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kFirstKeyAlias = "default";
constexpr const char* kTokenByDefault = "local";  // Of a cofferd without configuration.
constexpr std::size_t kHostIdBytesMax = 128;
constexpr std::size_t kPinMarkBytesMax = 4096;
constexpr std::size_t kRootIdBytesMax = 64;
constexpr std::chrono::seconds kFirstKeyTime{90};

Result<void> make_folder(const std::string& path, mode_t mode) {
  std::error_code error;
  const fs::path parent = fs::path(path).parent_path();
  if (!parent.empty() && !fs::exists(parent, error)) {
    if (const auto made = make_folder(parent.string(), 0755); !made) return made;
  }
  if (::mkdir(path.c_str(), mode) != 0)
    return errno == EEXIST ? Result<void>() : fail_errno(errno, "make folder " + path);
  // What is made durable in it later must not be lost with it.
  return sync_folder(parent.empty() ? "." : parent.string());
}

Result<void> make_own_folder(const std::string& path, const RunAs& owner) {
  if (const auto made = make_folder(path, 0700); !made) return made;
  return owner.change_owner(path);
}

std::string softhsm_text(const std::string& token_folder) {
  return "# SoftHSM's token of a Coffer vault; made by coffer init.\ndirectories.tokendir = " +
         token_folder + "\nobjectstore.backend = file\nlog.level = ERROR\n";
}

Result<void> write_for(const RunAs& owner, const std::string& path, std::string_view text) {
  if (const auto written = write_file_durably(path, as_bytes(text), 0600); !written) return written;
  return owner.change_owner(path);
}

// The PIN in an anonymous file whose page stays locked in memory as long as this lives, for a child
// that reads PINs from files.
class LockedFile {
 public:
  static Result<LockedFile> make(const SecretBytes& content) {
    auto fd = make_memfd("coffer-pin", content.size());
    if (!fd) return tl::unexpected(fd.error());
    void* pages = ::mmap(nullptr, content.size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd->get(), 0);
    if (pages == MAP_FAILED) return fail_errno(errno, "map the PIN's file", Reason::kNoMemory);
    LockedFile file(std::move(*fd), {static_cast<std::byte*>(pages), content.size()});
    if (::mlock(pages, content.size()) != 0)
      return fail_errno(errno, "lock the PIN's file", Reason::kNoMemory);
    std::copy(content.reveal().begin(), content.reveal().end(), file.pages_.begin());
    return file;
  }
  LockedFile(LockedFile&& other) noexcept
      : fd_(std::move(other.fd_)), pages_(std::exchange(other.pages_, {})) {}
  LockedFile& operator=(LockedFile&&) = delete;
  ~LockedFile() {
    if (pages_.empty()) return;
    wipe(pages_);
    ::munmap(pages_.data(), pages_.size());
  }
  int fd() const noexcept { return fd_.get(); }

 private:
  LockedFile(UniqueFd fd, std::span<std::byte> pages) noexcept
      : fd_(std::move(fd)), pages_(pages) {}
  UniqueFd fd_;
  std::span<std::byte> pages_;
};

// What a vault that served before `coffer init` may have left.
bool only_vault_leftovers(const fs::path& folder) {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const auto name = entry.path().filename().string();
    if (!name.starts_with("floors.db") && name != "pin-refused") return false;
  }
  return !error;
}

// Makes all below `folder` durable, whoever wrote it. Links are not followed.
Result<void> sync_tree(const std::string& folder) {
  std::error_code error;
  fs::recursive_directory_iterator at(folder, error);
  for (; !error && at != fs::recursive_directory_iterator(); at.increment(error)) {
    const auto type = at->symlink_status(error).type();
    if (type == fs::file_type::directory) {
      if (const auto synced = sync_folder(at->path().string()); !synced) return synced;
    }
    if (type != fs::file_type::regular) continue;
    // Not blocking, should its owner have made it a pipe meanwhile.
    const UniqueFd fd(::open(at->path().c_str(), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
    if (!fd.valid()) return fail_errno(errno, "open " + at->path().string());
    if (::fsync(fd.get()) != 0) return fail_errno(errno, "fsync " + at->path().string());
  }
  if (error) return fail_errno(error.value(), "look through " + folder);
  return sync_folder(folder);
}

struct AgentParts {
  std::unique_ptr<audit::Journal> journal;
  std::unique_ptr<keyring::KeyStore> store;
};

// In the child that runs as the agent's user.
Result<AgentParts> open_agent_state(const std::string& folder, const HostId& host) {
  AgentParts parts;
  auto store = keyring::open_sqlite_key_store(folder + "/keyring.db");
  if (!store) return tl::unexpected(store.error());
  parts.store = std::move(*store);
  const audit::Journal::Options options{.node = host, .program = "coffer init"};
  auto journal = audit::Journal::open(folder + "/audit", options);
  if (!journal) return tl::unexpected(journal.error());
  parts.journal = std::move(*journal);
  return parts;
}

// In the child: `work` with what is in `folder`, and the vault at the other end of `vault_socket`.
Result<void> work_as_agent(const std::string& folder, const HostId& host, int vault_socket,
                           const std::function<Result<void>(const HostSetup::Agent&)>& work) {
  auto parts = open_agent_state(folder, host);
  if (!parts) return tl::unexpected(parts.error());
  VaultClient::Options options;
  options.name = "coffer-vault of coffer init";
  options.call_timeout = std::chrono::seconds(30);
  options.connect = [vault_socket](Deadline) -> Result<UniqueFd> {
    const int fd = ::fcntl(vault_socket, F_DUPFD_CLOEXEC, 3);
    if (fd < 0) return fail_errno(errno, "use the vault's socket", Reason::kHsmAbsent);
    return UniqueFd(fd);
  };
  VaultClient vault(std::move(options));
  keyring::Keyring keyring({vault, *parts->store, *parts->journal, system_clock()});
  if (const auto reconciled = keyring.reconcile(); !reconciled)
    return tl::unexpected(reconciled.error());
  return work({vault, *parts->store, keyring, *parts->journal, host});
}

Result<void> create_first_key(const HostSetup::Agent& agent) {
  keyring::CmkParameters parameters;
  parameters.alias = kFirstKeyAlias;
  parameters.description = "Made by coffer init.";
  audit::Actor actor;
  actor.origin = audit::Origin::kCli;
  actor.uid = 0;
  const auto created = agent.keyring.create(parameters, actor);
  if (!created) return tl::unexpected(created.error());
  return {};
}

}  // namespace

Result<HostId> read_host_id(const std::string& path) {
  const auto file = read_file(path, kHostIdBytesMax);
  if (!file) return tl::unexpected(file.error());
  std::string_view text = as_text(*file);
  if (text.ends_with('\n')) text.remove_suffix(1);
  auto id = HostId::parse(text);
  if (!id) return fail(Reason::kConfigInvalid, path + " does not hold a host id");
  return id;
}

HostSetup::HostSetup(HostPlaces places, AfterStep after_step)
    : places_(std::move(places)), after_step_(std::move(after_step)) {}

void HostSetup::after(std::string_view step) const {
  if (after_step_) after_step_(step);
}

HostSetup::Progress HostSetup::how_far() const {
  std::error_code error;
  if (fs::exists(places_.config(), error)) return Progress::kConfigured;
  if (fs::exists(places_.vault_state() + "/vault.toml", error)) return Progress::kTokenMade;
  return Progress::kNothing;
}

Result<std::string> HostSetup::ask_agent(const std::string& setting) const {
  auto line = first_line_of(
      {places_.agent_program, "--config", places_.agent_config(), "--print", setting});
  if (!line) return fail(Reason::kConfigInvalid, line.error().message());
  return line;
}

Result<std::string> HostSetup::token_of_agent() const {
  std::error_code error;
  if (fs::exists(places_.agent_config(), error)) return ask_agent("vault-token");
  HostPlaces by_default = places_;
  by_default.token_name = kTokenByDefault;
  // Nothing that the agent uses would be taken from it.
  return fs::exists(by_default.config(), error) ? std::string(kTokenByDefault) : places_.token_name;
}

Result<bool> HostSetup::is_standby() const {
  std::error_code error;
  if (!fs::exists(places_.agent_config(), error)) return false;
  const auto standby = ask_agent("vault-standby");
  if (!standby) return tl::unexpected(standby.error());
  return *standby == places_.token_name;
}

Result<void> HostSetup::require_agent_uses_token() const {
  const auto used = token_of_agent();
  if (!used) return tl::unexpected(used.error());
  const auto standby = is_standby();
  if (!standby) return tl::unexpected(standby.error());
  if (*used == places_.token_name || *standby) return {};
  return fail(Reason::kInvalidArgs, "cofferd uses the vault \"" + printable(*used, 64) +
                                        "\": set token in [vault] of " + places_.agent_config() +
                                        " to \"" + places_.token_name + "\" first");
}

Result<void> HostSetup::point_agent() const {
  std::error_code error;
  const auto path = places_.agent_config();
  if (places_.token_name == kTokenByDefault || fs::exists(path, error)) return {};
  const std::string text =
      "# Made by coffer init.\n[vault]\ntoken = \"" + places_.token_name + "\"\n";
  if (const auto written = write_file_durably(path, as_bytes(text), 0644); !written) return written;
  after("agent-config");
  return {};
}

Result<HostId> HostSetup::ensure_host_id() {
  for (const auto& path : {places_.host_id(), places_.pending_host_id()}) {
    auto id = read_host_id(path);
    if (id || id.error().reason() != Reason::kNoSuchFile) return id;
  }
  const auto path = places_.pending_host_id();
  if (const auto made = make_folder(fs::path(path).parent_path().string(), 0755); !made)
    return tl::unexpected(made.error());
  auto id = HostId::random();
  if (!id) return id;
  if (const auto written = write_file_durably(path, as_bytes(id->str() + "\n"), 0644); !written)
    return tl::unexpected(written.error());
  after("host-id");
  return id;
}

bool HostSetup::host_id_there() const {
  std::error_code error;
  return fs::exists(places_.host_id(), error);
}

Result<void> HostSetup::publish_host_id() {
  const auto from = places_.pending_host_id();
  const auto to = places_.host_id();
  std::error_code error;
  if (host_id_there()) {
    fs::remove(from, error);
    return {};
  }
  if (std::rename(from.c_str(), to.c_str()) != 0)
    return fail_errno(errno, "put " + to + " in place");
  if (const auto synced = sync_folder(fs::path(to).parent_path().string()); !synced) return synced;
  after("published");
  return {};
}

Result<SetupAnswer> HostSetup::make_softhsm_token(const std::string& module_path,
                                                  const SecretBytes& pin, const SecretBytes& seed) {
  const auto staged = places_.staging();
  if (const auto begun = begin_staging(); !begun) return tl::unexpected(begun.error());
  const auto folder = make_own_folder(staged + "/tokens", places_.vault_user);
  if (!folder) return tl::unexpected(folder.error());
  // One configuration for now, one for after the rename.
  const auto now = write_for(places_.vault_user, staged + "/softhsm2-setup.conf",
                             softhsm_text(staged + "/tokens"));
  if (!now) return tl::unexpected(now.error());
  const auto later = write_for(places_.vault_user, staged + "/softhsm2.conf",
                               softhsm_text(places_.vault_state() + "/tokens"));
  if (!later) return tl::unexpected(later.error());

  SetupRequest request;
  request.module_path = module_path;
  request.softhsm_conf = staged + "/softhsm2-setup.conf";
  request.new_token_label = "coffer " + places_.token_name;
  auto pin_copy = SecretBytes::copy_of(pin.reveal());
  if (!pin_copy) return tl::unexpected(pin_copy.error());
  auto seed_copy = SecretBytes::copy_of(seed.reveal());
  if (!seed_copy) return tl::unexpected(seed_copy.error());
  request.pin = std::move(*pin_copy);
  request.seed = std::move(*seed_copy);
  return make(request, places_.vault_state() + "/softhsm2.conf");
}

Result<void> HostSetup::take_over_pin_mark() const {
  const auto from = places_.vault_state() + "/pin-refused";
  const auto to = places_.pin_marks() + "/pin-refused";
  // As the vault's user, who may have put a link there.
  return run_as(places_.vault_user, [&]() -> Result<void> {
    std::error_code error;
    if (fs::exists(to, error)) return {};
    const auto mark = read_file(from, kPinMarkBytesMax);
    if (!mark && mark.error().reason() == Reason::kNoSuchFile) return {};
    if (!mark) return pass(mark.error(), "read which PIN the vault saw refused");
    return write_file_durably(to, *mark, 0600);
  });
}

Result<SetupRequest> HostSetup::request_for(const Existing& token, const SecretBytes& pin) const {
  if (const auto made = make_own_folder(places_.pin_marks(), places_.vault_user); !made)
    return tl::unexpected(made.error());
  if (const auto taken = take_over_pin_mark(); !taken) return tl::unexpected(taken.error());
  SetupRequest request;
  request.module_path = token.module_path;
  request.softhsm_conf = token.softhsm_conf;
  request.uri = token.uri;
  request.pin_mark_file = places_.pin_marks() + "/pin-refused";
  auto pin_copy = SecretBytes::copy_of(pin.reveal());
  if (!pin_copy) return tl::unexpected(pin_copy.error());
  request.pin = std::move(*pin_copy);
  return request;
}

Result<SetupAnswer> HostSetup::take_token(const Existing& token, const SecretBytes& pin,
                                          const SecretBytes& seed) {
  if (const auto begun = begin_staging(); !begun) return tl::unexpected(begun.error());
  auto request = request_for(token, pin);
  if (!request) return tl::unexpected(request.error());
  auto seed_copy = SecretBytes::copy_of(seed.reveal());
  if (!seed_copy) return tl::unexpected(seed_copy.error());
  request->seed = std::move(*seed_copy);
  return make(*request, token.softhsm_conf);
}

Result<SetupAnswer> HostSetup::look_at(const Existing& token, const SecretBytes& pin) {
  auto request = request_for(token, pin);
  if (!request) return tl::unexpected(request.error());
  request->look_only = true;
  return ask_setup(places_.vault_program, places_.vault_user, *request);
}

Result<void> HostSetup::begin_staging() const {
  std::error_code error;
  fs::remove_all(places_.staging(), error);
  if (error)
    return fail(Reason::kIoError, "remove what an interrupted run left: " + error.message());
  return make_own_folder(places_.staging(), places_.vault_user);
}

Result<SetupAnswer> HostSetup::make(const SetupRequest& request, const std::string& softhsm_conf) {
  after("staging");
  auto answer = ask_setup(places_.vault_program, places_.vault_user, request);
  if (!answer) return answer;
  after("token");

  VaultConfig config;
  config.module_path = request.module_path;
  config.uri_text = answer->uri;
  config.state_folder = places_.vault_state();
  config.softhsm_conf = softhsm_conf;
  const auto text = config.to_text();
  // What the vault would refuse must not become its configuration.
  if (const auto parsed = VaultConfig::parse(text); !parsed) return tl::unexpected(parsed.error());
  const auto written = write_file_durably(places_.staging() + "/vault.toml", as_bytes(text), 0644);
  if (!written) return tl::unexpected(written.error());

  if (const auto stored = store_pin(request.pin); !stored) return tl::unexpected(stored.error());
  after("credential");
  if (bring_) {
    if (const auto brought = bring_(places_.staging()); !brought)
      return tl::unexpected(brought.error());
  }
  if (const auto finished = finish_staging(); !finished) return tl::unexpected(finished.error());
  after("state");
  return answer;
}

Result<void> HostSetup::finish_staging() const {
  const auto state = places_.vault_state();
  std::error_code error;
  if (fs::exists(state, error)) {
    if (!only_vault_leftovers(state))
      return fail(Reason::kNameTaken, state + " holds something that coffer init did not make");
    fs::remove_all(state, error);
  }
  const auto staging = places_.staging();
  fs::remove(staging + "/softhsm2-setup.conf", error);
  // SoftHSM leaves its objects to the page cache. Once renamed they count as made for good.
  if (const auto synced = sync_tree(staging); !synced) return synced;
  if (std::rename(staging.c_str(), state.c_str()) != 0)
    return fail_errno(errno, "put the vault's state in place");
  fs::remove_all(places_.pin_marks(), error);  // The token took the PIN.
  return sync_folder(fs::path(state).parent_path().string());
}

Result<void> HostSetup::store_pin(const SecretBytes& pin) {
  const auto folder = fs::path(places_.credential()).parent_path().string();
  if (const auto made = make_folder(folder, 0700); !made) return made;
  std::error_code error;
  if (!plain_wanted_) {
    const auto encrypted = encrypt_credential(pin, places_.credential());
    if (encrypted) {
      fs::remove(places_.drop_in(), error);
      credential_kind_ = CredentialKind::kEncrypted;
      credential_note_ = credential_key_note();
      return {};
    }
    credential_note_ = encrypted.error().message();
  }
  credential_kind_ = CredentialKind::kPlain;
  if (const auto written = write_secret_file_durably(places_.credential(), pin, 0600); !written)
    return written;
  const auto drop_in = places_.drop_in();
  const auto made = make_folder(fs::path(drop_in).parent_path().string(), 0755);
  if (!made) return made;
  const std::string text =
      "# The PIN is not encrypted; made by coffer init.\n[Service]\nLoadCredentialEncrypted=\n"
      "LoadCredential=pin:" +
      places_.credential() + "\n";
  return write_file_durably(drop_in, as_bytes(text), 0644);
}

Result<SecretBytes> HostSetup::read_pin() const {
  std::error_code error;
  if (fs::exists(places_.drop_in(), error)) return read_secret_file(places_.credential(), 1024);
  return decrypt_credential(places_.credential());
}

Result<void> HostSetup::configure() {
  const auto text = read_file(places_.vault_state() + "/vault.toml", VaultConfig::kTextBytesMax);
  if (!text) return pass(text.error(), "read what the vault was set up with");
  const auto config = VaultConfig::parse(as_text(*text));
  if (!config) return tl::unexpected(config.error());
  if (const auto pointed = point_agent(); !pointed) return pointed;
  if (const auto written = write_file_durably(places_.config(), *text, 0644); !written)
    return written;
  after("config");
  return {};
}

bool HostSetup::key_store_there() const {
  std::error_code error;
  return fs::exists(places_.agent_state() + "/keyring.db", error);
}

Result<std::string> HostSetup::root_of_keys() const {
  if (!key_store_there()) return std::string();
  const auto told = make_memfd("coffer-root", 0);
  if (!told) return tl::unexpected(told.error());
  const auto looked = run_as(places_.agent_user, [&]() -> Result<void> {
    const auto store = keyring::open_sqlite_key_store(places_.agent_state() + "/keyring.db");
    if (!store) return tl::unexpected(store.error());
    keyring::KeyQuery query;
    query.count_max = 1;
    const auto page = (*store)->list(query);
    if (!page) return tl::unexpected(page.error());
    if (page->empty()) return {};
    const auto record = keyring::CmkRecord::decode(page->front().record);
    if (!record) return tl::unexpected(record.error());
    return write_exactly_at(told->get(), as_bytes(record->root_id), 0);
  });
  if (!looked) return tl::unexpected(looked.error());
  const auto root = read_file("/proc/self/fd/" + std::to_string(told->get()), kRootIdBytesMax);
  if (!root) return tl::unexpected(root.error());
  return std::string(as_text(*root));
}

Result<bool> HostSetup::first_key_there() {
  const auto folder = places_.agent_state();
  if (!key_store_there()) return false;
  bool there = false;
  const auto looked = run_as(places_.agent_user, [&]() -> Result<void> {
    const auto store = keyring::open_sqlite_key_store(folder + "/keyring.db");
    if (!store) return tl::unexpected(store.error());
    const auto record = (*store)->get_by_alias(kFirstKeyAlias);
    if (!record) return tl::unexpected(record.error());
    return {};
  });
  if (!looked && looked.error().reason() != Reason::kNoSuchKey)
    return tl::unexpected(looked.error());
  there = looked.has_value();
  return there;
}

// An SDF device does not.
bool HostSetup::asks_for_pin() const {
  const auto config = VaultConfig::read(places_.config());
  return !config || config->sdf_library.empty();
}

Result<void> HostSetup::as_agent(const std::string& folder, const SecretBytes& pin,
                                 std::chrono::seconds time_max,
                                 const std::function<Result<void>(const Agent&)>& work) {
  const auto host = ensure_host_id();
  if (!host) return tl::unexpected(host.error());
  SecretBytes read;
  std::optional<LockedFile> file;
  if (asks_for_pin()) {
    if (pin.empty()) {
      auto from_credential = read_pin();
      if (!from_credential) return tl::unexpected(from_credential.error());
      read = std::move(*from_credential);
    }
    auto made = LockedFile::make(pin.empty() ? read : pin);
    if (!made) return tl::unexpected(made.error());
    file.emplace(std::move(*made));
  }
  std::vector<std::string> words{places_.vault_program, "--config", places_.config(),
                                 "--connection"};
  if (file) words.insert(words.end(), {"--pin-file", "/proc/self/fd/3"});
  auto vault = start_program(words, places_.vault_user, file ? file->fd() : -1);
  if (!vault) return tl::unexpected(vault.error());
  auto socket = vault->take_socket();
  const auto worked = run_as(
      places_.agent_user, [&] { return work_as_agent(folder, *host, socket.get(), work); },
      time_max);
  socket.reset();
  const auto ended = vault->wait();
  return worked ? ended : worked;
}

Result<void> HostSetup::make_first_key(const SecretBytes& pin) {
  const auto folder = places_.agent_state();
  if (const auto made = make_own_folder(folder, places_.agent_user); !made) return made;
  const auto created = as_agent(folder, pin, kFirstKeyTime, create_first_key);
  if (!created) return created;
  after("first-key");
  return {};
}

}  // namespace coffer::hsm

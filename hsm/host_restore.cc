// SPDX-License-Identifier: Apache-2.0
#include "hsm/host_restore.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "core/audit/record.h"
#include "core/base/bytes.h"
#include "core/base/files.h"
#include "core/base/unique_fd.h"
#include "hsm/cold_backup.h"
#include "hsm/revision_floors.h"
#include "hsm/setup_launcher.h"
#include "hsm/vault_config.h"

namespace coffer::hsm {
namespace fs = std::filesystem;

namespace {

constexpr std::string_view kMark = "restored";
constexpr std::chrono::hours kDrillTime{6};

constexpr std::string_view kLostFile = "restored.lost";
constexpr std::size_t kReportBytesMax = NamedKeys::kEncodedBytesMax;
constexpr std::size_t kNamedInErrorMax = 20;

// What the drill tells its parent, beside its outcome.
Result<void> tell(int fd, const DrillReport& report) {
  return write_exactly_at(fd, report.encode(), 0);
}
Result<DrillReport> hear(int fd) {
  const auto text = read_file("/proc/self/fd/" + std::to_string(fd), kReportBytesMax);
  if (!text) return tl::unexpected(text.error());
  return DrillReport::decode(*text);
}

Result<void> remove_durably(const std::string& path) {
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail_errno(errno, "remove " + path);
  return sync_folder(fs::path(path).parent_path().string());
}

audit::Event note_of(std::string text) {
  audit::Event event;
  event.kind = audit::Kind::kNote;
  event.actor.origin = audit::Origin::kCli;
  event.actor.uid = 0;
  event.operation = "key.restore";
  event.text = std::move(text);
  return event;
}

Error lost_error(const DrillReport& report) {
  const auto& lost = report.lost;
  std::string text = std::to_string(lost.count) + " keys do not open on this token:";
  for (std::size_t i = 0; i < std::min(lost.keys.size(), kNamedInErrorMax); ++i)
    text += " " + lost.keys[i].id.str();
  if (lost.count > kNamedInErrorMax) text += " …";
  return {Reason::kRecordInvalid, text + " (the first: " + lost.keys.front().why +
                                      "); --accept-lost brings all others back without them"};
}

}  // namespace

Result<HostRestore> HostRestore::open(HostPlaces places, std::string folder,
                                      HostSetup::AfterStep after_step) {
  auto manifest = check_backup(folder);
  if (!manifest) return tl::unexpected(manifest.error());
  return HostRestore(std::move(places), std::move(folder), std::move(*manifest),
                     std::move(after_step));
}

void HostRestore::after(std::string_view step) const {
  if (after_step_) after_step_(step);
}

bool HostRestore::holds_stores(const std::string& folder) const {
  const auto mark = read_file(folder + "/" + std::string(kMark), BackupManifest::kTextBytesMax);
  return mark && as_text(*mark) == manifest_.to_text();
}

Result<void> HostRestore::require_none(const HostPlaces& places) {
  std::error_code error;
  const auto mark = places.restore_mark();
  if (!fs::exists(mark, error)) return {};
  return fail(Reason::kNameTaken,
              "a restore was begun here: finish it with --restore (" + mark + ")");
}

Result<void> HostRestore::require_room() const {
  const auto mark = read_file(places_.restore_mark(), BackupManifest::kTextBytesMax);
  if (mark && as_text(*mark) != manifest_.to_text())
    return fail(Reason::kNameTaken,
                "another backup is being restored: finish that (" + places_.restore_mark() + ")");
  if (!mark && mark.error().reason() != Reason::kNoSuchFile) return tl::unexpected(mark.error());
  for (const auto& path : {places_.host_id(), places_.pending_host_id()}) {
    const auto id = read_host_id(path);
    if (!id && id.error().reason() == Reason::kNoSuchFile) continue;
    if (!id) return tl::unexpected(id.error());
    if (*id != manifest_.host)
      return fail(Reason::kWrongHost, path + " says " + id->str() + ", and the backup is of host " +
                                          manifest_.host.str());
  }
  std::error_code error;
  const auto state = places_.agent_state();
  if (!fs::exists(state, error) || fs::is_empty(state, error) || holds_stores(state)) return {};
  return fail(Reason::kNameTaken, state + " holds this host's own state: put it aside first");
}

Result<void> HostRestore::require_root(const std::string& root_id) const {
  if (root_id == manifest_.root_id) return {};
  return fail(Reason::kNameTaken, "the token holds the root key " + printable(root_id, 64) +
                                      ", the keys of the backup are under " + manifest_.root_id);
}

Result<void> HostRestore::put_device_keys() const {
  // One may lie beside the state of another token, which a device was tried before.
  const auto* file = manifest_.find(BackupManifest::kSdfKeys);
  if (file == nullptr || !manifest_.is_of_device()) return {};
  std::error_code error;
  std::optional<VaultConfig> config;
  if (fs::exists(places_.config(), error)) {
    auto read = VaultConfig::read(places_.config());
    if (!read) return tl::unexpected(read.error());
    config = std::move(*read);
  }
  const auto state = places_.vault_state();
  if (!config || config->sdf_library.empty() || config->state_folder != state)
    return fail(Reason::kUnsupported,
                "the backup is of an SDF device, which has no recovery "
                "shares: connect the device, or one with the same key "
                "encryption key, and write " +
                    places_.config() + " for it first, with the state " + state);
  const auto own = read_file(state + "/" + file->name, VaultConfig::kTextBytesMax);
  const auto kept = read_file(folder_ + "/" + file->name, VaultConfig::kTextBytesMax);
  if (own && kept && *own == *kept) return {};
  // systemd makes an empty one when the unit is started; the rename below takes its place.
  const auto there = fs::symlink_status(state, error);
  if (fs::exists(there) && !(fs::is_directory(there) && fs::is_empty(state, error)))
    return fail(Reason::kNameTaken, state +
                                        " is there, and not with the keys of the backup's "
                                        "device: put it aside first");
  const auto folder = places_.staging();
  fs::remove_all(folder, error);
  fs::create_directories(fs::path(folder).parent_path(), error);
  if (::mkdir(folder.c_str(), 0700) != 0) return fail_errno(errno, "make folder " + folder);
  const auto path = folder + "/" + file->name;
  auto done = take_from_backup(folder_, *file, path);
  if (done) done = places_.vault_user.change_owner(path);
  if (done) done = put_floors(folder);
  if (done) done = places_.vault_user.change_owner(folder);
  if (done) done = sync_folder(folder);
  if (!done) return done;
  if (::rename(folder.c_str(), state.c_str()) != 0)
    return fail_errno(errno, "put " + state + " in place");
  if (auto synced = sync_folder(fs::path(state).parent_path().string()); !synced) return synced;
  after("device-keys");
  return {};
}

Result<void> HostRestore::require_floors() const {
  const auto* file = manifest_.find(BackupManifest::kFloors);
  std::error_code error;
  if (file == nullptr || fs::exists(places_.restore_mark(), error)) return {};
  // Where the vault's user may open a copy.
  const auto folder = places_.staging();
  fs::remove_all(folder, error);
  if (::mkdir(folder.c_str(), 0700) != 0) return fail_errno(errno, "make folder " + folder);
  auto done = places_.vault_user.change_owner(folder);
  const auto copy = folder + "/" + file->name;
  if (done) done = take_from_backup(folder_, *file, copy);
  if (done) done = places_.vault_user.change_owner(copy);
  if (done) {
    done = run_as(places_.vault_user, [&]() -> Result<void> {
      const auto own = places_.vault_state() + "/" + file->name;
      auto floors = fs::exists(own) ? open_sqlite_floors(own) : make_memory_floors();
      if (!floors) return tl::unexpected(floors.error());
      const auto cover = floors_cover(**floors, copy);
      if (!cover) return tl::unexpected(cover.error());
      if (*cover) return {};
      return fail(
          Reason::kNameTaken,
          "the token was set up before this restore, and its vault does not refuse all that "
          "the backup's does: put " +
              places_.vault_state() + " and " + places_.config() +
              " aside, so that it is set up again");
    });
  }
  fs::remove_all(folder, error);
  return done;
}

Result<void> HostRestore::begin() const {
  std::error_code error;
  const auto path = places_.pending_host_id();
  fs::create_directories(fs::path(path).parent_path(), error);
  const auto marked =
      write_file_durably(places_.restore_mark(), as_bytes(manifest_.to_text()), 0600);
  if (!marked) return marked;
  after("mark");
  if (fs::exists(places_.host_id(), error)) return {};
  const auto written = write_file_durably(path, as_bytes(manifest_.host.str() + "\n"), 0644);
  if (!written) return written;
  after("host-id");
  return {};
}

Result<void> HostRestore::end() const {
  return remove_durably(places_.restore_mark());
}

Result<void> HostRestore::put_floors(const std::string& vault_staging) const {
  const auto* file = manifest_.find(BackupManifest::kFloors);
  if (file == nullptr) return {};
  const auto path = vault_staging + "/" + file->name;
  if (const auto taken = take_from_backup(folder_, *file, path); !taken) return taken;
  const auto given = places_.vault_user.change_owner(path);
  if (!given) return given;
  after("floors");
  return {};
}

Result<void> HostRestore::fill_staging() const {
  if (holds_stores(staging())) return {};
  std::error_code error;
  fs::remove_all(staging(), error);
  if (error) return fail_errno(error.value(), "remove what an interrupted run left");
  fs::create_directories(fs::path(staging()).parent_path(), error);
  if (::mkdir(staging().c_str(), 0700) != 0) return fail_errno(errno, "make folder " + staging());
  for (const auto name : {BackupManifest::kRegistry, BackupManifest::kKeys}) {
    const auto* file = manifest_.find(name);
    if (file == nullptr) continue;
    const auto path = staging() + "/" + file->name;
    if (const auto taken = take_from_backup(folder_, *file, path); !taken) return taken;
    if (const auto given = places_.agent_user.change_owner(path); !given) return given;
    after(name);
  }
  const auto mark = staging() + "/" + std::string(kMark);
  if (const auto written = write_file_durably(mark, as_bytes(manifest_.to_text())); !written)
    return written;
  after("stores");
  return {};
}

// As the agent's user.
Result<void> HostRestore::keep_lost(const HostSetup::Agent& agent,
                                    const DrillReport& report) const {
  std::vector<audit::Event> events;
  for (const auto& key : report.lost.keys) {
    events.push_back(note_of("lost: " + key.why));
    events.back().cmk = key.id;
  }
  events.push_back(note_of("a cold backup of " + std::to_string(manifest_.keys) +
                           " keys, lost ones accepted: " + report.str()));
  for (std::size_t i = 0; i < events.size(); i += audit::AuditLog::kEventsMax) {
    const auto count = std::min(events.size() - i, audit::AuditLog::kEventsMax);
    const auto recorded = agent.log.append(std::span(events).subspan(i, count));
    if (!recorded) return tl::unexpected(recorded.error());
  }
  return write_file_durably(staging() + "/" + std::string(kLostFile), as_bytes(report.lost.lines()),
                            0600);
}

Result<DrillReport> HostRestore::drill(HostSetup& setup, const SecretBytes& pin, Lost lost) const {
  const auto heard = make_memfd("coffer-drill", 0);
  if (!heard) return tl::unexpected(heard.error());
  const auto drilled = setup.as_agent(
      staging(), pin, kDrillTime, [&](const HostSetup::Agent& agent) -> Result<void> {
        const auto health = agent.vault.health();
        if (health.state != keyring::VaultState::kUp)
          return fail(Reason::kHsmAbsent, "the token is not up: " + health.detail);
        if (const auto same = require_root(health.root_id); !same) return same;
        const auto report = drill_keys(agent);
        if (!report) return tl::unexpected(report.error());
        if (!report->lost.empty() && lost == Lost::kRefuse)
          return tl::unexpected(lost_error(*report));
        // Keys that an earlier run found lost may open now.
        const auto kept = report->lost.empty()
                              ? remove_durably(staging() + "/" + std::string(kLostFile))
                              : keep_lost(agent, *report);
        if (!kept) return kept;
        return tell(heard->get(), *report);
      });
  if (!drilled) return tl::unexpected(drilled.error());
  return hear(heard->get());
}

Result<HostRestore::Outcome> HostRestore::put_stores(HostSetup& setup, const SecretBytes& pin,
                                                     Lost lost) const {
  Outcome outcome;
  if (!holds_stores(places_.agent_state())) {
    if (const auto filled = fill_staging(); !filled) return tl::unexpected(filled.error());
    const auto given = places_.agent_user.change_owner(staging());
    if (!given) return tl::unexpected(given.error());
    auto report = drill(setup, pin, lost);
    if (!report) return pass(report.error(), "drill");
    outcome.report = std::move(*report);
    after("drill");
    // Its files are on the disk, and so is what the drill wrote. An empty folder is replaced by it.
    if (::rename(staging().c_str(), places_.agent_state().c_str()) != 0)
      return fail_errno(errno, "put " + places_.agent_state() + " in place");
    const auto parent = fs::path(staging()).parent_path().string();
    if (const auto synced = sync_folder(parent); !synced) return tl::unexpected(synced.error());
    after("in-place");
  }
  const auto names =
      read_file(places_.agent_state() + "/" + std::string(kLostFile), kReportBytesMax);
  if (!names && names.error().reason() != Reason::kNoSuchFile) return tl::unexpected(names.error());
  if (names) outcome.lost = as_text(*names);
  return outcome;
}

}  // namespace coffer::hsm

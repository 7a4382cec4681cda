// SPDX-License-Identifier: Apache-2.0
#include "dbus/change_signals.h"

#include <algorithm>
#include <vector>

#include "dbus/message.h"
#include "dbus/names.h"
#include "dbus/paths.h"

namespace coffer::dbus {
namespace {

using agent::VolumeInfo;

bool same_keys(const std::vector<agent::VolumeKey>& a, const std::vector<agent::VolumeKey>& b) {
  const auto same = [](const agent::VolumeKey& x, const agent::VolumeKey& y) {
    return x.cmk == y.cmk && x.version == y.version && x.provider == y.provider;
  };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), same);
}

// The names of the properties of Volume that differ, for PropertiesChanged.
std::vector<const char*> changed_properties(const VolumeInfo& a, const VolumeInfo& b) {
  std::vector<const char*> names;
  const auto note = [&](const char* name, bool same) {
    if (!same) names.push_back(name);
  };
  note("Name", a.name == b.name);
  note("Device", a.device == b.device);
  note("DeviceNode", a.device_node == b.device_node);
  note("HeaderDevice", a.header_device == b.header_device);
  note("MappedName", a.mapped_name == b.mapped_name);
  note("State", a.state == b.state);
  note("MappedDevice", a.state == b.state && a.mapped_name == b.mapped_name);
  note("StateReason", a.state_reason == b.state_reason);
  note("LastError", a.last_error == b.last_error);
  note("Auto", a.automatic == b.automatic);
  note("LockedByAdmin", a.locked_by_admin == b.locked_by_admin);
  note("ReadOnly", a.read_only == b.read_only);
  note("Keys", same_keys(a.keys, b.keys));
  note("Threshold", a.threshold == b.threshold);
  note("OwnedKeyslots", a.owned_keyslots == b.owned_keyslots);
  note("ForeignKeyslots", a.foreign_keyslots == b.foreign_keyslots);
  note("TokenId", a.token_id == b.token_id);
  note("Generation", a.generation == b.generation);
  note("Size", a.size_bytes == b.size_bytes);
  note("MetadataSize", a.metadata_bytes == b.metadata_bytes);
  note("MetadataFree", a.metadata_free_bytes == b.metadata_free_bytes);
  note("HeaderCopies", a.header_copies == b.header_copies);
  note("Cipher", a.cipher == b.cipher);
  note("KeySize", a.key_bits == b.key_bits);
  note("SectorSize", a.sector_bytes == b.sector_bytes);
  note("FileSystem", a.file_system == b.file_system);
  note("Origin", a.origin == b.origin);
  note("LastUnlockUSec", a.last_unlock == b.last_unlock);
  note("LastUnlockDurationUSec", a.last_unlock_duration == b.last_unlock_duration);
  return names;
}

void emit_changed(sd_bus* bus, const std::string& path, const char* interface,
                  std::vector<const char*> names) {
  if (names.empty()) return;
  names.push_back(nullptr);
  // sd-bus takes a char** and does not write to it.
  ::sd_bus_emit_properties_changed_strv(bus, path.c_str(), interface,
                                        const_cast<char**>(names.data()));
}

// Everything that sd_bus_emit_object_added() announced for an object with `interface`.
void emit_removed(sd_bus* bus, const std::string& path, const char* interface) {
  ::sd_bus_emit_interfaces_removed(bus, path.c_str(), interface, "org.freedesktop.DBus.Peer",
                                   "org.freedesktop.DBus.Introspectable",
                                   "org.freedesktop.DBus.Properties", nullptr);
}

std::string text(std::string_view words) {
  return printable_utf8(words);
}

}  // namespace

ChangeSignals::ChangeSignals(sd_bus* bus, agent::Engine& engine, ipc::EventLoop& loop)
    : bus_(bus), engine_(engine), loop_(loop), manager_(engine.manager()) {
  for (auto& volume : engine_.volumes()) volumes_.emplace(volume.id, std::move(volume));
  for (const auto& key : engine_.keys()) key_states_.emplace(key.record.id, key.record.state);
  for (const auto& job : engine_.jobs())
    jobs_[job.id] = {job.operation, std::string(job_state_name(job.state))};
  engine_.set_observer(this);
}

ChangeSignals::~ChangeSignals() {
  engine_.set_observer(nullptr);
}

void ChangeSignals::volume_added(const VolumeId& id) {
  const auto volume = engine_.volume(id);
  if (!volume) return;
  volumes_.insert_or_assign(id, *volume);
  const auto path = volume_path(id);
  ::sd_bus_emit_object_added(bus_, path.c_str());
  ::sd_bus_emit_signal(bus_, kRootPath, kManagerInterface, "VolumeNew", "so", id.str().c_str(),
                       path.c_str());
  mark_manager();
}

void ChangeSignals::volume_changed(const VolumeId& id, agent::VolumeState before) {
  const auto volume = engine_.volume(id);
  if (!volume) return;
  const auto path = volume_path(id);
  const auto told = volumes_.find(id);
  if (told != volumes_.end())
    emit_changed(bus_, path, kVolumeInterface, changed_properties(told->second, *volume));
  volumes_.insert_or_assign(id, *volume);
  if (before == volume->state) return;
  ::sd_bus_emit_signal(bus_, path.c_str(), kVolumeInterface, "StateChanged", "sss",
                       std::string(volume_state_name(before)).c_str(),
                       std::string(volume_state_name(volume->state)).c_str(),
                       text(volume->state_reason).c_str());
  mark_manager();
}

void ChangeSignals::volume_removed(const VolumeId& id) {
  volumes_.erase(id);
  const auto path = volume_path(id);
  emit_removed(bus_, path, kVolumeInterface);
  ::sd_bus_emit_signal(bus_, kRootPath, kManagerInterface, "VolumeRemoved", "so", id.str().c_str(),
                       path.c_str());
  mark_manager();
}

void ChangeSignals::job_added(agent::JobId id) {
  const auto job = engine_.job(id);
  if (!job) return;
  jobs_[id] = {job->operation, std::string(job_state_name(job->state))};
  const auto path = job_path(id);
  ::sd_bus_emit_object_added(bus_, path.c_str());
  ::sd_bus_emit_signal(bus_, kRootPath, kManagerInterface, "JobNew", "uos", id, path.c_str(),
                       text(job->operation).c_str());
  jobs_came_or_went_ = true;
  mark_manager();
}

void ChangeSignals::job_changed(agent::JobId id) {
  mark_job(id);
}

void ChangeSignals::job_item_done(agent::JobId id, const agent::JobItem& item) {
  const auto error = item.error ? dbus_error_name(item.error->reason()) : "";
  ::sd_bus_emit_signal(bus_, job_path(id).c_str(), kJobInterface, "ItemDone", "sss",
                       item.volume.str().c_str(), text(item.result).c_str(), error.c_str());
  mark_job(id);
}

void ChangeSignals::job_completed(agent::JobId id) {
  const auto job = engine_.job(id);
  if (!job) return;
  jobs_[id] = {job->operation, std::string(job_state_name(job->state))};
  // Who hears Completed may rely on the properties.
  emit_job(id);
  ::sd_bus_emit_signal(bus_, job_path(id).c_str(), kJobInterface, "Completed", "bs",
                       static_cast<int>(job->state == agent::JobState::kDone),
                       text(job->message).c_str());
  mark_manager();
}

void ChangeSignals::job_removed(agent::JobId id) {
  jobs_dirty_.erase(id);
  jobs_came_or_went_ = true;
  const auto path = job_path(id);
  const auto ended = jobs_.extract(id);
  emit_removed(bus_, path, kJobInterface);
  if (!ended.empty())
    ::sd_bus_emit_signal(bus_, kRootPath, kManagerInterface, "JobRemoved", "uoss", id, path.c_str(),
                         text(ended.mapped().operation).c_str(), ended.mapped().result.c_str());
  mark_manager();
}

void ChangeSignals::key_added(const CmkId& id) {
  ::sd_bus_emit_object_added(bus_, key_path(id).c_str());
  tell_volumes_of(id);
}

void ChangeSignals::key_changed(const CmkId& id) {
  ::sd_bus_emit_properties_changed(
      bus_, key_path(id).c_str(), kKeyInterface, "Alias", "Description", "State", "Version",
      "Versions", "Protection", "TokenKind", "ChangedUSec", "RotationDays", "NextRotationUSec",
      "DeletionUSec", "MaterialValidToUSec", "PublicKey", "Tags", "NVolumes", nullptr);
  tell_volumes_of(id);
}

void ChangeSignals::key_removed(const CmkId& id) {
  emit_removed(bus_, key_path(id), kKeyInterface);
  if (key_states_.erase(id) == 0) return;
  tell_users_of(id);
}

// A volume's Keys shows the state of each of its keys, which is no part of VolumeInfo.
void ChangeSignals::tell_volumes_of(const CmkId& id) {
  const auto key = engine_.key(id.str());
  if (!key) return;
  const auto told = key_states_.find(id);
  if (told != key_states_.end() && told->second == key->record.state) return;
  key_states_.insert_or_assign(id, key->record.state);
  tell_users_of(id);
}

void ChangeSignals::tell_users_of(const CmkId& id) {
  for (const auto& [volume, info] : volumes_) {
    const auto is_it = [&](const agent::VolumeKey& used) { return used.cmk == id; };
    if (std::any_of(info.keys.begin(), info.keys.end(), is_it))
      emit_changed(bus_, volume_path(volume), kVolumeInterface, {"Keys"});
  }
}

void ChangeSignals::provider_changed(const std::string& name) {
  ::sd_bus_emit_properties_changed(bus_, provider_path(name).c_str(), kKeyProviderInterface,
                                   "State", "Kind", "Detail", "LastError", "LatencyUSec",
                                   "Failures", "Algorithms", "TokenKind", "Priority", nullptr);
}

void ChangeSignals::manager_changed() {
  mark_manager();
}

void ChangeSignals::audit_recorded(std::uint64_t sequence, const std::string& event,
                                   const std::string& object) {
  ::sd_bus_emit_signal(bus_, kRootPath, kAuditInterface, "Recorded", "tss", sequence,
                       text(event).c_str(), text(object).c_str());
}

void ChangeSignals::alert(const std::string& severity, Reason reason, const std::string& object,
                          const std::string& words) {
  ::sd_bus_emit_signal(bus_, kRootPath, kManagerInterface, "Alert", "ssss", text(severity).c_str(),
                       dbus_error_name(reason).c_str(), text(object).c_str(), text(words).c_str());
}

void ChangeSignals::mark_manager() {
  manager_dirty_ = true;
  arm();
}

void ChangeSignals::mark_job(agent::JobId id) {
  jobs_dirty_.insert(id);
  arm();
}

// The first change waits a full interval too: so changes that come together go out together.
void ChangeSignals::arm() {
  if (armed_) return;
  auto timer = loop_.after(kCoalesce, [this] { flush(); });
  if (!timer) return flush();
  timer_ = std::move(*timer);
  armed_ = true;
}

void ChangeSignals::flush() {
  armed_ = false;
  if (std::exchange(manager_dirty_, false)) emit_manager();
  for (const auto id : std::exchange(jobs_dirty_, {})) emit_job(id);
}

void ChangeSignals::emit_manager() {
  auto now = engine_.manager();
  std::vector<const char*> names;
  if (now.mode != manager_.mode) names.push_back("Mode");
  if (now.volume_count != manager_.volume_count) names.push_back("NVolumes");
  if (now.unlocked_count != manager_.unlocked_count) names.push_back("NUnlocked");
  if (now.failed_count != manager_.failed_count) names.push_back("NFailed");
  if (now.boot_finished != manager_.boot_finished) names.push_back("BootFinishedUSec");
  if (now.boot_unlock_duration != manager_.boot_unlock_duration)
    names.push_back("BootUnlockDurationUSec");
  if (std::exchange(jobs_came_or_went_, false)) names.push_back("Jobs");
  manager_ = std::move(now);
  emit_changed(bus_, kRootPath, kManagerInterface, std::move(names));
}

void ChangeSignals::emit_job(agent::JobId id) {
  jobs_dirty_.erase(id);
  emit_changed(bus_, job_path(id), kJobInterface,
               {"State", "Progress", "Total", "Done", "Failed", "Bytes", "Rate", "ExpectedEndTime",
                "EndTime", "Cancelable", "Message"});
}

}  // namespace coffer::dbus

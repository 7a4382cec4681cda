// SPDX-License-Identifier: Apache-2.0
#include "agent/volume_table.h"

#include <algorithm>
#include <iterator>
#include <set>
#include <tuple>

#include "agent/unlock/find_candidates.h"
#include "core/keyring/key_context.h"
#include "core/keyring/wrapped_key.h"

namespace coffer::agent {
namespace {

std::uint32_t threshold_of(const VolumeRow& row) {
  const auto context = keyring::KeyContext::decode(row.context);
  return context && context->shares ? context->shares->needed : 1;
}

}  // namespace

Volume* VolumeTable::find(const VolumeId& id) {
  const auto found = volumes_.find(id);
  return found == volumes_.end() ? nullptr : &found->second;
}

const Volume* VolumeTable::find(const VolumeId& id) const {
  const auto found = volumes_.find(id);
  return found == volumes_.end() ? nullptr : &found->second;
}

std::vector<VolumeId> VolumeTable::ids() const {
  std::vector<VolumeId> all;
  all.reserve(volumes_.size());
  for (const auto& [id, volume] : volumes_) all.push_back(id);
  return all;
}

std::vector<VolumeInfo> VolumeTable::infos() const {
  std::vector<VolumeInfo> all;
  all.reserve(volumes_.size());
  for (const auto& [id, volume] : volumes_) all.push_back(volume.info);
  std::sort(all.begin(), all.end(),
            [](const VolumeInfo& a, const VolumeInfo& b) { return a.name < b.name; });
  return all;
}

std::uint32_t VolumeTable::count(VolumeState state) const {
  const auto is = [&](const auto& entry) { return entry.second.info.state == state; };
  return static_cast<std::uint32_t>(std::count_if(volumes_.begin(), volumes_.end(), is));
}

std::uint32_t VolumeTable::count_using(const CmkId& key) const {
  const auto found = uses_.find(key);
  return found == uses_.end() ? 0 : found->second;
}

std::uint32_t VolumeTable::count_needing(const CmkId& key,
                                         const std::function<bool(const CmkId&)>& serves) const {
  const auto needs = [&](const auto& entry) {
    const auto& [row, info] = std::tie(entry.second.row, entry.second.info);
    const std::set<CmkId> keys(row.keys.begin(), row.keys.end());
    const auto others = std::count_if(keys.begin(), keys.end(), [&](const CmkId& other) {
      return other != key && serves(other);
    });
    return keys.contains(key) && others < info.threshold;
  };
  return static_cast<std::uint32_t>(std::count_if(volumes_.begin(), volumes_.end(), needs));
}

Result<VolumeId> VolumeTable::resolve(const std::string& spec) const {
  if (const auto id = VolumeId::parse(spec); id && volumes_.contains(*id)) return *id;
  std::optional<VolumeId> match;
  for (const auto& [id, volume] : volumes_) {
    const auto paths = paths_.find(id);
    const bool by_path =
        paths != paths_.end() &&
        std::find(paths->second.begin(), paths->second.end(), spec) != paths->second.end();
    const bool same = volume.row.name == spec || volume.row.device.path == spec || by_path ||
                      "/dev/mapper/" + volume.row.mapped_name == spec;
    if (!same) continue;
    if (match) {
      return fail(Reason::kAmbiguousVolume,
                  "more than one volume answers to \"" + printable(spec, 200) + "\"");
    }
    match = id;
  }
  if (match) return *match;
  return fail(Reason::kNoSuchVolume, "no volume \"" + printable(spec, 200) + "\"");
}

Volume& VolumeTable::put(const VolumeRow& row) {
  const bool is_new = !volumes_.contains(row.id);
  Volume& volume = volumes_[row.id];
  const VolumeState before = volume.info.state;
  const std::vector<CmkId> keys_before = volume.row.keys;
  if (volume.row.state != row.state) volume.recover_tried = false;  // The next step may be due.
  volume.row = row;
  fill(volume);
  if (is_new) {
    volume.info.state =
        row.state == RowState::kProvisioning ? VolumeState::kProvisioning : VolumeState::kAbsent;
    if (observer_ != nullptr) observer_->volume_added(row.id);
  } else {
    tell(volume, before);
  }
  count_keys(keys_before, row.keys);
  return volume;
}

void VolumeTable::erase(const VolumeId& id) {
  const auto gone = volumes_.extract(id);
  if (gone.empty()) return;
  paths_.erase(id);
  if (observer_ != nullptr) observer_->volume_removed(id);
  count_keys(gone.mapped().row.keys, {});
}

// A key counts its volumes: those that one volume came to use or no longer uses have changed.
void VolumeTable::count_keys(const std::vector<CmkId>& before, const std::vector<CmkId>& now) {
  const std::set<CmkId> old_keys(before.begin(), before.end());
  const std::set<CmkId> new_keys(now.begin(), now.end());
  std::vector<CmkId> changed;
  std::set_symmetric_difference(old_keys.begin(), old_keys.end(), new_keys.begin(), new_keys.end(),
                                std::back_inserter(changed));
  for (const CmkId& key : changed) {
    if (new_keys.contains(key)) {
      ++uses_[key];
    } else if (--uses_[key] == 0) {
      uses_.erase(key);
    }
  }
  if (observer_ == nullptr) return;
  for (const CmkId& key : changed) observer_->key_changed(key);
}

void VolumeTable::fill(Volume& volume) const {
  const VolumeRow& row = volume.row;
  VolumeInfo& info = volume.info;
  info.id = row.id;
  info.name = row.name;
  info.device = row.device.path;
  info.header_device = row.header_device.path;
  info.mapped_name = row.mapped_name;
  info.automatic = row.automatic;
  info.locked_by_admin = row.locked_by_admin;
  info.generation = row.generation;
  info.file_system = row.file_system_made ? row.file_system : "";
  info.last_unlock = row.last_unlock;
  info.keys.clear();
  for (const Bytes& wrap : row.wraps) {
    const auto blob = keyring::WrappedKey::decode(wrap);
    if (blob) info.keys.push_back({blob->cmk, blob->cmk_version, provider_});
  }
  info.threshold = threshold_of(row);
  if (const auto profile = luks2::decode_profile(row.profile)) {
    info.cipher = profile->cipher;
    info.key_bits = profile->key_bytes * 8;
    info.sector_bytes = profile->sector_bytes;
    info.metadata_bytes = profile->metadata_bytes;
  }
}

void VolumeTable::tell(const Volume& volume, VolumeState before) {
  if (observer_ != nullptr) observer_->volume_changed(volume.row.id, before);
}

void VolumeTable::set_state(Volume& volume, VolumeState state, const std::string& reason) {
  const VolumeState before = volume.info.state;
  if (before == state && volume.info.state_reason == reason) return;
  volume.info.state = state;
  volume.info.state_reason = reason;
  volume.info.origin = state == VolumeState::kUnlocked ? "hsm" : "none";
  if (state == VolumeState::kUnlocked) volume.info.last_error.reset();
  tell(volume, before);
}

void VolumeTable::set_failed(Volume& volume, const Error& error) {
  volume.info.last_error = error;
  const VolumeState before = volume.info.state;
  volume.info.state =
      error.reason() == Reason::kDeviceAbsent ? VolumeState::kAbsent : VolumeState::kFailed;
  volume.info.state_reason = std::string(error.name());
  volume.info.origin = "none";
  tell(volume, before);
}

void VolumeTable::set_header(Volume& volume, const luks2::CheckedHeader& header,
                             std::uint64_t device_bytes) {
  if (header.profile && device_bytes > header.profile->data_offset_bytes) {
    const std::uint64_t rest = device_bytes - header.profile->data_offset_bytes;
    volume.info.size_bytes = header.profile->data_size_bytes.value_or(rest);
  }
  volume.info.header_copies = std::string(luks2::copies_name(header.copies));
  volume.info.metadata_bytes = header.metadata_bytes;
  volume.info.metadata_free_bytes = header.json_free_bytes;
  volume.info.token_id = header.token ? static_cast<std::int32_t>(header.token_id) : -1;
  volume.info.foreign_keyslots = header.keyslots_foreign;
  volume.info.owned_keyslots = header.keyslots_owned;
}

const Disk* VolumeTable::locate(const VolumeRow& row, std::span<const Disk> disks) {
  if (const Disk* disk = find_disk(disks, row.device)) return disk;
  if (!row.header_device.path.empty()) return nullptr;
  const std::string uuid = row.id.str();
  for (const Disk& disk : disks) {
    if (disk.file_system_type == "crypto_LUKS" && disk.file_system_uuid == uuid) return &disk;
  }
  return nullptr;
}

void VolumeTable::set_disks(std::span<const Disk> disks) {
  for (auto& [id, volume] : volumes_) {
    const Disk* disk = locate(volume.row, disks);
    auto& paths = paths_[id];
    paths.clear();
    if (disk != nullptr && !volume.present) volume.recover_tried = false;
    volume.present = disk != nullptr;
    if (disk == nullptr) {
      volume.tried = false;  // When it comes back it is tried again.
      volume.info.device_node.clear();
      continue;
    }
    volume.info.device_node = disk->node;
    paths = disk->links;
    paths.push_back(disk->node);
  }
}

}  // namespace coffer::agent

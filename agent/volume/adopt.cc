// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/adopt.h"

#include <algorithm>
#include <set>

#include "agent/unlock/choose_keys.h"
#include "agent/unlock/decide.h"
#include "agent/unlock/find_candidates.h"
#include "agent/unlock/scan_headers.h"
#include "agent/volume/bindings.h"

namespace coffer::agent {
namespace {

// What a scan found to adopt.
struct Found {
  Disk disk;
  std::optional<Disk> header_disk;
  DeviceIdentity device;
  luks2::CheckedHeader header;
};

Result<Found> look(const AdoptCall& call, std::span<const Disk> disks, Worker& worker) {
  const auto disk = disk_at(disks, call.device);
  if (!disk) return tl::unexpected(disk.error());
  std::optional<Disk> header_disk;
  if (!call.options.header_device.empty()) {
    const auto found = disk_at(disks, call.options.header_device);
    if (!found) return tl::unexpected(found.error());
    header_disk = *found;
  }
  const ScanItem item{.device = disk->node, .header_device = header_disk ? header_disk->node : ""};
  const auto scanned = worker.scan({&item, 1}, call.call.deadline);
  if (!scanned) return tl::unexpected(scanned.error());
  if (scanned->empty()) return fail(Reason::kInternal, "the worker scanned nothing");
  if (!scanned->front()) return tl::unexpected(scanned->front().error());
  const ScannedDevice& device = *scanned->front();
  worker.release({&device.handle, 1});
  const Disk* header = header_disk ? &*header_disk : nullptr;
  if (const auto same = require_same_devices(*disk, header, device); !same) {
    return tl::unexpected(same.error());
  }
  if (!device.header) return tl::unexpected(device.header.error());
  return Found{*disk, header_disk, device.device, *device.header};
}

// Everything the token says must fit the header it is in and this host.
Result<keyring::KeyContext> require_own(const luks2::CheckedHeader& header,
                                        const std::string& host_id) {
  if (header.activation) return tl::unexpected(header.activation->error());
  if (!header.token) {
    if (header.token_refusal) return tl::unexpected(header.token_refusal->error());
    return fail(Reason::kTokenMissing, "the header has no token of type coffer");
  }
  if (!header.profile) return fail(Reason::kHeaderUnusual, "the header fits no profile");
  auto context = keyring::KeyContext::decode(header.token->context);
  if (!context) return context;

  keyring::KeyContext expected = *context;
  expected.purpose = keyring::Purpose::kVolumeKey;
  expected.volume = VolumeId(header.uuid);
  if (!context->host_scope.empty()) expected.host_scope = host_id;
  expected.cipher = header.profile->cipher;
  expected.key_bytes = header.profile->key_bytes;
  expected.profile_digest = luks2::profile_digest(*header.profile);
  expected.generation = header.token->generation;
  if (const auto same = keyring::require_same(expected, *context); !same) {
    return tl::unexpected(same.error());
  }
  const auto fits =
      keyring::require_threshold(*context, header.token->threshold, header.token->wraps.size());
  if (!fits) return tl::unexpected(fits.error());
  return context;
}

VolumeRow row_of(const Found& found, const AdoptCall& call) {
  const auto& [disk, header_disk, device, header] = found;
  VolumeRow row;
  row.id = VolumeId(header.uuid);
  row.name = call.options.name;
  if (row.name.empty())
    row.name = require_volume_name(header.label) ? header.label : name_for(disk);
  row.mapped_name = row.name;
  row.device = disk.identity();
  if (header_disk) row.header_device = header_disk->identity();
  row.device_bytes = device.size_bytes;
  row.state = RowState::kReady;
  row.profile = luks2::encode_profile(*header.profile);
  row.generation = header.token->generation;
  row.context = header.token->context;
  row.wraps = header.token->wraps;
  for (const Bytes& wrap : row.wraps) {
    if (const auto blob = keyring::WrappedKey::decode(wrap)) row.keys.push_back(blob->cmk);
  }
  row.automatic = call.options.automatic;
  return row;
}

// A provisioning that a crash cut off ends here: the header stands, and says what the row does not.
void complete(VolumeRow& row, const VolumeRow& from_header) {
  row.state = RowState::kReady;
  row.generation = from_header.generation;
  row.context = from_header.context;
  row.wraps = from_header.wraps;
  row.keys = from_header.keys;
}

// A disk of the volume moves only from where it is no more: else what stands here is a copy, and
// nothing tells which of them is the volume.
Result<void> require_gone(const VolumeRow& row, const DiskIdentity& registered, const Disk* now,
                          std::span<const Disk> disks) {
  if (registered.path.empty()) return {};
  const Disk* before = find_disk(disks, registered);
  if (before == nullptr || (now != nullptr && before->node == now->node)) return {};
  const bool tells =
      is_stable_path(registered.path) || !registered.serial.empty() || !registered.wwn.empty();
  // Where nothing but the node is known, another disk may have come to it.
  if (!tells && before->file_system_uuid != row.id.str()) return {};
  return fail(Reason::kAmbiguousVolume,
              row.name + " is registered on " + before->node +
                  ", which is still there: unplug it, or forget the volume and adopt this copy");
}

Result<void> require_closed(const VolumeRow& row, Deadline deadline, Worker& worker) {
  const auto mappings = worker.list_mappings(deadline);
  // A kernel without device-mapper has nothing open.
  if (!mappings && mappings.error().reason() == Reason::kUnsupported) return {};
  if (!mappings) return tl::unexpected(mappings.error());
  const auto is_its = [&](const Mapping& mapping) {
    return mapping.marked && mapping.volume == row.id;
  };
  if (std::none_of(mappings->begin(), mappings->end(), is_its)) return {};
  return fail(Reason::kBusy, row.name + " is open: lock it first");
}

Result<void> require_movable(const VolumeRow& row, const Found& found, const AdoptCall& call,
                             std::span<const Disk> disks, Worker& worker) {
  if (auto pinned = require_pinned(row, found.header); !pinned) return pinned;
  if (auto whole = require_whole(row, found.device); !whole) return whole;
  if (auto gone = require_gone(row, row.device, &found.disk, disks); !gone) return gone;
  const Disk* header = found.header_disk ? &*found.header_disk : nullptr;
  if (auto gone = require_gone(row, row.header_device, header, disks); !gone) return gone;
  return require_closed(row, call.call.deadline, worker);
}

// Nothing is lost then. A row that only could not be read just now says what must be checked first.
bool can_be_replaced(Reason why_not_found) {
  return why_not_found == Reason::kNoSuchVolume || why_not_found == Reason::kStoreDamaged;
}

// A key that does not come back now, which another one may serve instead of.
bool is_lost(Reason reason) {
  return reason == Reason::kNoSuchKey || reason == Reason::kKeyPendingDeletion ||
         reason == Reason::kRecordInvalid || reason == Reason::kNameTaken;
}

// Brings back the keys whose records the token has. Of several so many may be lost as the volume
// opens without: what they are, and why.
Result<std::string> take_keys(const luks2::Token& token, const LifeCall& call,
                              keyring::Keyring& keyring) {
  const auto adopted = keyring.adopt(token.records, call.actor);
  std::string note;
  std::set<CmkId> lost;
  std::optional<Error> first;
  for (std::size_t i = 0; i < adopted.size(); ++i) {
    if (adopted[i]) continue;
    const Error& error = adopted[i].error();
    const auto record = keyring::CmkRecord::decode(token.records[i]);
    if (!record || !is_lost(error.reason())) return tl::unexpected(error);
    lost.insert(record->id);
    if (!first) first = error;
    note += "; without " + key_name(record->id) + ": " + error.message();
  }
  const auto serves = [&](const Bytes& wrap) {
    const auto blob = keyring::WrappedKey::decode(wrap);
    return blob && !lost.contains(blob->cmk);
  };
  const auto left = std::count_if(token.wraps.begin(), token.wraps.end(), serves);
  if (first && left < token.threshold) return tl::unexpected(*first);
  return note;
}

// Keys that came back disabled are bound when they are enabled. A row that was there before may
// have named others.
void settle(const VolumeRow& row, const audit::Actor& actor, const LifeParts& parts) {
  std::vector<CmkId> keys = row.keys;
  if (const auto before = keys_bound_to(row.id, parts.unlock.keyring)) {
    keys.insert(keys.end(), before->begin(), before->end());
  }
  const auto settled = settle_bindings(keys, parts.registry, parts.unlock.keyring, actor);
  if (!settled || !settled->failed.empty()) parts.unsettled(keys);
}

Result<Adopted> store(VolumeRow row, const Found& found, const AdoptCall& call,
                      std::span<const Disk> disks, const LifeParts& parts) {
  const auto known = parts.registry.find(row.id);
  if (!known && !can_be_replaced(known.error().reason())) return tl::unexpected(known.error());
  if (known) {
    const auto movable = require_movable(*known, found, call, disks, parts.unlock.worker);
    if (!movable) return tl::unexpected(movable.error());
    VolumeRow moved = *known;
    moved.device = row.device;
    moved.header_device = row.header_device;
    moved.device_bytes = row.device_bytes;
    if (!call.options.name.empty()) moved.name = call.options.name;
    if (moved.state == RowState::kProvisioning) complete(moved, row);
    row = std::move(moved);
  }
  auto note = take_keys(*found.header.token, call.call, parts.unlock.keyring);
  if (!note) return tl::unexpected(note.error());
  if (const auto stored = parts.registry.put(row); !stored) return tl::unexpected(stored.error());
  settle(row, call.call.actor, parts);
  return Adopted{std::move(row), std::move(*note)};
}

Result<Adopted> adopt_found(const Found& found, const AdoptCall& call, std::span<const Disk> disks,
                            const LifeParts& parts) {
  if (const auto own = require_own(found.header, parts.unlock.host_id); !own) {
    return tl::unexpected(own.error());
  }
  const VolumeRow row = row_of(found, call);
  if (const auto named = require_volume_name(row.name); !named) {
    return tl::unexpected(named.error());
  }
  audit::Event event = event_of(call.call, "volume.adopt", row.id);
  event.text = row.name + " on " + row.device.path;
  const auto intent = parts.unlock.log.append_one(event);
  if (!intent) return tl::unexpected(intent.error());
  auto stored = store(row, found, call, disks, parts);
  record_result(parts.unlock.log, event, *intent,
                stored ? std::nullopt : std::optional(stored.error()),
                row.name + " adopted" + (stored ? stored->note : ""));
  return stored;
}

}  // namespace

Result<VolumeId> identify(const AdoptCall& call, std::span<const Disk> disks,
                          const LifeParts& parts) {
  const auto found = look(call, disks, parts.unlock.worker);
  if (!found) return pass(found.error(), "adopt " + printable(call.device, kDevicePathBytesMax));
  return VolumeId(found->header.uuid);
}

Result<Adopted> adopt(const AdoptCall& call, const VolumeId& volume, std::span<const Disk> disks,
                      const LifeParts& parts) {
  const std::string doing = "adopt " + printable(call.device, kDevicePathBytesMax);
  const auto found = look(call, disks, parts.unlock.worker);
  if (!found) return pass(found.error(), doing);
  if (VolumeId(found->header.uuid) != volume) {
    return pass(Error(Reason::kDeviceChanged, "another volume stands there by now"), doing);
  }
  auto adopted = adopt_found(*found, call, disks, parts);
  if (!adopted) return pass(adopted.error(), doing);
  return adopted;
}

}  // namespace coffer::agent

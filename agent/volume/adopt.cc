// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/adopt.h"

#include <algorithm>

#include "agent/unlock/decide.h"
#include "agent/unlock/scan_headers.h"

namespace coffer::agent {
namespace {

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
  return context;
}

// What a scan found to adopt.
struct Found {
  const Disk& disk;
  const std::optional<Disk>& header_disk;
  const DeviceIdentity& device;
  const luks2::CheckedHeader& header;
};

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

Result<VolumeRow> store(VolumeRow row, const Found& found, const AdoptCall& call,
                        const LifeParts& parts) {
  if (const auto known = parts.registry.find(row.id)) {
    if (const auto pinned = require_pinned(*known, found.header); !pinned) {
      return tl::unexpected(pinned.error());
    }
    if (const auto whole = require_whole(*known, found.device); !whole) {
      return tl::unexpected(whole.error());
    }
    VolumeRow moved = *known;
    moved.device = row.device;
    moved.header_device = row.header_device;
    moved.device_bytes = row.device_bytes;
    if (!call.options.name.empty()) moved.name = call.options.name;
    if (moved.state == RowState::kProvisioning) complete(moved, row);
    row = std::move(moved);
  }
  const auto adopted = parts.unlock.keyring.adopt(found.header.token->records, call.call.actor);
  for (const auto& record : adopted) {
    if (!record) return tl::unexpected(record.error());
  }
  if (const auto stored = parts.registry.put(row); !stored) return tl::unexpected(stored.error());
  return row;
}

Result<VolumeRow> adopt_scanned(const Found& found, const AdoptCall& call, const LifeParts& parts) {
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
  auto stored = store(row, found, call, parts);
  record_result(parts.unlock.log, event, *intent,
                stored ? std::nullopt : std::optional(stored.error()), row.name + " adopted");
  return stored;
}

}  // namespace

Result<VolumeRow> adopt(const AdoptCall& call, std::span<const Disk> disks,
                        const LifeParts& parts) {
  const auto disk = disk_at(disks, call.device);
  if (!disk) return tl::unexpected(disk.error());
  std::optional<Disk> header_disk;
  if (!call.options.header_device.empty()) {
    const auto found = disk_at(disks, call.options.header_device);
    if (!found) return tl::unexpected(found.error());
    header_disk = *found;
  }
  const ScanItem item{.device = disk->node, .header_device = header_disk ? header_disk->node : ""};
  const auto scanned = parts.unlock.worker.scan({&item, 1}, call.call.deadline);
  if (!scanned) return pass(scanned.error(), "adopt " + disk->node);
  if (scanned->empty()) return fail(Reason::kInternal, "the worker scanned nothing");
  if (!scanned->front()) return pass(scanned->front().error(), "adopt " + disk->node);
  const ScannedDevice& device = *scanned->front();
  parts.unlock.worker.release({&device.handle, 1});
  const Disk* header = header_disk ? &*header_disk : nullptr;
  if (const auto same = require_same_devices(*disk, header, device); !same) {
    return pass(same.error(), "adopt " + disk->node);
  }
  if (!device.header) return pass(device.header.error(), "adopt " + disk->node);
  const Found found{*disk, header_disk, device.device, *device.header};
  auto row = adopt_scanned(found, call, parts);
  if (!row) return pass(row.error(), "adopt " + disk->node);
  return row;
}

}  // namespace coffer::agent

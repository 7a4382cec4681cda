// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/recover.h"

#include "agent/unlock/find_candidates.h"
#include "agent/unlock/scan_headers.h"

namespace coffer::agent {
namespace {

Result<Recovered> erase(const VolumeRow& row, const LifeCall& call, const LifeParts& parts) {
  if (const auto erased = parts.registry.erase(row.id); !erased) {
    return tl::unexpected(erased.error());
  }
  let_go_of_keys(row, call.actor, parts);
  return Recovered::kUndone;
}

Result<Recovered> look(VolumeRow& row, DeviceHandle handle, const LifeCall& call,
                       const LifeParts& parts) {
  const auto presence = parts.unlock.worker.check_written(handle, row.header_print, call.deadline);
  if (!presence) return tl::unexpected(presence.error());
  if (*presence == HeaderPresence::kWhole) {
    row.state = RowState::kReady;
    if (const auto stored = parts.registry.put(row); !stored) {
      return tl::unexpected(stored.error());
    }
    return Recovered::kFinished;
  }
  if (*presence == HeaderPresence::kPartial) {
    const auto wiped = parts.unlock.worker.wipe_header(handle, row.header_print, call.deadline);
    if (!wiped) return tl::unexpected(wiped.error());
  }
  return erase(row, call, parts);
}

Result<Recovered> look_at_device(VolumeRow& row, std::span<const Disk> disks, const LifeCall& call,
                                 const LifeParts& parts) {
  const Disk* disk = find_disk(disks, row.device);
  const bool detached = !row.header_device.path.empty();
  const Disk* header = detached ? find_disk(disks, row.header_device) : nullptr;
  if (disk == nullptr || (detached && header == nullptr)) return Recovered::kWaits;

  const ScanItem item{.device = disk->node, .header_device = detached ? header->node : ""};
  const auto scanned = parts.unlock.worker.scan({&item, 1}, call.deadline);
  if (!scanned) return tl::unexpected(scanned.error());
  if (scanned->empty() || !scanned->front()) {
    return scanned->empty() ? fail(Reason::kInternal, "the worker scanned nothing")
                            : tl::unexpected(scanned->front().error());
  }
  const DeviceHandle handle = (*scanned->front()).handle;
  // What is looked at, and perhaps wiped, must be what udev named.
  const auto same = require_same_devices(*disk, header, *scanned->front());
  auto recovered =
      same ? look(row, handle, call, parts) : Result<Recovered>(tl::unexpected(same.error()));
  parts.unlock.worker.release({&handle, 1});
  return recovered;
}

}  // namespace

Result<Recovered> recover(VolumeRow& row, std::span<const Disk> disks, const LifeCall& call,
                          const LifeParts& parts) {
  // Without a print no byte was written.
  auto recovered =
      row.header_print.empty() ? erase(row, call, parts) : look_at_device(row, disks, call, parts);
  if (!recovered) return pass(recovered.error(), "recover the provisioning of " + row.name);
  if (*recovered == Recovered::kWaits) return recovered;

  audit::Event event = event_of(call, "volume.provision", row.id);
  event.kind = audit::Kind::kNote;
  event.text =
      row.name + (*recovered == Recovered::kFinished ? ": provisioning finished after a restart"
                                                     : ": provisioning undone after a restart");
  parts.unlock.log.append_deferred(std::move(event));
  return recovered;
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/find_candidates.h"

#include <algorithm>

namespace coffer::agent {
namespace {

constexpr std::size_t kCandidatesMax = 8;

void find_one(UnlockTarget& target, std::span<const Disk> disks) {
  const Disk* registered = find_disk(disks, target.row.device);
  if (registered != nullptr) {
    target.candidates.push_back({registered->node, registered->identity(), true, *registered});
  }

  // With a detached header nothing on the data device tells its volume: only its identity does.
  if (!target.row.header_device.path.empty()) {
    const Disk* header = find_disk(disks, target.row.header_device);
    if (header == nullptr) {
      return target.fail_with(
          Error(Reason::kDeviceAbsent,
                "its header device " + target.row.header_device.path + " is not there"));
    }
    target.header_path = header->node;
    target.header_disk = *header;
  } else {
    const std::string uuid = target.row.id.str();
    for (const Disk& disk : disks) {
      const bool same = disk.file_system_type == "crypto_LUKS" && disk.file_system_uuid == uuid;
      const bool room = target.candidates.size() < kCandidatesMax;
      if (same && room && &disk != registered) {
        target.candidates.push_back({disk.node, disk.identity(), false, disk});
      }
    }
  }
  if (target.candidates.empty()) {
    target.fail_with(Error(Reason::kDeviceAbsent, target.row.device.path + " is not there"));
  }
}

}  // namespace

const Disk* find_disk(std::span<const Disk> disks, const DiskIdentity& identity) {
  const auto by_path = [&](const Disk& disk) { return disk.has_path(identity.path); };
  if (const auto at = std::find_if(disks.begin(), disks.end(), by_path); at != disks.end()) {
    return &*at;
  }
  // udev may have made another link to the same disk this time.
  const auto by_identity = [&](const Disk& disk) {
    return disk.mapping.empty() && same_disk(identity, disk.identity());
  };
  const auto at = std::find_if(disks.begin(), disks.end(), by_identity);
  return at == disks.end() ? nullptr : &*at;
}

void find_candidates(std::span<UnlockTarget> targets, std::span<const Disk> disks) {
  for (UnlockTarget& target : targets) {
    if (target.running()) find_one(target, disks);
  }
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/scan_headers.h"

#include <algorithm>

namespace coffer::agent {
namespace {

// The items of the scan and which target each belongs to.
struct Plan {
  std::vector<ScanItem> items;
  struct Owner {
    std::size_t target;
    std::size_t candidate;
  };
  std::vector<Owner> owner;
};

Plan plan_scan(const UnlockBatch& batch) {
  Plan plan;
  for (std::size_t at = 0; at < batch.targets.size(); ++at) {
    const UnlockTarget& target = batch.targets[at];
    if (!target.running()) continue;
    for (std::size_t which = 0; which < target.candidates.size(); ++which) {
      plan.items.push_back({target.candidates[which].path, target.header_path});
      plan.owner.push_back({at, which});
    }
  }
  return plan;
}

}  // namespace

Result<void> require_same_device(const Disk& disk, const DeviceIdentity& opened) {
  const bool numbered = disk.major != 0 || disk.minor != 0;
  const bool other_number = numbered && (disk.major != opened.major || disk.minor != opened.minor);
  const bool other_disk =
      disk.sequence != 0 && opened.sequence != 0 && disk.sequence != opened.sequence;
  if (!other_number && !other_disk) return {};
  return fail(Reason::kDeviceChanged, disk.node + " is another disk than udev named");
}

Result<void> require_same_devices(const Disk& disk, const Disk* header,
                                  const ScannedDevice& opened) {
  if (auto same = require_same_device(disk, opened.device); !same) return same;
  if (header == nullptr || !opened.header_device) return {};
  return require_same_device(*header, *opened.header_device);
}

void scan_headers(UnlockBatch& batch, Worker& worker) {
  const Plan plan = plan_scan(batch);
  std::vector<std::optional<Error>> first_error(batch.targets.size());
  for (std::size_t from = 0; from < plan.items.size(); from += kScanItemsMax) {
    const std::size_t count = std::min(kScanItemsMax, plan.items.size() - from);
    auto scanned = worker.scan(std::span(plan.items).subspan(from, count), batch.deadline);
    for (std::size_t i = 0; i < count; ++i) {
      const Plan::Owner owner = plan.owner[from + i];
      UnlockTarget& target = batch.targets[owner.target];
      auto& error = first_error[owner.target];
      if (!scanned) {
        target.fail_with(scanned.error());
      } else if (i >= scanned->size()) {
        target.fail_with(Error(Reason::kMessageInvalid, "the worker answered for too few devices"));
      } else if (auto& device = (*scanned)[i]; device) {
        const Disk* header = target.header_path.empty() ? nullptr : &target.header_disk;
        const auto same =
            require_same_devices(target.candidates[owner.candidate].disk, header, *device);
        if (!same) {
          worker.release({&device->handle, 1});
          if (!error) error = same.error();
          continue;
        }
        target.scanned.push_back({target.candidates[owner.candidate], std::move(*device)});
      } else if (!error) {
        error = device.error();
      }
    }
  }
  for (std::size_t at = 0; at < batch.targets.size(); ++at) {
    UnlockTarget& target = batch.targets[at];
    if (target.scanned.empty() && first_error[at]) target.fail_with(*first_error[at]);
  }
}

void release_unchosen(const UnlockBatch& batch, Worker& worker) {
  std::vector<DeviceHandle> handles;
  for (const UnlockTarget& target : batch.targets) {
    for (const auto& [candidate, device] : target.scanned) {
      if (device.handle != 0 && device.handle != target.handle) handles.push_back(device.handle);
    }
  }
  if (!handles.empty()) worker.release(handles);
}

void release_chosen(const UnlockBatch& batch, Worker& worker) {
  std::vector<DeviceHandle> handles;
  for (const UnlockTarget& target : batch.targets) {
    if (target.handle != 0) handles.push_back(target.handle);
  }
  if (!handles.empty()) worker.release(handles);
}

}  // namespace coffer::agent

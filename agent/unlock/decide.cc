// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/decide.h"

#include <algorithm>

#include "agent/unlock/choose_keys.h"

namespace coffer::agent {
namespace {

// Whether the header in `found` says it is `row`'s volume.
bool claims(const ScannedCandidate& found, const VolumeRow& row) {
  return found.device.header && found.device.header->uuid == row.id.uuid();
}

// Which scanned device is the volume. The registered disk wins over copies of it elsewhere.
Result<const ScannedCandidate*> choose_device(UnlockTarget& target) {
  std::vector<const ScannedCandidate*> claiming;
  for (const ScannedCandidate& found : target.scanned) {
    if (claims(found, target.row)) claiming.push_back(&found);
  }
  if (claiming.empty()) {
    const ScannedDevice& only = target.scanned.front().device;
    if (!only.header) {
      const bool detached = !target.header_path.empty();
      return pass(only.header.error(),
                  "header on " + (detached ? target.header_path : only.device.node));
    }
    return fail(Reason::kProfileMismatch,
                "uuid: " + only.device.node + " holds volume " + only.header->uuid.str());
  }
  const ScannedCandidate* first = claiming.front();
  const bool tells = is_stable_path(target.row.device.path);
  if (claiming.size() > 1) {
    const std::string& copy = claiming[1]->candidate.path;
    if (!tells || !first->candidate.registered) {
      return fail(Reason::kAmbiguousVolume,
                  "copies of it are on " + first->candidate.path + " and " + copy);
    }
    target.add_note("a copy of it is on " + copy);
  } else if (tells && !first->candidate.registered) {
    return fail(Reason::kDeviceChanged, "it stands on " + first->candidate.path +
                                            ", which is not the disk it was registered by; adopt "
                                            "it if it was moved there");
  }
  return first;
}

Result<void> decide_one(UnlockTarget& target, const UnlockParts& parts) {
  if (target.row.locked_by_admin && !target.asked_by_name) {
    return fail(Reason::kLockedByAdmin, "an admin locked it");
  }
  if (auto chosen = choose_header(target); !chosen) return chosen;
  auto keys = choose_keys(target.row, *target.header, parts.keyring);
  if (!keys) return tl::unexpected(keys.error());
  target.keys = std::move(*keys);
  if (target.header->copies == luks2::Copies::kPrimaryBad) {
    target.add_note("its first header copy is damaged: opened from the second");
  } else if (target.header->copies == luks2::Copies::kSecondaryBad) {
    target.add_note("its second header copy is damaged");
  }
  for (const SkippedKey& skipped : target.keys.skipped) {
    target.add_note("not opened with " + skipped.name + ": " + skipped.why.message());
  }
  return {};
}

}  // namespace

Result<void> require_pinned(const VolumeRow& row, const luks2::CheckedHeader& header) {
  const auto pinned = luks2::decode_profile(row.profile);
  if (!pinned) return fail(Reason::kStoreDamaged, "the registry holds no profile");
  if (header.profile) {
    if (const auto field = luks2::first_difference(*pinned, *header.profile)) {
      return fail(Reason::kProfileMismatch,
                  *field + ": the header differs from the profile that was pinned");
    }
  }
  // An in-place job and everything no profile can hold is refused here, also when no field differs.
  if (header.activation) return tl::unexpected(header.activation->error());
  if (!header.profile) return fail(Reason::kHeaderUnusual, "the header fits no profile");
  return {};
}

Result<void> require_whole(const VolumeRow& row, const DeviceIdentity& device) {
  if (device.size_bytes >= row.device_bytes) return {};
  return fail(Reason::kDeviceTooSmall, device.node + " has " + std::to_string(device.size_bytes) +
                                           " bytes, the volume was registered with " +
                                           std::to_string(row.device_bytes));
}

Result<void> choose_header(UnlockTarget& target) {
  if (target.row.state != RowState::kReady) {
    return fail(Reason::kInProgress, "it is being provisioned");
  }
  const auto chosen = choose_device(target);
  if (!chosen) return tl::unexpected(chosen.error());
  const luks2::CheckedHeader& header = *(*chosen)->device.header;
  target.header = header;

  if (auto pinned = require_pinned(target.row, header); !pinned) return pinned;
  const DeviceIdentity& device = (*chosen)->device.device;
  if (auto whole = require_whole(target.row, device); !whole) return whole;
  target.profile = *header.profile;
  target.handle = (*chosen)->device.handle;
  target.device_path = (*chosen)->candidate.path;
  target.device_bytes = device.size_bytes;
  return {};
}

void decide(UnlockBatch& batch, const UnlockParts& parts) {
  for (UnlockTarget& target : batch.targets) {
    if (!target.running()) continue;
    if (const auto decided = decide_one(target, parts); !decided) {
      target.fail_with(decided.error());
    }
  }
}

}  // namespace coffer::agent

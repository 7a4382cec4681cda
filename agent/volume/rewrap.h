// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/volume/life.h"

namespace coffer::agent {

struct RewrapCall {
  LifeCall call;
  CmkId key;
};

// A volume whose wraps under a key are of its current version.
struct RewrapEnd {
  VolumeRow row;                // As it is stored.
  luks2::CheckedHeader header;  // As it stands on the device, both copies good.
  std::uint64_t device_bytes = 0;
  std::string note;  // "moved from version 1 to 2", …
};

// Moves the wraps of one volume under `call.key` to the current version of that key, whether the
// volume is open or not: header checked as before an unlock; intent; the vault wraps the same key
// anew; token exchanged in the header; header read again; row. The key itself stays, and the old
// wrap opens the volume as long as its version is there, so the volume opens after a crash at any
// instant, and what was left undone is seen in the header the next time. A copy of the header that
// is damaged or older is made anew from the good one.
//   kDeviceAbsent, kDeviceChanged, kProfileMismatch, …   as decide(): nothing was written.
//   kKeyDisabled, kKeyArchived, …   it does not wrap.    kNoSuchKey
//   kBlobInvalid     a wrap in the token is none, or not what the vault made.
//   kTokenSpace      the header has no room for the key's record with its new version.
//   kBusy            another program is changing the header.
//   kIoError, kWorkerLost, kTimedOut, kStoreUnavailable   it may have been done all the same.
//   kAuditUnavailable, kHsm…
Result<RewrapEnd> rewrap_volume(const VolumeRow& row, const RewrapCall& call,
                                std::span<const Disk> disks, const LifeParts& parts);

}  // namespace coffer::agent

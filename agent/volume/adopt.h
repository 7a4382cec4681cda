// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "agent/volume/life.h"

namespace coffer::agent {

struct AdoptCall {
  LifeCall call;
  std::string device;
  AdoptOptions options;
};

// Which volume stands on the device. The caller takes its place in that volume's line before it
// adopts it.   Errors as adopt().
Result<VolumeId> identify(const AdoptCall& call, std::span<const Disk> disks,
                          const LifeParts& parts);

struct Adopted {
  VolumeRow row;
  std::string note;  // Keys of several that did not come back, and why.
};
// Takes in `volume`, of this host, whose registry entry is lost, from its header and token alone:
// its keys come back as Disabled. What is taken from the header is not believed: it is the context
// of the wrapped key, so the first unlock proves it or fails. A volume that is registered already
// is only moved: to the disk it stands on now, and only when everything the registry pins holds.
// One whose provisioning was cut off is ready then.
//   kNotLuks2, kHeaderDamaged, kHeaderInvalid, kHeaderUnusual, kTokenMissing, kTokenInvalid
//   kWrongVolume, kWrongHost, kWrongPurpose   the token's context is another one's.
//   kProfileMismatch                          it is for another profile than the header has.
// and of one that is registered:
//   kDeviceTooSmall    on a larger device.
//   kAmbiguousVolume   on a disk that is still there: what stands here is a copy.
//   kBusy              it is open.
//   kInvalidArgs, kDeviceAbsent, kDeviceChanged, kAuditUnavailable, kStoreUnavailable
//   kNameTaken, kRecordInvalid, kNoSuchKey, kKeyPendingDeletion   of a key, as Keyring::adopt(); of
//     several only when those that are left do not open the volume.
Result<Adopted> adopt(const AdoptCall& call, const VolumeId& volume, std::span<const Disk> disks,
                      const LifeParts& parts);

}  // namespace coffer::agent

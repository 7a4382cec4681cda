// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Decides, per volume and on checked values alone, whether this host opens it, from which of the
// scanned devices and with which wrapped key. Nothing here asks the token; the store of CMKs is
// read. Everything that could be said against a volume is said here, before any key is touched:
//   kLockedByAdmin     and nobody named it.
//   kNotLuks2, kHeaderDamaged, …   of the only candidate.
//   kAmbiguousVolume   a copy of the disk is there, nothing tells which is which.
//   kDeviceChanged     the volume stands on another disk than it was registered by.
//   kProfileMismatch   the header differs from the pinned profile; names the field.
//   kHeaderInvalid, kHeaderUnusual, kTokenMissing, kTokenInvalid   a rule for activation is broken.
//   kDeviceTooSmall    the device ends before its header or the registry says.
// and as choose_keys().
void decide(UnlockBatch& batch, const UnlockParts& parts);

// The parts of it, for volumes that are looked at for another purpose.
//
// The scanned device that is the volume, its header, held to what the registry pins. Fills in the
// target from `header` to `handle`, `header` also where the rest is refused. The errors above up to
// kDeviceTooSmall, and kInProgress: it is being provisioned.
Result<void> choose_header(UnlockTarget& target);
Result<void> require_pinned(const VolumeRow& row, const luks2::CheckedHeader& header);
// kDeviceTooSmall: `device` is shorter than the one that was registered; names both sizes. The data
// segment of our volumes reaches to the end of the device, wherever that is, so their header does
// not tell. A larger device is allowed: growing one is how a volume grows, and nothing is lost.
Result<void> require_whole(const VolumeRow& row, const DeviceIdentity& device);

}  // namespace coffer::agent

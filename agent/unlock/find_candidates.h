// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Finds the devices that could be each volume: the one with its registered identity, and those
// whose header, as udev saw it, has its UUID. More than one is not yet an error: decide() looks at
// what really stands on them.
//   kDeviceAbsent  there is none, or a detached header's device is not there.
void find_candidates(std::span<UnlockTarget> targets, std::span<const Disk> disks);

// The disk that `identity` names; null when it is not there.
const Disk* find_disk(std::span<const Disk> disks, const DiskIdentity& identity);

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Lets the worker open all candidates of all targets and read their headers, in one batch. A device
// that cannot be opened is left out as long as another one can; the target gets the first error
// when none can.
//   kDeviceAbsent, kIoError   of the only candidate.
//   kWorkerLost, kTimedOut    of the batch.
void scan_headers(UnlockBatch& batch, Worker& worker);

// Lets go of every device that decide() did not choose; of those it chose, when the batch is over.
void release_unchosen(const UnlockBatch& batch, Worker& worker);
void release_chosen(const UnlockBatch& batch, Worker& worker);

// Whether what the worker opened is the disk that udev named: between the two another one may have
// got its node. What udev does not tell (0) is not compared.   kDeviceChanged
Result<void> require_same_device(const Disk& disk, const DeviceIdentity& opened);
// The same of a device and, if it has one, its header device.
Result<void> require_same_devices(const Disk& disk, const Disk* header,
                                  const ScannedDevice& opened);

}  // namespace coffer::agent

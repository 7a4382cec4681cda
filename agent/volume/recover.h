// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "agent/volume/life.h"

namespace coffer::agent {

// What became of a row that a crash left in `provisioning`.
enum class Recovered : std::uint8_t {
  kFinished,  // The header stands whole: the volume is ready.
  kUndone,    // What of it was written is wiped, and the row is gone.
  kWaits,     // Its device is not there: nothing is known, the row stays.
};

// Completes or undoes a provisioning up to `ready`; first_opening.h has what comes then. Only bytes
// that match the print are ever wiped.
//   kWorkerLost, kIoError, kStoreUnavailable, kAuditUnavailable   and the row stays.
Result<Recovered> recover(VolumeRow& row, std::span<const Disk> disks, const LifeCall& call,
                          const LifeParts& parts);

}  // namespace coffer::agent

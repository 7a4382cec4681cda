// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/volume/life.h"

namespace coffer::agent {

struct Locked {
  VolumeRow row;            // As it is stored now.
  bool still_open = false;  // Deferred or forced, and something holds it: it goes later.
  std::string note;
};

// Withdraws a volume's key: takes its mapping away and notes that an admin wants it so, until an
// admin unlocks it or the machine is booted again. Never refused for want of a durable audit record
// or registry: it happens, and is recorded when that is possible again. A volume that is not open
// is locked by this too.
//   kBusy             plain, and something holds it: it stays open, and the admin's wish is
//   dropped. kMappingForeign, kWorkerLost, kTimedOut
Result<Locked> lock_volume(const VolumeRow& row, LockMode mode, const LifeCall& call,
                           const LifeParts& parts);

// Ends an admin's lock that another boot made. True when it did.
bool end_lock_of_other_boot(VolumeRow& row, const std::string& boot_id);

}  // namespace coffer::agent

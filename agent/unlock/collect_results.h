// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Waits for the mappings of the keys that were delivered, or may have been: a delivery that was
// lost is given up, and what has begun by then counts. When the worker is lost or late meanwhile,
// asks it, or the one that comes after it, which of them are there.
//   kWrongKey, kProfileMismatch, kDeviceChanged, kMappingForeign, kActivationFailed, …
//   kAlreadyUnlocked         its mapping was there before, and serves.
//   kBusy                    it was there before, and does not serve any more.
//   kWorkerLost, kTicketUnknown, kTimedOut   and the mapping is not there.
//   kHsmTimeout, kHsmAbsent, kWorkerLost   of the delivery, and no mapping came of it.
void collect_results(UnlockBatch& batch, Worker& worker);

}  // namespace coffer::agent

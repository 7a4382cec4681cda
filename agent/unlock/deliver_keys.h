// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Lets the vault unwrap the keys, grouped by CMK, and deliver them to the worker that expects them:
// of each volume as many wraps as it needs, and another one, with its own intent, for each that
// fails for its own reasons. A delivery that was lost on its way (kHsmTimeout, kHsmAbsent,
// kWorkerLost) is no failure yet: the key may be there, and collect_results() finds out.
//   kHsm…            the token; kRecordInvalid, kRecordSuperseded its records.
//   kBlobInvalid     a wrap that is not of this volume, host and generation.
//   kThresholdNotMet   of several keys too few could be used: names each and why.
//   kTicketUnknown, kWrongKey   the worker
//   kAuditUnavailable  the intent to use another key.
void deliver_keys(UnlockBatch& batch, const UnlockParts& parts);

}  // namespace coffer::agent

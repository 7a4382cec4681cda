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

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Takes `batch` through all stages: afterwards every target has either its mapping or its error,
// and every use of a key has its intent and its result in the audit trail. With dry_run it ends
// before the intents: a target without an error could have been opened.
//
// Blocks for up to the batch's deadline; any thread. Several batches may run at the same time as
// long as no volume is in two of them.
void run_unlock(UnlockBatch& batch, std::span<const Disk> disks, const UnlockParts& parts);

}  // namespace coffer::agent

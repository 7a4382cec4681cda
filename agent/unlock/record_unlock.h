// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// Makes the intents of every target that is still in the running durable, one for each key that it
// is to be opened with, and with the same commit the refusal of those that are not. When that
// fails, nothing may happen: every target fails with
//   kAuditUnavailable
void record_intents(UnlockBatch& batch, audit::AuditLog& log);

// The same for uses of further keys, in place of those that failed. What has its intents goes on.
void record_further_intents(UnlockBatch& batch, audit::AuditLog& log);

// Makes the result of every intent durable. When that fails the results are kept
// for the next commit, and the targets that opened say so in their note: what is open stays open.
void record_results(UnlockBatch& batch, audit::AuditLog& log);

}  // namespace coffer::agent

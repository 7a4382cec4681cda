// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/unlock_pipeline.h"

#include <algorithm>

#include "agent/unlock/announce_keys.h"
#include "agent/unlock/collect_results.h"
#include "agent/unlock/decide.h"
#include "agent/unlock/deliver_keys.h"
#include "agent/unlock/find_candidates.h"
#include "agent/unlock/record_unlock.h"
#include "agent/unlock/scan_headers.h"

namespace coffer::agent {

bool UnlockBatch::any_running() const {
  const auto runs = [](const UnlockTarget& target) { return target.running(); };
  return std::any_of(targets.begin(), targets.end(), runs);
}

void UnlockBatch::fail_running(const Error& cause) {
  for (UnlockTarget& target : targets) target.fail_with(cause);
}

namespace {

// Between two stages: nobody waits any more for a batch that was cancelled or is late.
void stop_if_over(UnlockBatch& batch, const Clock& clock) {
  if (batch.cancelled()) batch.fail_running(Error(Reason::kCancelled, "the job was cancelled"));
  if (batch.deadline.passed(clock)) {
    batch.fail_running(
        Error(Reason::kTimedOut, "the deadline passed before its key was asked for"));
  }
}

}  // namespace

void run_unlock(UnlockBatch& batch, std::span<const Disk> disks, const UnlockParts& parts) {
  find_candidates(batch.targets, disks);
  if (batch.any_running()) scan_headers(batch, parts.worker);
  if (batch.any_running()) decide(batch, parts);
  release_unchosen(batch, parts.worker);
  stop_if_over(batch, parts.clock);

  if (!batch.dry_run) {
    record_intents(batch, parts.log);
    if (batch.any_running()) announce_keys(batch, parts.worker);
    stop_if_over(batch, parts.clock);
    if (batch.any_running()) deliver_keys(batch, parts);
    collect_results(batch, parts.worker);
    record_results(batch, parts.log);
  }
  release_chosen(batch, parts.worker);
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/collect_results.h"

#include <algorithm>

namespace coffer::agent {
namespace {

constexpr std::chrono::seconds kAfterLoss{10};  // For the next worker to start and answer.

bool waits(const UnlockTarget& target) {
  return target.delivered && target.running();
}

// What the list of mappings says of a target whose end nobody told.
void settle_by_list(UnlockBatch& batch, Worker& worker) {
  if (std::none_of(batch.targets.begin(), batch.targets.end(), waits)) return;
  const auto mappings = worker.list_mappings(Deadline::after(kAfterLoss));
  if (!mappings) return;
  for (UnlockTarget& target : batch.targets) {
    if (!waits(target)) continue;
    for (const Mapping& mapping : *mappings) {
      const bool open = mapping.name == target.row.mapped_name && mapping.marked &&
                        mapping.volume == target.row.id && mapping.state == MappingState::kActive;
      if (!open) continue;
      target.activated = Activated{.node = mapping.node,
                                   .dm_uuid = mapping.dm_uuid,
                                   .major = mapping.major,
                                   .minor = mapping.minor};
      target.add_note("its mapping was found open after the worker was lost");
    }
  }
}

bool was_there(const UnlockTarget& target) {
  return target.error && target.error->reason() == Reason::kAlreadyUnlocked;
}

// A mapping that was there before may be what an unplugged disk or a forced lock left.
void look_at_those_before(UnlockBatch& batch, Worker& worker) {
  if (std::none_of(batch.targets.begin(), batch.targets.end(), was_there)) return;
  const auto mappings = worker.list_mappings(Deadline::after(kAfterLoss));
  if (!mappings) return;
  for (UnlockTarget& target : batch.targets) {
    if (!was_there(target)) continue;
    const auto lingers = [&](const Mapping& mapping) {
      return mapping.name == target.row.mapped_name &&
             (mapping.state != MappingState::kActive || mapping.deferred || mapping.device_gone);
    };
    if (std::any_of(mappings->begin(), mappings->end(), lingers)) {
      target.error = Error(Reason::kBusy, "an old mapping of " + target.row.name +
                                              " is there until its last user lets go");
    }
  }
}

void take_outcome(UnlockBatch& batch, const KeyGroup& group, KeyOutcome outcome) {
  if (outcome.index >= group.members.size()) return;
  UnlockTarget& target = batch.targets[group.members[outcome.index]];
  if (!target.running()) return;
  if (outcome.result) {
    target.activated = std::move(*outcome.result);
  } else {
    target.fail_with(outcome.result.error());
  }
}

void collect_group(UnlockBatch& batch, const KeyGroup& group, Worker& worker) {
  const auto still_waits = [&](std::size_t member) { return waits(batch.targets[member]); };
  const auto any_waits = [&] {
    return std::any_of(group.members.begin(), group.members.end(), still_waits);
  };
  // Keys that the vault did not deliver will not come: the ticket ends with the last that did.
  if (!any_waits()) return worker.cancel(group.ticket);
  const auto was_delivered = [&](std::size_t member) { return batch.targets[member].delivered; };
  bool give_up = !std::all_of(group.members.begin(), group.members.end(), was_delivered);
  const auto ended = worker.wait_results(
      group.ticket,
      [&](KeyOutcome outcome) {
        take_outcome(batch, group, std::move(outcome));
        if (!give_up || any_waits()) return;
        give_up = false;
        worker.cancel(group.ticket);
      },
      batch.deadline);
  if (ended) return;
  if (ended.error().reason() == Reason::kWorkerLost) settle_by_list(batch, worker);
  for (const std::size_t member : group.members) {
    if (still_waits(member)) batch.targets[member].fail_with(ended.error());
  }
}

}  // namespace

void collect_results(UnlockBatch& batch, Worker& worker) {
  for (const KeyGroup& group : batch.groups) collect_group(batch, group, worker);
  look_at_those_before(batch, worker);
}

}  // namespace coffer::agent

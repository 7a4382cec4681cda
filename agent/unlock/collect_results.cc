// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/collect_results.h"

#include <algorithm>

namespace coffer::agent {
namespace {

constexpr std::chrono::seconds kAfterLoss{10};  // For the next worker to start and answer.

bool waits(const UnlockTarget& target) {
  return target.delivered && target.running();
}

// Errors of a wait that ended before the keys did: the worker died, is another one since, or is
// late.
bool tells_no_end(Reason reason) {
  return reason == Reason::kWorkerLost || reason == Reason::kTicketUnknown ||
         reason == Reason::kTimedOut;
}

// What the list of mappings says of a target whose end nobody told.
void settle_by_list(UnlockBatch& batch, Worker& worker) {
  if (batch.action != Action::kActivate) return;
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
      target.add_note("its mapping was found open, its end was not told");
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
    if (target.delivery_unknown) {
      target.add_note("it opened although its delivery failed: " + target.delivery_unknown->str());
    }
    return;
  }
  // A key that did not come failed for what kept it from coming.
  const Reason reason = outcome.result.error().reason();
  const bool never_came = reason == Reason::kCancelled || reason == Reason::kTimedOut;
  target.fail_with(target.delivery_unknown && never_came ? *target.delivery_unknown
                                                         : outcome.result.error());
}

// Keys that were lost on their way are given up, so what has begun ends in a moment.
Deadline wait_until(const UnlockBatch& batch, const KeyGroup& group) {
  const auto is_unknown = [&](std::size_t member) {
    return batch.targets[member].delivery_unknown.has_value();
  };
  if (std::none_of(group.members.begin(), group.members.end(), is_unknown)) return batch.deadline;
  return Deadline(std::max(batch.deadline.at(), Deadline::after(kAfterLoss).at()));
}

void collect_group(UnlockBatch& batch, const KeyGroup& group, Worker& worker) {
  const auto still_waits = [&](std::size_t member) { return waits(batch.targets[member]); };
  const auto came = [&](std::size_t member) {
    const UnlockTarget& target = batch.targets[member];
    return target.delivered && !target.delivery_unknown;
  };
  const auto any_to_come = [&] {
    return std::any_of(group.members.begin(), group.members.end(),
                       [&](std::size_t member) { return came(member) && still_waits(member); });
  };
  // Keys that the vault did not deliver will not come: the ticket ends with the last that did.
  // What begun of those that nobody knows of ends by itself.
  bool give_up = !std::all_of(group.members.begin(), group.members.end(), came);
  const auto give_up_rest = [&] {
    if (!give_up || any_to_come()) return;
    give_up = false;
    worker.cancel(group.ticket);
  };
  give_up_rest();
  if (std::none_of(group.members.begin(), group.members.end(), still_waits)) return;
  const auto ended = worker.wait_results(
      group.ticket,
      [&](KeyOutcome outcome) {
        take_outcome(batch, group, std::move(outcome));
        give_up_rest();
      },
      wait_until(batch, group));
  if (ended) return;
  if (tells_no_end(ended.error().reason())) settle_by_list(batch, worker);
  for (const std::size_t member : group.members) {
    if (!still_waits(member)) continue;
    UnlockTarget& target = batch.targets[member];
    target.fail_with(target.delivery_unknown ? *target.delivery_unknown : ended.error());
  }
}

}  // namespace

void collect_results(UnlockBatch& batch, Worker& worker) {
  for (const KeyGroup& group : batch.groups) collect_group(batch, group, worker);
  look_at_those_before(batch, worker);
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/record_unlock.h"

namespace coffer::agent {
namespace {

audit::Event event_of(const UnlockBatch& batch, const UnlockTarget& target) {
  audit::Event event;
  event.actor = batch.actor;
  event.operation = batch.operation;
  event.volume = target.row.id;
  event.request_id = batch.request_id;
  if (target.key) {
    event.cmk = target.key->blob.cmk;
    event.cmk_version = target.key->blob.cmk_version;
  }
  return event;
}

// Those that are in the running, with those that are already refused, in chunks that fit.
struct Pending {
  std::vector<audit::Event> events;
  std::vector<UnlockTarget*> targets;  // Null for a refusal.
};

Pending pending_intents(UnlockBatch& batch) {
  Pending pending;
  for (UnlockTarget& target : batch.targets) {
    if (target.activated || target.intent != 0) continue;
    audit::Event event = event_of(batch, target);
    if (target.error) {
      event.kind = audit::Kind::kRefused;
      event.outcome = std::string(target.error->name());
      event.text = target.row.name + ": " + target.error->message();
    } else {
      event.kind = audit::Kind::kIntent;
      event.text = target.row.name + " on " + target.device_path;
      if (!batch.reason_text.empty()) event.text += ": " + batch.reason_text;
    }
    pending.targets.push_back(target.error ? nullptr : &target);
    pending.events.push_back(std::move(event));
  }
  return pending;
}

}  // namespace

void record_intents(UnlockBatch& batch, audit::AuditLog& log) {
  const Pending pending = pending_intents(batch);
  if (pending.events.empty()) return;
  const auto sequences = log.append(pending.events);
  if (!sequences) {
    return batch.fail_running(
        Error(Reason::kAuditUnavailable, "record the intent: " + sequences.error().message()));
  }
  for (std::size_t i = 0; i < pending.targets.size(); ++i) {
    if (pending.targets[i] != nullptr) pending.targets[i]->intent = (*sequences)[i];
  }
}

void record_results(UnlockBatch& batch, audit::AuditLog& log) {
  const char* done = batch.action == Action::kVerify ? " verified" : " opened";
  std::vector<audit::Event> events;
  for (const UnlockTarget& target : batch.targets) {
    if (target.intent == 0) continue;
    audit::Event event = event_of(batch, target);
    event.kind = audit::Kind::kResult;
    event.intent_sequence = target.intent;
    event.outcome = std::string(target.error ? target.error->name() : audit::kOutcomeOk);
    event.text = target.error ? target.error->message() : target.row.name + done;
    if (!target.note.empty()) event.text += "; " + target.note;
    events.push_back(std::move(event));
  }
  if (events.empty()) return;
  if (log.append_kept(events)) return;
  for (UnlockTarget& target : batch.targets) {
    if (target.activated) target.add_note("its audit result waits for the journal");
  }
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/record_unlock.h"

#include <algorithm>

namespace coffer::agent {
namespace {

// `key` is the wrap that is used, or none of a volume that was refused before.
audit::Event event_of(const UnlockBatch& batch, const UnlockTarget& target,
                      const keyring::Presented* key) {
  audit::Event event;
  event.actor = batch.actor;
  event.operation = batch.operation;
  event.volume = target.row.id;
  event.request_id = batch.request_id;
  if (key != nullptr) {
    event.cmk = key->blob.cmk;
    event.cmk_version = key->blob.cmk_version;
  }
  return event;
}

// What one commit makes durable.
struct Pending {
  std::vector<audit::Event> events;
  struct Use {
    UnlockTarget* target = nullptr;  // Null for a refusal.
    std::size_t use = 0;
  };
  std::vector<Use> uses;
};

void add_intents(Pending& pending, const UnlockBatch& batch, UnlockTarget& target) {
  for (std::size_t use = 0; use < target.uses.size(); ++use) {
    if (target.uses[use].intent != 0) continue;
    audit::Event event = event_of(batch, target, &target.keys.usable[target.uses[use].which]);
    event.kind = audit::Kind::kIntent;
    event.text = target.row.name + " on " + target.device_path;
    if (target.keys.needed > 1)
      event.text += ", one of " + std::to_string(target.keys.needed) + " keys";
    if (!batch.reason_text.empty()) event.text += ": " + batch.reason_text;
    pending.events.push_back(std::move(event));
    pending.uses.push_back({&target, use});
  }
}

void add_refusal(Pending& pending, const UnlockBatch& batch, const UnlockTarget& target) {
  const auto& keys = target.keys.usable;
  audit::Event event = event_of(batch, target, keys.empty() ? nullptr : &keys.front());
  event.kind = audit::Kind::kRefused;
  event.outcome = std::string(target.error->name());
  event.text = target.row.name + ": " + target.error->message();
  pending.events.push_back(std::move(event));
  pending.uses.push_back({});
}

// Parts of `events` that one call of the log takes.
template <class Call>
void in_chunks(std::span<const audit::Event> events, Call call) {
  for (std::size_t at = 0; at < events.size(); at += audit::AuditLog::kEventsMax) {
    call(at, events.subspan(at, std::min(audit::AuditLog::kEventsMax, events.size() - at)));
  }
}

void commit(const Pending& pending, audit::AuditLog& log) {
  in_chunks(pending.events, [&](std::size_t at, std::span<const audit::Event> chunk) {
    const auto sequences = log.append(chunk);
    for (std::size_t i = 0; i < chunk.size(); ++i) {
      const auto& [target, use] = pending.uses[at + i];
      if (target == nullptr) continue;
      if (sequences) {
        target->uses[use].intent = (*sequences)[i];
      } else {
        target->fail_with(
            Error(Reason::kAuditUnavailable, "record the intent: " + sequences.error().message()));
      }
    }
  });
}

}  // namespace

void record_intents(UnlockBatch& batch, audit::AuditLog& log) {
  Pending pending;
  for (UnlockTarget& target : batch.targets) {
    if (target.activated || !target.uses.empty()) continue;
    if (target.error) {
      add_refusal(pending, batch, target);
      continue;
    }
    for (std::size_t i = 0; i < target.keys.needed; ++i) target.uses.push_back({.which = i});
    add_intents(pending, batch, target);
  }
  commit(pending, log);
}

void record_further_intents(UnlockBatch& batch, audit::AuditLog& log) {
  Pending pending;
  for (UnlockTarget& target : batch.targets) {
    if (target.running()) add_intents(pending, batch, target);
  }
  commit(pending, log);
}

void record_results(UnlockBatch& batch, audit::AuditLog& log) {
  const char* done = batch.action == Action::kVerify ? " verified" : " opened";
  std::vector<audit::Event> events;
  for (const UnlockTarget& target : batch.targets) {
    for (const KeyUse& use : target.uses) {
      if (use.intent == 0) continue;
      audit::Event event = event_of(batch, target, &target.keys.usable[use.which]);
      const auto& error = use.error ? use.error : target.error;
      event.kind = audit::Kind::kResult;
      event.intent_sequence = use.intent;
      event.outcome = std::string(error ? error->name() : audit::kOutcomeOk);
      event.text = error ? error->message() : target.row.name + done;
      if (!target.note.empty()) event.text += "; " + target.note;
      events.push_back(std::move(event));
    }
  }
  bool kept_back = false;
  in_chunks(events, [&](std::size_t, std::span<const audit::Event> chunk) {
    if (!log.append_kept(chunk)) kept_back = true;
  });
  if (!kept_back) return;
  for (UnlockTarget& target : batch.targets) {
    if (target.activated) target.add_note("its audit result waits for the journal");
  }
}

}  // namespace coffer::agent

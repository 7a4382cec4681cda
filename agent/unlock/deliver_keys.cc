// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/deliver_keys.h"

#include <algorithm>

#include "agent/unlock/choose_keys.h"
#include "agent/unlock/record_unlock.h"

namespace coffer::agent {
namespace {

// Errors of a message that was lost on its way: the key may have reached the worker all the same.
bool is_unknown(Reason reason) {
  return reason == Reason::kHsmTimeout || reason == Reason::kHsmAbsent ||
         reason == Reason::kWorkerLost;
}

// Errors that another key of the volume would meet, too: of the worker, which expects none any
// more or has no room, of the token as a whole, of the store. kHsmFailed may be about this one key.
bool is_about_all(const Error& error) {
  const Reason reason = error.reason();
  if (reason == Reason::kHsmFailed) return false;
  return error.code() == Errc::kUnavailable || error.code() == Errc::kResourceExhausted ||
         reason == Reason::kProfileMismatch || reason == Reason::kWrongKey;
}

// One use of a key, on its way.
struct Sent {
  std::size_t target;
  std::size_t use;
};

// Those of the group that are still to be asked for.
std::vector<Sent> waiting_uses(UnlockBatch& batch, const KeyGroup& group,
                               std::vector<keyring::DekDelivery>& deliveries) {
  std::vector<Sent> sent;
  for (std::size_t i = 0; i < group.members.size(); ++i) {
    UnlockTarget& target = batch.targets[group.members[i]];
    if (!target.running()) continue;
    for (std::size_t use = 0; use < target.uses.size(); ++use) {
      KeyUse& one = target.uses[use];
      if (one.asked_for) continue;
      one.asked_for = true;
      deliveries.push_back({.key = target.keys.usable[one.which],
                            .index = static_cast<std::uint32_t>(i),
                            .intent = one.intent});
      sent.push_back({group.members[i], use});
    }
  }
  return sent;
}

std::vector<SkippedKey> failed_keys(const UnlockTarget& target) {
  std::vector<SkippedKey> failed = target.keys.skipped;
  for (const KeyUse& use : target.uses) {
    if (use.error) {
      failed.push_back({key_name(target.keys.usable[use.which].blob.cmk), *use.error});
    }
  }
  return failed;
}

// What the vault said of one use.
void take_result(UnlockTarget& target, KeyUse& use, const Result<void>& result) {
  if (result) return;
  const Error& error = result.error();
  if (is_unknown(error.reason())) {
    target.delivery_unknown = error;
    return;
  }
  use.error = error;
  if (is_about_all(error)) target.fail_with(error);
}

// The next of its keys in place of one that failed, or the end of it.
void go_on(UnlockTarget& target) {
  const auto failed =
      std::ranges::count_if(target.uses, [](const KeyUse& use) { return use.error.has_value(); });
  const std::size_t serve = target.uses.size() - static_cast<std::size_t>(failed);
  const std::size_t missing = target.keys.needed - serve;
  if (missing > target.keys.usable.size() - target.uses.size()) {
    return target.fail_with(not_enough_keys(target.keys, failed_keys(target)));
  }
  for (std::size_t i = 0; i < missing; ++i) target.uses.push_back({.which = target.uses.size()});
  target.delivered = missing == 0;
}

// People are told of a key that failed, also when another one served instead.
void note_failed(UnlockTarget& target) {
  for (const KeyUse& use : target.uses) {
    if (!use.error) continue;
    target.add_note("not opened with " + key_name(target.keys.usable[use.which].blob.cmk) + ": " +
                    use.error->message());
  }
}

void deliver_group(UnlockBatch& batch, const KeyGroup& group, const UnlockParts& parts) {
  for (;;) {
    std::vector<keyring::DekDelivery> deliveries;
    const std::vector<Sent> sent = waiting_uses(batch, group, deliveries);
    if (sent.empty()) break;
    const auto results = parts.keyring.deliver(deliveries, group.ticket, batch.deadline);
    for (std::size_t i = 0; i < sent.size(); ++i) {
      UnlockTarget& target = batch.targets[sent[i].target];
      const Result<void> none = fail(Reason::kInternal, "the keyring gave no result");
      take_result(target, target.uses[sent[i].use], i < results.size() ? results[i] : none);
    }
    for (const std::size_t member : group.members) {
      UnlockTarget& target = batch.targets[member];
      if (target.running() && !target.delivered) go_on(target);
    }
    record_further_intents(batch, parts.log);
  }
  for (const std::size_t member : group.members) {
    UnlockTarget& target = batch.targets[member];
    if (target.delivered) note_failed(target);
  }
}

}  // namespace

void deliver_keys(UnlockBatch& batch, const UnlockParts& parts) {
  for (const KeyGroup& group : batch.groups) {
    if (batch.cancelled()) {
      for (UnlockTarget& target : batch.targets) {
        if (target.delivered) continue;
        target.fail_with(Error(Reason::kCancelled, "cancelled before its key was delivered"));
      }
    }
    deliver_group(batch, group, parts);
  }
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/deliver_keys.h"

namespace coffer::agent {
namespace {

// Errors of a message that was lost on its way: the key may have reached the worker all the same.
bool is_unknown(Reason reason) {
  return reason == Reason::kHsmTimeout || reason == Reason::kHsmAbsent ||
         reason == Reason::kWorkerLost;
}

void deliver_group(UnlockBatch& batch, const KeyGroup& group, keyring::Keyring& keyring) {
  std::vector<keyring::DekDelivery> deliveries;
  std::vector<std::size_t> members;
  for (std::size_t i = 0; i < group.members.size(); ++i) {
    UnlockTarget& target = batch.targets[group.members[i]];
    if (!target.running()) continue;
    deliveries.push_back(
        {.key = *target.key, .index = static_cast<std::uint32_t>(i), .intent = target.intent});
    members.push_back(group.members[i]);
  }
  if (deliveries.empty()) return;
  const auto results = keyring.deliver(deliveries, group.ticket, batch.deadline);
  for (std::size_t i = 0; i < members.size(); ++i) {
    UnlockTarget& target = batch.targets[members[i]];
    if (i >= results.size()) {
      target.fail_with(Error(Reason::kInternal, "the keyring gave no result"));
    } else if (results[i]) {
      target.delivered = true;
    } else if (is_unknown(results[i].error().reason())) {
      target.delivered = true;
      target.delivery_unknown = results[i].error();
    } else {
      target.fail_with(results[i].error());
    }
  }
}

}  // namespace

void deliver_keys(UnlockBatch& batch, keyring::Keyring& keyring) {
  for (const KeyGroup& group : batch.groups) {
    if (batch.cancelled()) {
      for (UnlockTarget& target : batch.targets) {
        if (target.delivered) continue;
        target.fail_with(Error(Reason::kCancelled, "cancelled before its key was delivered"));
      }
    }
    deliver_group(batch, group, keyring);
  }
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
// What an operator is to know of keys: that one is used by force, by the clock or for the last
// time.
#include <string>

#include "agent/host_engine.h"

namespace coffer::agent {
namespace {

constexpr std::chrono::hours kDay{24};
constexpr int kDaysOfAlarm = 3;

}  // namespace

void HostEngine::print_of_key(KeyEvent event, int priority, const CmkId& id,
                              const std::string& message, const Error* error) const {
  LogEntry entry;
  entry.priority = priority;
  entry.message = message;
  if (error != nullptr) entry.error_name = std::string(error->name());
  entry.key = id;
  entry.key_event = event;
  parts_.print(entry);
}

// Each attempt: whoever still needs the key is found before it is gone.
void HostEngine::alarm_of_use(const CmkId& id, const std::string& use, const Caller& caller,
                              const Error& error) const {
  if (error.reason() != Reason::kKeyPendingDeletion) return;
  const auto found = keys_.find(id);
  // Of two keys that were used it may be the other one.
  if (found == keys_.end() || !found->second.delete_at) return;
  const std::string& name = found->second.alias;
  print_of_key(KeyEvent::kUsedInDeletion, 4, id,
               "user " + std::to_string(caller.uid) + " asked to " + use + " with key " + name +
                   ", which is to be destroyed: `coffer key undelete " + name + "` keeps it",
               &error);
}

// Once for each of the last days.
void HostEngine::alarm_of_near_deletions() {
  const WallTime now = parts_.clock.wall();
  std::erase_if(near_deletions_told_, [&](const auto& told) {
    const auto found = keys_.find(told.first);
    return found == keys_.end() || !found->second.delete_at;
  });
  for (const auto& [id, record] : keys_) {
    if (!record.delete_at || *record.delete_at <= now) continue;
    const auto days = static_cast<int>((*record.delete_at - now) / kDay) + 1;
    const auto told = near_deletions_told_.find(id);
    if (days > kDaysOfAlarm || (told != near_deletions_told_.end() && told->second <= days))
      continue;
    near_deletions_told_.insert_or_assign(id, days);
    print_of_key(
        KeyEvent::kNearDeletion, 4, id,
        "key " + record.alias + " is destroyed for good in " +
            (days == 1 ? "less than a day" : "less than " + std::to_string(days) + " days") +
            ": `coffer key undelete " + record.alias + "` keeps it");
  }
}

}  // namespace coffer::agent

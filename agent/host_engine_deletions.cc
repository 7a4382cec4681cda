// SPDX-License-Identifier: Apache-2.0
// Volumes that are about to lose a key for good: said when that begins, when the agent starts, when
// such a volume is adopted, and once more in the last day.
#include <algorithm>
#include <array>
#include <ctime>

#include "agent/host_engine.h"

namespace coffer::agent {
namespace {

using keyring::CmkRecord;

constexpr std::chrono::hours kLastDay{24};

bool uses(const VolumeRow& row, const CmkId& key) {
  return std::find(row.keys.begin(), row.keys.end(), key) != row.keys.end();
}

std::string utc_text(WallTime time) {
  const std::time_t seconds =
      std::chrono::floor<std::chrono::seconds>(time).time_since_epoch().count();
  std::tm parts{};
  std::array<char, 64> text{};
  if (::gmtime_r(&seconds, &parts) == nullptr) return "its time";
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts)};
}

// Of a key in PendingDelete.
std::string deletion_text(const CmkRecord& record) {
  return "its key " + record.alias + " is destroyed for good at " + utc_text(*record.delete_at) +
         ": `coffer key undelete " + record.alias + "` keeps it";
}

}  // namespace

void HostEngine::note_deletion(const CmkRecord& record) {
  if (record.delete_at) {
    deletions_.insert(record.id);
    deletions_at_ = WallTime{};
    return;
  }
  near_deletions_told_.erase(record.id);  // A later deletion has its own last days.
  if (deletions_.erase(record.id) > 0) {
    std::erase_if(deletions_told_, [&](const auto& told) { return told.first.first == record.id; });
  }
}

void HostEngine::forget_warnings(const VolumeId& id) {
  std::erase_if(deletions_told_, [&](const auto& told) { return told.first.second == id; });
  deletions_at_ = WallTime{};
}

std::string HostEngine::deletion_note(const VolumeRow& row) const {
  std::string note;
  for (const CmkId& key : row.keys) {
    const auto found = keys_.find(key);
    if (found == keys_.end() || !found->second.delete_at) continue;
    note += (note.empty() ? "" : "; ") + deletion_text(found->second);
  }
  return note;
}

void HostEngine::warn_of_deletions() {
  const WallTime now = parts_.clock.wall();
  if (!deletions_at_ || now < *deletions_at_) return;
  deletions_at_.reset();
  for (const CmkId& key : deletions_) {
    const auto found = keys_.find(key);
    if (found == keys_.end() || volumes_.count_using(key) == 0) continue;
    const WallTime last_day = *found->second.delete_at - kLastDay;
    if (now < last_day && (!deletions_at_ || last_day < *deletions_at_)) deletions_at_ = last_day;
    const auto warning = now < last_day ? DeletionTold::kBegun : DeletionTold::kLastDay;
    const Error error(Reason::kKeyPendingDeletion, deletion_text(found->second));
    for (const VolumeId& id : volumes_.ids()) {
      if (!uses(volumes_.find(id)->row, key)) continue;
      const auto told = deletions_told_.find({key, id});
      if (told != deletions_told_.end() && told->second >= warning) continue;
      deletions_told_.insert_or_assign({key, id}, warning);
      alert("warning", error, id);
    }
  }
}

}  // namespace coffer::agent

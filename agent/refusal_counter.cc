// SPDX-License-Identifier: Apache-2.0
#include "agent/refusal_counter.h"

#include <utility>

namespace coffer::agent {

bool RefusalCounter::take(const Refusal& refusal) {
  const std::uint32_t uid = refusal.caller.uid;
  const bool told_apart = users_.contains(uid) || users_.size() < kUsersMax;
  Count& count = told_apart ? users_[uid] : others_;
  if (count.in_full < kInFullMax) {
    ++count.in_full;
    return true;
  }
  const std::uint64_t before = count.flood ? count.flood->count : 0;
  count.flood = Flood{.count = before + 1, .last = refusal, .many_users = !told_apart};
  return false;
}

std::vector<RefusalCounter::Flood> RefusalCounter::end_period() {
  std::vector<Flood> floods;
  const auto take_flood = [&](Count& count) {
    if (count.flood) floods.push_back(std::move(*count.flood));
  };
  for (auto& [uid, count] : users_) take_flood(count);
  take_flood(others_);
  users_.clear();
  others_ = {};
  return floods;
}

}  // namespace coffer::agent

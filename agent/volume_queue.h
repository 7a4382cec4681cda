// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <deque>
#include <optional>
#include <unordered_map>

#include "agent/engine_types.h"

namespace coffer::agent {

// VolumeQueue keeps operations on one volume in order and lets those on different ones go at the
// same time: a job may work on a volume while it is first in that volume's line. A job never waits
// for one volume while it keeps another from someone, so nothing can block in a circle.
//
// Bound to the event loop.
class VolumeQueue {
 public:
  // True when `job` is first, and may begin.
  bool push(const VolumeId& volume, JobId job) {
    auto& line = lines_[volume];
    line.push_back(job);
    return line.size() == 1;
  }

  // `job`, which was first, has ended with the volume. The job that is first now.
  std::optional<JobId> pop(const VolumeId& volume) {
    const auto found = lines_.find(volume);
    if (found == lines_.end()) return std::nullopt;
    found->second.pop_front();
    if (!found->second.empty()) return found->second.front();
    lines_.erase(found);
    return std::nullopt;
  }

  // `job` gives up its place before it was first. False when it is first already.
  bool leave(const VolumeId& volume, JobId job) {
    const auto found = lines_.find(volume);
    if (found == lines_.end() || found->second.front() == job) return false;
    std::erase(found->second, job);
    return true;
  }

  bool busy(const VolumeId& volume) const { return lines_.contains(volume); }

 private:
  std::unordered_map<VolumeId, std::deque<JobId>> lines_;
};

}  // namespace coffer::agent

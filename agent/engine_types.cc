// SPDX-License-Identifier: Apache-2.0
#include "agent/engine_types.h"

namespace coffer::agent {

std::string_view volume_state_name(VolumeState state) noexcept {
  switch (state) {
    case VolumeState::kAbsent:
      return "absent";
    case VolumeState::kProvisioning:
      return "provisioning";
    case VolumeState::kLocked:
      return "locked";
    case VolumeState::kUnlocking:
      return "unlocking";
    case VolumeState::kUnlocked:
      return "unlocked";
    case VolumeState::kLocking:
      return "locking";
    case VolumeState::kFailed:
      return "failed";
  }
  return "failed";
}

std::string_view job_state_name(JobState state) noexcept {
  switch (state) {
    case JobState::kQueued:
      return "queued";
    case JobState::kRunning:
      return "running";
    case JobState::kDone:
      return "done";
    case JobState::kPartial:
      return "partial";
    case JobState::kFailed:
      return "failed";
    case JobState::kCancelled:
      return "canceled";
    case JobState::kTimedOut:
      return "timeout";
  }
  return "failed";
}

}  // namespace coffer::agent

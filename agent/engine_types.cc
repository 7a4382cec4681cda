// SPDX-License-Identifier: Apache-2.0
#include "agent/engine_types.h"

#include "agent/key_engine.h"

namespace coffer::agent {

Result<void> require_callers_resource(std::string_view resource) {
  if (auto good = keyring::require_resource(resource); !good) return good;
  if (!resource.starts_with("volume:")) return {};
  return fail(Reason::kInvalidArgs, "volumes bind their keys themselves: " +
                                        printable(resource, keyring::kResourceBytesMax));
}

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

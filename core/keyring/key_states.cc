// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_states.h"

#include <algorithm>
#include <chrono>
#include <string>

namespace coffer::keyring {

tl::unexpected<Error> refused_by_state(const CmkRecord& record, std::string_view doing) {
  const auto because = [&](Reason reason) {
    return fail(reason, std::string(doing) + " key " + record.id.str() + " ('" + record.alias +
                            "'): it is " + std::string(key_state_name(record.state)));
  };
  switch (record.state) {
    case KeyState::kDisabled:
      return because(Reason::kKeyDisabled);
    case KeyState::kArchived:
      return because(Reason::kKeyArchived);
    case KeyState::kPendingImport:
      return because(Reason::kKeyPendingImport);
    case KeyState::kPendingDelete:
      return because(Reason::kKeyPendingDeletion);
    case KeyState::kDestroyed:
      return because(Reason::kNoSuchKey);
    case KeyState::kEnabled:
      break;
  }
  return because(Reason::kInvalidArgs);
}

Result<void> require_state(const CmkRecord& record, KeyState wanted, std::string_view doing) {
  if (record.state == wanted) return {};
  return refused_by_state(record, doing);
}

std::optional<WallTime> due_of(const CmkRecord& record) {
  std::optional<WallTime> due = record.delete_at;
  const auto sooner = [&](const std::optional<WallTime>& time) {
    if (time && (!due || *time < *due)) due = time;
  };
  sooner(record.material_valid_to);
  if (record.offer) sooner(record.offer->valid_to);
  if (record.state == KeyState::kEnabled) sooner(record.next_rotation);
  return due;
}

std::optional<WallTime> rotation_planned_at(const CmkRecord& record) {
  if (record.state != KeyState::kEnabled || !record.next_rotation) return std::nullopt;
  const std::chrono::microseconds period = std::chrono::days(record.rotation_days);
  // Not before 1970, whatever the record says.
  return std::max(*record.next_rotation, WallTime(period)) - period;
}

}  // namespace coffer::keyring

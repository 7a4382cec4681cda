// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/lock.h"

namespace coffer::agent {
namespace {

DeactivateMode mode_of(LockMode mode) {
  switch (mode) {
    case LockMode::kPlain:
      return DeactivateMode::kPlain;
    case LockMode::kDeferred:
      return DeactivateMode::kDeferred;
    case LockMode::kForce:
      return DeactivateMode::kForce;
  }
  return DeactivateMode::kPlain;
}

Result<void> take_away(Locked& locked, LockMode mode, const LifeCall& call, Worker& worker) {
  auto gone =
      worker.deactivate(locked.row.mapped_name, locked.row.id, mode_of(mode), call.deadline);
  if (!gone && gone.error().reason() == Reason::kNotUnlocked) {
    locked.note = "was not open";
    return {};
  }
  if (!gone || mode == LockMode::kPlain) return gone;
  const auto mappings = worker.list_mappings(call.deadline);
  if (!mappings) return {};
  for (const Mapping& mapping : *mappings) {
    if (mapping.name != locked.row.mapped_name || mapping.volume != locked.row.id) continue;
    locked.still_open = true;
    locked.note = "in use: goes when its last user lets go";
  }
  return {};
}

void store(Locked& locked, Registry& registry) {
  if (const auto stored = registry.put(locked.row); !stored) {
    locked.note += (locked.note.empty() ? "" : "; ") + stored.error().str();
  }
}

}  // namespace

Result<Locked> lock_volume(const VolumeRow& row, LockMode mode, const LifeCall& call,
                           const LifeParts& parts) {
  const audit::Event event = event_of(call, "volume.lock", row.id);
  const auto intent = parts.unlock.log.append_one_kept(event);

  // Durable first: after a crash in between, nothing opens it again by itself.
  Locked locked{.row = row, .still_open = false, .note = {}};
  locked.row.locked_by_admin = true;
  locked.row.locked_boot_id = parts.boot_id;
  store(locked, parts.registry);
  parts.reached("locked");

  const auto gone = take_away(locked, mode, call, parts.unlock.worker);
  if (!gone) {
    locked.row.locked_by_admin = row.locked_by_admin;
    locked.row.locked_boot_id = row.locked_boot_id;
    store(locked, parts.registry);
  }
  record_result(parts.unlock.log, event, intent ? *intent : 0,
                gone ? std::nullopt : std::optional(gone.error()), row.name + " locked");
  if (!gone) return pass(gone.error(), "lock " + row.name);
  return locked;
}

bool end_lock_of_other_boot(VolumeRow& row, const std::string& boot_id) {
  if (!row.locked_by_admin || row.locked_boot_id == boot_id) return false;
  row.locked_by_admin = false;
  row.locked_boot_id.clear();
  return true;
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "agent/engine_types.h"
#include "agent/unlock/unlock_batch.h"
#include "agent/volume/registry.h"

// The life of a volume beside its unlocking: provision.h, adopt.h, recover.h, lock.h. These are
// blocking functions, values in and a Result out, for the engine's pool.
namespace coffer::agent {

// What they work with. Owns nothing.
struct LifeParts {
  UnlockParts unlock;
  Registry& registry;
  std::string state_folder;
  std::string boot_id;
  std::chrono::seconds boot_deadline;  // Config::boot_deadline
  // Called with the keys whose bindings to a volume that is gone could not be taken away.
  std::function<void(const std::vector<CmkId>& keys)> unsettled = [](const auto&) {};
  // Called with the name of each step when it is done: where tests cut the power.
  std::function<void(std::string_view step)> reached = [](std::string_view) {};
};

// Who asks, for what, until when.
struct LifeCall {
  audit::Actor actor;
  std::string request_id;
  std::string reason_text;
  Deadline deadline{SteadyTime()};
};

// The start of an audit event of `call`.
audit::Event event_of(const LifeCall& call, const std::string& operation, const VolumeId& volume);

// Unbinds the keys of a row that is gone. `parts.unsettled` hears of those that stay for now.
void let_go_of_keys(const VolumeRow& row, const audit::Actor& actor, const LifeParts& parts);

// Writes the result of an intent: now if possible, else with the next commit.
void record_result(audit::AuditLog& log, audit::Event event, std::uint64_t intent,
                   const std::optional<Error>& error, const std::string& text);

// The disk that a caller means by `path`, which must be under /dev. kInvalidArgs; kDeviceAbsent.
Result<Disk> disk_at(std::span<const Disk> disks, const std::string& path);

// kUnsupported when the agent's own state is on one of `mappings` or on the disk itself: it would
// be needed to open what it is on.
Result<void> require_state_elsewhere(const std::string& state_folder, const Disk& disk,
                                     std::span<const Mapping> mappings);

// A name for a volume that was given none: from the stable link, else from the node.
std::string name_for(const Disk& disk);

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include "dbus/dispatcher.h"

namespace coffer::dbus {

// org.coffer.Agent1.Volume on every volume of the engine. `context` outlives the bus.
int export_volumes(sd_bus* bus, Context& context);

// What the manager's methods on many volumes share with a volume's own.
inline constexpr OptionSpec kUnlockOptions[] = {{"strict", 'b'}, {"read-only", 'b'}};
inline constexpr OptionSpec kLockOptions[] = {
    {"deferred", 'b'}, {"force", 'b'}, {"deadline-usec", 't'}};

// Plans for unlocking, locking or verifying exactly `ids`, with one question to polkit per volume.
Result<Plan> plan_unlock(Context& context, std::vector<VolumeId> ids, const Options& options);
Result<Plan> plan_lock(Context& context, std::vector<VolumeId> ids, const Options& options);
Result<Plan> plan_verify(Context& context, std::vector<VolumeId> ids, const Options& options);

// The plan's part that is the same for every method on volumes: whom polkit is asked about, and
// that they are still the same volumes afterwards.
Result<Plan> plan_for_volumes(Context& context, std::string operation,
                              const std::vector<VolumeId>& ids, const Options& options);

}  // namespace coffer::dbus

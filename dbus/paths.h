// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/engine_types.h"

namespace coffer::dbus {

// Object paths and what they stand for. Ids and names are escaped as sd_bus_path_encode() does;
// the way back takes exactly what the way there gives, and is empty for any other path.
std::string volume_path(const VolumeId& id);
std::string job_path(agent::JobId id);
std::string key_path(const CmkId& id);
std::string provider_path(const std::string& name);

std::optional<VolumeId> volume_of_path(const char* path);
std::optional<agent::JobId> job_of_path(const char* path);
std::optional<CmkId> key_of_path(const char* path);
std::optional<std::string> provider_of_path(const char* path);

}  // namespace coffer::dbus

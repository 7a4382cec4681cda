// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/worker.h"

#include <algorithm>

namespace coffer::agent {

luks2::Profile new_volume_profile(const Uuid& volume, bool detached) {
  luks2::Profile profile;
  profile.uuid = volume;
  profile.metadata_bytes = std::uint64_t{64} << 10U;
  // Header and keyslots end at 2 MiB: seven keyslots of 4000 stripes for a key of 64 bytes.
  profile.keyslots_bytes = (std::uint64_t{2} << 20U) - 2 * profile.metadata_bytes;
  // Where cryptsetup's own default is, so that later jobs find the room they expect.
  profile.data_offset_bytes = detached ? 0 : std::uint64_t{16} << 20U;
  return profile;
}

std::string mapping_dm_uuid(const VolumeId& volume, std::string_view mapping) {
  std::string digits = volume.str();
  std::erase(digits, '-');
  return "CRYPT-LUKS2-" + digits + "-" + std::string(mapping);
}

bool is_mapping_name(std::string_view name) noexcept {
  const auto allowed = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           c == '-' || c == '.';
  };
  return !name.empty() && name.size() <= kMappingNameBytesMax && name != "." && name != ".." &&
         name != "control" && std::ranges::all_of(name, allowed);
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "agent/volume/device_watch.h"

namespace coffer::agent {
namespace {

// Link folders by how well they tell one disk from another; an earlier prefix wins.
constexpr std::array<std::string_view, 7> kStablePrefixes = {
    "/dev/disk/by-id/wwn-",  "/dev/disk/by-id/nvme-eui.", "/dev/disk/by-id/nvme-",
    "/dev/disk/by-id/scsi-", "/dev/disk/by-id/ata-",      "/dev/disk/by-id/virtio-",
    "/dev/disk/by-id/",
};

std::size_t rank_of(std::string_view path) noexcept {
  const auto starts = [&](std::string_view prefix) { return path.starts_with(prefix); };
  const auto* const at = std::find_if(kStablePrefixes.begin(), kStablePrefixes.end(), starts);
  return static_cast<std::size_t>(at - kStablePrefixes.begin());
}

// Links that come from the content of a disk move with a copy of it.
bool names_content(std::string_view path) noexcept {
  return path.starts_with("/dev/disk/by-id/dm-uuid-") ||
         path.starts_with("/dev/disk/by-id/lvm-pv-uuid-") ||
         path.starts_with("/dev/disk/by-id/md-uuid-");
}

}  // namespace

bool is_stable_path(std::string_view path) noexcept {
  return rank_of(path) < kStablePrefixes.size() && !names_content(path);
}

DiskIdentity Disk::identity() const {
  DiskIdentity identity{.path = node, .serial = serial, .wwn = wwn};
  for (const std::string& link : links) {
    if (!is_stable_path(link)) continue;
    const bool better = !is_stable_path(identity.path) || rank_of(link) < rank_of(identity.path) ||
                        (rank_of(link) == rank_of(identity.path) && link < identity.path);
    if (better) identity.path = link;
  }
  return identity;
}

bool Disk::has_path(std::string_view path) const {
  return node == path || std::find(links.begin(), links.end(), path) != links.end();
}

bool same_disk(const DiskIdentity& a, const DiskIdentity& b) {
  if (!a.wwn.empty() && !b.wwn.empty()) return a.wwn == b.wwn;
  if (!a.serial.empty() && !b.serial.empty()) return a.serial == b.serial;
  return a.path == b.path;
}

}  // namespace coffer::agent

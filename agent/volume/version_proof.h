// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/volume/life.h"

namespace coffer::agent {

// A version of a key, that no volume needs any more.
struct VersionUse {
  CmkId key;
  std::uint32_t version = 0;
};

// What stands against it: by volume, for people.
struct VersionProof {
  struct Doubt {
    std::string name;  // Of the volume; its id where its registry entry cannot be read.
    Error why;         // kKeyBound: it has a wrap of the version. Else why that is not known.
  };
  std::size_t volumes = 0;  // That were looked at.
  std::vector<Doubt> doubts;
  bool holds() const noexcept { return doubts.empty(); }
};

// Reads the header of every registered volume, and of every copy of one that is plugged in, now.
// The proof holds when none has a wrap of the version: a volume that cannot be read, is being
// provisioned, or has a damaged copy of its header proves nothing. Volumes that are not registered
// on this host, copies that are not plugged in and what callers encrypted themselves are beyond it.
//   kStoreUnavailable, kStoreDamaged   the registry cannot be read.
Result<VersionProof> prove_unused(const VersionUse& use, std::span<const Disk> disks,
                                  Deadline deadline, const LifeParts& parts);

// kKeyBound, which names the volumes: the proof does not hold.
Result<void> require_unused(const VersionUse& use, const VersionProof& proof);

}  // namespace coffer::agent

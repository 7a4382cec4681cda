// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string>

#include "agent/volume/life.h"

namespace coffer::agent {

// Whether the file system that was asked for with a new volume is still to be made, because a crash
// or a token that went away came in between. Not once the volume was opened: then it is its
// admin's, also when making the file system failed.
bool lacks_file_system(const VolumeRow& row);

struct FirstOpening {
  std::optional<Activated> activated;
  std::string note;  // What went less well after that; "" nothing.
};

// Opens a new volume by the ordinary path, makes the file system that was asked for and notes both
// in `row` and the registry. A volume that is open already is taken as opened.
//   the errors of an unlock, kBusy: nothing is noted then, and it can be tried again.
Result<FirstOpening> open_first(VolumeRow& row, std::span<const Disk> disks, const LifeCall& call,
                                const LifeParts& parts);

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer::agent {

// Makes a file system on the block device `node` ("/dev/dm-3") with the system's own program. One
// of that type that is there already is left as it is, and a success: who asks again after a crash
// does not know that it was made. An XFS that was cut off in the making is made again.
//   kForeignData  something else is there already: nothing was written.
//   kUnsupported  not "ext4" or "xfs", or its program is not installed.
//   kInvalidArgs  a label that the type does not take.
//   kIoError      the program failed: its last words.    kTimedOut
Result<void> make_file_system_on(const std::string& node, const std::string& type,
                                 const std::string& label, Deadline deadline);

}  // namespace coffer::agent

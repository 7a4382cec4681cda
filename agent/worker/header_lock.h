// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/worker/open_device.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace coffer::agent {

inline constexpr const char* kHeaderLockFolder = "/run/cryptsetup";

// Takes the lock under which libcryptsetup changes the header on `device`, so that neither writes
// over what the other has just written; it ends with the fd. It is flock(2), of the file
// L_<major>:<minor> in `folder` or, for a header in a regular file, of that file.
//   kBusy  another program held it until `deadline`.   kIoError: the lock's file cannot be made.
Result<UniqueFd> lock_header(const OpenDevice& device, Deadline deadline,
                             const std::string& folder = kHeaderLockFolder);

}  // namespace coffer::agent

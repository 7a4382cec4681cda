// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>

#include "agent/worker/worker.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace coffer::agent {

// A device held open for reading, past the page cache where it can be.
struct OpenDevice {
  UniqueFd fd;
  DeviceIdentity identity;
  dev_t number = 0;  // 0: a regular file.
  bool is_file() const noexcept { return number == 0; }
};

// Whether regular files outside /dev are devices too: in tests, never in a unit.
enum class FilesAllowed : bool { kNo, kYes };

// Opens the block device that `path` leads to. Nothing else is ever opened, not even to look at it.
//   kDeviceAbsent  there is nothing, or no block device, or it is not under /dev.
//   kInvalidArgs   not an absolute path of at most kDevicePathBytesMax bytes.
//   kAccessDenied, kIoError
Result<OpenDevice> open_device(const std::string& path, FilesAllowed files);

// kDeviceChanged: the disk behind the open device is not (or not any more) what `device` says.
Result<void> require_unchanged(const OpenDevice& device);

// The node that the kernel itself gave the device ("/dev/vdb"), checked to be this very device.
// kDeviceChanged. Of a file: its path under /proc/self/fd.
Result<std::string> node_path(const OpenDevice& device);

// Opens the same device again to write to it, whoever else has it open: a volume's header is
// changed while the volume is in use.
//   kAccessDenied  it is read-only.   kDeviceChanged, kIoError
Result<UniqueFd> open_shared(const OpenDevice& device);

// Opens the same device again, for nobody else but us.
//   kBusy  mounted, mapped or held.    kDeviceChanged  what was opened is another disk.
//   kAccessDenied  it is read-only and would be written.
enum class Access : bool { kRead, kWrite };
Result<UniqueFd> open_exclusively(const OpenDevice& device, Access access = Access::kWrite);

}  // namespace coffer::agent

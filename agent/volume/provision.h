// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>

#include "agent/volume/life.h"

namespace coffer::agent {

struct ProvisionCall {
  LifeCall call;
  VolumeId id;  // Drawn by the caller.
  std::string device;
  ProvisionOptions options;
};
struct Provisioned {
  VolumeRow row;
  std::optional<Activated> activated;  // It is opened at once.
  std::string note;                    // The line for /etc/fstab, and what went less well.
};

// Makes a volume: intent; row `provisioning`; its CMK bound to it; key and wrap; header built, its
// print in the row; header written; row `ready`; opened; file system. A failure before the first
// byte is written leaves nothing behind; one after it, or a crash, is completed or undone by
// recover().
//   kInvalidArgs, kNameTaken      the name, the device's path, the file system's type.
//   kDeviceAbsent, kDeviceChanged, kDeviceTooSmall, kBusy, kIoError
//   kUnsupported                  the agent's state is on it; the kernel lacks the cipher; it has a
//                                 detached header and nothing stable to know it by.
//   kForeignData                  it is not empty, or nothing stable is known of it, or another
//                                 volume is registered on it; the message has the confirmation.
//   kConfirmMismatch              the confirmation given is not that one.
//   kNoSuchKey, kKeyDisabled, …   one of the CMKs: the volume is made under all of them, or not.
//   kAuditUnavailable, kStoreUnavailable, kHsm…, kWorkerLost
// With dry_run it ends before the intent: all checks were made.
Result<Provisioned> provision(const ProvisionCall& call, std::span<const Disk> disks,
                              const LifeParts& parts);

// The line for /etc/fstab that mounts a volume whenever it opens. One that stays closed holds the
// login prompt for `boot_deadline` after the begin of the boot, which is not longer than
// coffer-boot-wait does; one that opens later is mounted then.
std::string fstab_line(const VolumeRow& row, std::chrono::seconds boot_deadline);

}  // namespace coffer::agent

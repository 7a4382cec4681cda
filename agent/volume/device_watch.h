// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/volume/registry.h"
#include "core/base/result.h"
#include "core/ipc/event_loop.h"

namespace coffer::agent {

// Disk is what udev says of a block device. It is a hint: the worker opens what a path leads to and
// reads for itself.
struct Disk {
  std::string node;         // "/dev/vdb"
  std::string kernel_name;  // "vdb"
  std::uint32_t major = 0;
  std::uint32_t minor = 0;
  std::uint64_t sequence = 0;      // DISKSEQ: differs for each disk that gets these numbers.
  std::vector<std::string> links;  // "/dev/disk/by-id/virtio-…", …
  std::string serial;
  std::string wwn;
  std::string file_system_type;  // "crypto_LUKS"
  std::string file_system_uuid;
  std::string mapping;  // DM_NAME of a device-mapper device.

  // The identity to register it by: the most telling of its stable links, else its node.
  DiskIdentity identity() const;
  bool has_path(std::string_view path) const;  // Its node or one of its links.
};

// Whether `a` and `b` are the same disk by what identifies one: serial and WWN where both have
// them, else the path.
bool same_disk(const DiskIdentity& a, const DiskIdentity& b);

// Whether `path` names the disk itself and not the place it is plugged in.
bool is_stable_path(std::string_view path) noexcept;

// DeviceWatch tells which block devices there are and when that changes. The makers: udev, and a
// fake that tests plug disks into.
class DeviceWatch {
 public:
  struct Observer {
    std::function<void()> changed;  // Something came or went; several at once are told once.
    std::function<void(const std::string& mapping)> settled;  // udev has made the links of one.
  };
  virtual ~DeviceWatch() = default;

  // Starts telling, on the event loop. kIoError: no monitor; rescans still find everything.
  virtual Result<void> start(Observer observer) = 0;

  // All block devices now. Any thread; may block for a moment.
  virtual Result<std::vector<Disk>> list() const = 0;

  // Whether udev has already made the links of `mapping`. Any thread; does not block.
  virtual bool is_settled(const std::string& mapping) const = 0;
};

inline constexpr std::chrono::milliseconds kCoalesce{100};

// The maker over udev: monitor events are coalesced for kCoalesce, at most ten times as long while
// they keep coming.
std::unique_ptr<DeviceWatch> make_udev_watch(ipc::EventLoop& loop);

}  // namespace coffer::agent

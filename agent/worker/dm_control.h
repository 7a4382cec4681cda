// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"

struct dm_ioctl;  // NOLINT(readability-identifier-naming): of linux/dm-ioctl.h.

namespace coffer::agent {

// DmControl is device-mapper as the kernel offers it: the ioctls of linux/dm-ioctl.h, which, unlike
// libdevmapper, several threads may make. Removals send no cookie: udev takes them like any device.
//
// Thread-safe.
class DmControl {
 public:
  struct Status {
    std::string name;
    std::string uuid;
    dev_t number = 0;
    std::uint32_t open_count = 0;
    bool live_table = false;
    bool suspended = false;
    bool read_only = false;
    bool deferred = false;
  };
  struct Target {
    std::uint64_t start_sectors = 0;
    std::uint64_t length_sectors = 0;
    std::string type;  // "crypt", "error", …
  };

  struct Named {
    std::string name;
    std::optional<std::string> uuid;  // None: this kernel's list does not tell.
  };

  // How a request reaches the kernel; as ioctl(2). Tests have a kernel of their own.
  using Ioctl = std::function<int(unsigned long request, dm_ioctl* call)>;

  // kUnsupported: this kernel has no device-mapper.
  static Result<DmControl> open();
  explicit DmControl(Ioctl ioctl) noexcept : ioctl_(std::move(ioctl)) {}

  Result<std::vector<Named>> list() const;               // All mappings of the host.
  Result<Status> status(const std::string& name) const;  // kNotUnlocked: there is none.
  // Not to be asked of everybody's mappings: some targets answer slowly. Flushes nothing.
  Result<std::vector<Target>> table(const std::string& name) const;
  Result<std::vector<dev_t>> devices_below(const std::string& name) const;

  // kBusy: somebody has it open. With `deferred` it then goes later. kNotUnlocked.
  Result<void> remove(const std::string& name, bool deferred) const;

  // Puts the error target in place of a live table: what is under way ends with an I/O error.
  Result<void> replace_by_error(const std::string& name) const;

  // Whether the kernel can encrypt this way: makes a mapping `name`, loads a table over the device
  // `below`, read-only and never resumed, and takes it away. kUnsupported: it cannot; kBusy: the
  // device is held.
  struct CryptProbe {
    std::string cipher;
    std::uint32_t key_bytes = 0;
    std::uint32_t sector_bytes = 0;
    std::string below;  // "254:16"
  };
  Result<void> probe_crypt(const std::string& name, const CryptProbe& probe) const;

 private:
  Ioctl ioctl_;
};

}  // namespace coffer::agent

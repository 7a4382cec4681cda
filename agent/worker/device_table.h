// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>

#include "agent/worker/header_image.h"
#include "agent/worker/open_device.h"
#include "agent/worker/worker.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer::agent {

// A device as it was scanned. Immutable once it is in the table; whoever holds a pointer keeps the
// device open, whatever becomes of the handle.
struct HeldDevice {
  OpenDevice device;
  std::optional<OpenDevice> header_device;
  HeaderImage image;                           // The bytes read.
  std::optional<luks2::CheckedHeader> header;  // What the reader made of them.

  const OpenDevice& where_header_is() const noexcept {
    return header_device ? *header_device : device;
  }
};

// DeviceTable keeps scanned devices open under handles, each for one connection and until a lease
// ends. Thread-safe.
class DeviceTable {
 public:
  static constexpr std::size_t kDevicesMax = 8192;

  explicit DeviceTable(const Clock& clock) : clock_(clock) {}

  // kLimitsExceeded: kDevicesMax are open.
  Result<DeviceHandle> add(std::shared_ptr<const HeldDevice> device, std::uint64_t connection);
  // Renews the lease. kDeviceChanged: there is no such handle (any more), or not of this
  // connection.
  Result<std::shared_ptr<const HeldDevice>> find(DeviceHandle handle, std::uint64_t connection);
  void release(std::span<const DeviceHandle> handles, std::uint64_t connection);
  void release_connection(std::uint64_t connection);
  void release_expired();
  std::size_t size() const;

 private:
  struct Entry {
    std::shared_ptr<const HeldDevice> device;
    std::uint64_t connection = 0;
    SteadyTime expires;
  };

  const Clock& clock_;
  mutable std::mutex mutex_;  // Guards what follows.
  std::map<DeviceHandle, Entry> entries_;
  DeviceHandle last_ = 0;
};

}  // namespace coffer::agent

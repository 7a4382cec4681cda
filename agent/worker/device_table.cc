// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/device_table.h"

namespace coffer::agent {

Result<DeviceHandle> DeviceTable::add(std::shared_ptr<const HeldDevice> device,
                                      std::uint64_t connection) {
  const std::lock_guard lock(mutex_);
  if (entries_.size() >= kDevicesMax)
    return fail(Reason::kLimitsExceeded, "the worker holds too many devices open");
  entries_[++last_] = {std::move(device), connection, clock_.steady() + kHandleLease};
  return last_;
}

Result<std::shared_ptr<const HeldDevice>> DeviceTable::find(DeviceHandle handle,
                                                            std::uint64_t connection) {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(handle);
  if (entry == entries_.end() || entry->second.connection != connection ||
      entry->second.expires < clock_.steady())
    return fail(Reason::kDeviceChanged, "the device is not held open any more: scan it again");
  entry->second.expires = clock_.steady() + kHandleLease;
  return entry->second.device;
}

void DeviceTable::release(std::span<const DeviceHandle> handles, std::uint64_t connection) {
  const std::lock_guard lock(mutex_);
  for (const auto handle : handles) {
    const auto entry = entries_.find(handle);
    if (entry != entries_.end() && entry->second.connection == connection) entries_.erase(entry);
  }
}

void DeviceTable::release_connection(std::uint64_t connection) {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const auto& e) { return e.second.connection == connection; });
}

void DeviceTable::release_expired() {
  const std::lock_guard lock(mutex_);
  std::erase_if(entries_, [&](const auto& e) { return e.second.expires < clock_.steady(); });
}

std::size_t DeviceTable::size() const {
  const std::lock_guard lock(mutex_);
  return entries_.size();
}

}  // namespace coffer::agent

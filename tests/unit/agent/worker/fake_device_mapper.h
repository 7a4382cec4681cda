// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/dm-ioctl.h>
#include <sys/ioctl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "agent/worker/dm_control.h"

namespace coffer::agent {

// FakeDeviceMapper answers the ioctls of DmControl as the kernel does, over mappings in memory.
// Thread-safe.
class FakeDeviceMapper {
 public:
  struct Device {
    std::string uuid;
    bool live_table = false;
    std::string target = "crypt";
  };
  // Made with every request, before it is carried out.
  using Watch = std::function<void(unsigned long request, const std::string& name)>;

  Result<DmControl> open() {
    return DmControl(
        [this](unsigned long request, dm_ioctl* call) { return carry_out(request, *call); });
  }
  void set_watch(Watch watch) { watch_ = std::move(watch); }
  void set_minor_version(std::uint32_t minor) { minor_version_ = minor; }
  // Each `request` fails from now on. 0: none does.
  void set_refused(unsigned long request, int error) { refused_ = {request, error}; }
  void put(const std::string& name, Device device) {
    const std::lock_guard lock(mutex_);
    devices_[name] = std::move(device);
  }
  bool has(const std::string& name) const {
    const std::lock_guard lock(mutex_);
    return devices_.contains(name);
  }
  std::size_t size() const {
    const std::lock_guard lock(mutex_);
    return devices_.size();
  }
  // How often a status was asked for.
  std::size_t looked() const {
    const std::lock_guard lock(mutex_);
    return looked_;
  }
  // Whose targets were asked for, and with which flags.
  std::vector<std::pair<std::string, std::uint32_t>> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }

 private:
  static constexpr std::uint64_t kNumber = 0xfd00;  // 253:0

  static int refuse(int error) {
    errno = error;
    return -1;
  }
  static std::byte* data(dm_ioctl& call) {
    return reinterpret_cast<std::byte*>(&call) + sizeof(dm_ioctl);
  }
  template <class T>
  static void put_at(dm_ioctl& call, std::size_t offset, const T& value) {
    std::memcpy(data(call) + offset, &value, sizeof(T));
  }
  static std::size_t align(std::size_t offset) { return (offset + 7) / 8 * 8; }
  static void answer_bytes(dm_ioctl& call, std::size_t bytes) {
    call.data_start = sizeof(dm_ioctl);
    call.data_size = static_cast<std::uint32_t>(sizeof(dm_ioctl) + bytes);
  }

  int carry_out(unsigned long request, dm_ioctl& call) {
    const std::string name(static_cast<const char*>(call.name));
    if (const auto watch = watch_) watch(request, name);  // It may set another one.
    const std::lock_guard lock(mutex_);
    call.version[1] = minor_version_;
    if (request == refused_.first) return refuse(refused_.second);
    if (request == DM_LIST_DEVICES) return list(call);
    if (request == DM_DEV_CREATE) {
      return devices_.emplace(name, Device{}).second ? 0 : refuse(EBUSY);
    }
    const auto device = devices_.find(name);
    if (device == devices_.end()) return refuse(ENXIO);
    switch (request) {
      case DM_DEV_REMOVE:
        devices_.erase(device);
        return 0;
      case DM_TABLE_LOAD:
        return as_parameters(call).starts_with("nonsense") ? refuse(EINVAL) : 0;
      case DM_DEV_STATUS:
        ++looked_;
        call.flags = device->second.live_table ? DM_ACTIVE_PRESENT_FLAG : 0;
        device->second.uuid.copy(call.uuid, sizeof(call.uuid) - 1);
        call.dev = kNumber;
        return 0;
      case DM_TABLE_STATUS:
        asked_.emplace_back(name, call.flags);
        return targets(call, device->second);
      case DM_TABLE_DEPS:
        put_at(call, 0, dm_target_deps{});
        answer_bytes(call, sizeof(dm_target_deps));
        return 0;
      default:
        return refuse(ENOTTY);
    }
  }

  static std::string as_parameters(dm_ioctl& call) {
    return reinterpret_cast<const char*>(data(call)) + sizeof(dm_target_spec);
  }

  int list(dm_ioctl& call) const {
    std::size_t at = 0;
    std::size_t last = 0;
    const bool with_uuids = (call.flags & DM_UUID_FLAG) != 0;
    put_at(call, 0, dm_name_list{});
    for (const auto& [name, device] : devices_) {
      dm_name_list entry{};
      entry.dev = kNumber;
      last = at;
      const auto name_at = at + offsetof(dm_name_list, name);
      std::memcpy(data(call) + name_at, name.c_str(), name.size() + 1);
      at = align(name_at + name.size() + 1);
      put_at(call, at, std::uint32_t{0});
      if (minor_version_ >= 45) {
        const std::uint32_t told =
            device.uuid.empty() ? DM_NAME_LIST_FLAG_DOESNT_HAVE_UUID : DM_NAME_LIST_FLAG_HAS_UUID;
        put_at(call, at + 4, with_uuids ? told : 0U);
        at += 8;
        if (with_uuids && !device.uuid.empty()) {
          std::memcpy(data(call) + at, device.uuid.c_str(), device.uuid.size() + 1);
          at += device.uuid.size() + 1;
        }
      } else {
        at += 4;
      }
      at = align(at);
      entry.next = static_cast<std::uint32_t>(at - last);
      std::memcpy(data(call) + last, &entry, offsetof(dm_name_list, name));
    }
    if (!devices_.empty()) put_at(call, last + offsetof(dm_name_list, next), std::uint32_t{0});
    answer_bytes(call, std::max(at, sizeof(dm_name_list)));
    return 0;
  }

  static int targets(dm_ioctl& call, const Device& device) {
    call.target_count = device.live_table ? 1 : 0;
    dm_target_spec spec{};
    spec.length = 8;
    device.target.copy(spec.target_type, sizeof(spec.target_type) - 1);
    put_at(call, 0, spec);
    answer_bytes(call, sizeof(spec));
    return 0;
  }

  std::uint32_t minor_version_ = 47;
  Watch watch_;
  std::pair<unsigned long, int> refused_{0, 0};
  mutable std::mutex mutex_;  // Guards what follows.
  std::map<std::string, Device> devices_;
  std::size_t looked_ = 0;
  std::vector<std::pair<std::string, std::uint32_t>> asked_;
};

}  // namespace coffer::agent

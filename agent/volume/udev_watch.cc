// SPDX-License-Identifier: Apache-2.0
#include <sys/sysmacros.h>
#include <systemd/sd-device.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>

#include "agent/volume/device_watch.h"
#include "core/base/unique_fd.h"

namespace coffer::agent {
namespace {

using Device = CHandle<sd_device, ::sd_device_unref>;
using Enumerator = CHandle<sd_device_enumerator, ::sd_device_enumerator_unref>;
using Monitor = CHandle<sd_device_monitor, ::sd_device_monitor_unref>;

constexpr std::size_t kDisksMax = 65536;
constexpr std::size_t kLinksMax = 128;
constexpr std::size_t kMonitorBufferBytes = std::size_t{16} << 20;

std::string property(sd_device* device, const char* name) {
  const char* value = nullptr;
  if (::sd_device_get_property_value(device, name, &value) < 0 || value == nullptr) return {};
  return printable(value, 256);
}

// A disk that cannot serve as a volume's: no node, or memory and CD drives that no one provisions.
bool is_of_interest(std::string_view kernel_name) {
  for (const std::string_view prefix : {"ram", "zram", "sr", "fd"}) {
    if (kernel_name.starts_with(prefix)) return false;
  }
  return true;
}

std::optional<Disk> read_disk(sd_device* device) {
  const char* node = nullptr;
  const char* name = nullptr;
  dev_t number = 0;
  if (::sd_device_get_devname(device, &node) < 0 || ::sd_device_get_sysname(device, &name) < 0 ||
      ::sd_device_get_devnum(device, &number) < 0 || !is_of_interest(name)) {
    return std::nullopt;
  }
  Disk disk;
  disk.node = node;
  disk.kernel_name = name;
  disk.major = ::major(number);
  disk.minor = ::minor(number);
  for (const char* link = ::sd_device_get_devlink_first(device);
       link != nullptr && disk.links.size() < kLinksMax;
       link = ::sd_device_get_devlink_next(device)) {
    disk.links.emplace_back(link);
  }
  disk.sequence = std::strtoull(property(device, "DISKSEQ").c_str(), nullptr, 10);
  disk.serial = property(device, "ID_SERIAL");
  if (disk.serial.empty()) disk.serial = property(device, "ID_SERIAL_SHORT");
  disk.wwn = property(device, "ID_WWN_WITH_EXTENSION");
  if (disk.wwn.empty()) disk.wwn = property(device, "ID_WWN");
  // Partitions inherit the serial of their disk and are told apart by their own id.
  if (const std::string part = property(device, "PARTN"); !part.empty()) {
    if (!disk.serial.empty()) disk.serial += "-part" + part;
    if (!disk.wwn.empty()) disk.wwn += "-part" + part;
  }
  disk.file_system_type = property(device, "ID_FS_TYPE");
  disk.file_system_uuid = property(device, "ID_FS_UUID");
  disk.mapping = property(device, "DM_NAME");
  return disk;
}

class UdevWatch final : public DeviceWatch {
 public:
  explicit UdevWatch(ipc::EventLoop& loop) : loop_(loop) {}

  Result<void> start(Observer observer) override {
    observer_ = std::move(observer);
    sd_device_monitor* monitor = nullptr;
    if (const int r = ::sd_device_monitor_new(&monitor); r < 0) {
      return fail_errno(-r, "make a udev monitor");
    }
    monitor_.reset(monitor);
    // As large as the kernel grants without a capability; a rescan finds what was lost.
    static_cast<void>(::sd_device_monitor_set_receive_buffer_size(monitor, kMonitorBufferBytes));
    if (const int r =
            ::sd_device_monitor_filter_add_match_subsystem_devtype(monitor, "block", nullptr);
        r < 0) {
      return fail_errno(-r, "filter the udev monitor");
    }
    if (const int r = ::sd_device_monitor_attach_event(monitor, loop_.handle()); r < 0) {
      return fail_errno(-r, "attach the udev monitor");
    }
    if (const int r = ::sd_device_monitor_start(monitor, on_device, this); r < 0) {
      return fail_errno(-r, "start the udev monitor");
    }
    return {};
  }

  Result<std::vector<Disk>> list() const override {
    sd_device_enumerator* made = nullptr;
    if (const int r = ::sd_device_enumerator_new(&made); r < 0) {
      return fail_errno(-r, "list block devices");
    }
    const Enumerator enumerator(made);
    if (const int r = ::sd_device_enumerator_add_match_subsystem(made, "block", 1); r < 0) {
      return fail_errno(-r, "list block devices");
    }
    std::vector<Disk> disks;
    for (sd_device* device = ::sd_device_enumerator_get_device_first(made);
         device != nullptr && disks.size() < kDisksMax;
         device = ::sd_device_enumerator_get_device_next(made)) {
      if (auto disk = read_disk(device)) disks.push_back(std::move(*disk));
    }
    return disks;
  }

  bool is_settled(const std::string& mapping) const override {
    return ::access(("/dev/mapper/" + mapping).c_str(), F_OK) == 0;
  }

 private:
  static int on_device(sd_device_monitor* /*monitor*/, sd_device* device, void* userdata) noexcept {
    static_cast<UdevWatch*>(userdata)->take(device);
    return 0;
  }

  void take(sd_device* device) noexcept {
    sd_device_action_t action = SD_DEVICE_CHANGE;
    static_cast<void>(::sd_device_get_action(device, &action));
    const std::string mapping = property(device, "DM_NAME");
    if (action != SD_DEVICE_REMOVE && !mapping.empty() && is_settled(mapping)) {
      observer_.settled(mapping);
    }
    arm();
  }

  // Puts the telling off a little with each event, but not for ever.
  void arm() {
    const SteadyTime now = system_clock().steady();
    if (!armed_) first_ = now;
    if (armed_ && now - first_ > kCoalesce * 10) return;
    auto timer = loop_.after(kCoalesce, [this] {
      armed_ = false;
      observer_.changed();
    });
    if (!timer) return;
    timer_ = std::move(*timer);
    armed_ = true;
  }

  ipc::EventLoop& loop_;
  Observer observer_;
  Monitor monitor_;
  ipc::EventSource timer_;
  SteadyTime first_{};  // Of the events not told yet.
  bool armed_ = false;
};

}  // namespace

std::unique_ptr<DeviceWatch> make_udev_watch(ipc::EventLoop& loop) {
  return std::make_unique<UdevWatch>(loop);
}

}  // namespace coffer::agent

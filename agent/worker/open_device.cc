// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/open_device.h"

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string_view>

namespace coffer::agent {
namespace {

#ifndef BLKGETDISKSEQ
constexpr unsigned long kGetDiskSequence = _IOR(0x12, 128, std::uint64_t);
#else
constexpr unsigned long kGetDiskSequence = BLKGETDISKSEQ;
#endif

std::string fd_path(int fd) {
  return "/proc/self/fd/" + std::to_string(fd);
}

// "vdb" for 254:16, from sysfs; empty when it is gone.
std::string kernel_name(dev_t number) {
  std::ifstream lines("/sys/dev/block/" + std::to_string(major(number)) + ":" +
                      std::to_string(minor(number)) + "/uevent");
  constexpr std::string_view kKey = "DEVNAME=";
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(kKey)) return line.substr(kKey.size());
  return {};
}

Result<std::string> resolve(const std::string& path, FilesAllowed files) {
  if (path.empty() || path.front() != '/' || path.size() > kDevicePathBytesMax ||
      path.find('\0') != std::string::npos)
    return fail(Reason::kInvalidArgs, "a device is named by an absolute path");
  const std::unique_ptr<char, decltype(&::free)> real(::realpath(path.c_str(), nullptr), ::free);
  if (!real) return fail(Reason::kDeviceAbsent, path + " is not there");
  std::string resolved(real.get());
  if (files == FilesAllowed::kNo && !resolved.starts_with("/dev/"))
    return fail(Reason::kDeviceAbsent, path + " does not lead to a device under /dev");
  return resolved;
}

Result<DeviceIdentity> identify_block(int fd, dev_t number) {
  DeviceIdentity identity;
  identity.node = kernel_name(number);
  identity.major = major(number);
  identity.minor = minor(number);
  int sector_bytes = 0;
  int read_only = 0;
  if (::ioctl(fd, BLKGETSIZE64, &identity.size_bytes) != 0 ||
      ::ioctl(fd, BLKSSZGET, &sector_bytes) != 0 || ::ioctl(fd, BLKROGET, &read_only) != 0)
    return fail_errno(errno, "ask the device for its size", Reason::kDeviceAbsent);
  identity.sector_bytes = static_cast<std::uint32_t>(sector_bytes);
  identity.read_only = read_only != 0;
  if (::ioctl(fd, kGetDiskSequence, &identity.sequence) != 0) identity.sequence = 0;
  return identity;
}

// kDeviceChanged: what `fd` has open is not (or not any more) what `device` was when it was opened.
Result<void> require_same(int fd, const OpenDevice& device) {
  const auto& identity = device.identity;
  bool same = false;
  if (device.is_file()) {
    struct stat status{};
    same = ::fstat(fd, &status) == 0 && status.st_ino == identity.sequence &&
           static_cast<std::uint64_t>(status.st_size) == identity.size_bytes;
  } else {
    const auto now = identify_block(fd, device.number);
    same = now && *now == identity;
  }
  if (!same) return fail(Reason::kDeviceChanged, identity.node + " is gone or another disk by now");
  return {};
}

// Without O_DIRECT where a file system has none.
UniqueFd reopen(int fd, int flags) {
  UniqueFd direct(::open(fd_path(fd).c_str(), flags | O_CLOEXEC | O_DIRECT));
  if (direct.valid() || errno != EINVAL) return direct;
  return UniqueFd(::open(fd_path(fd).c_str(), flags | O_CLOEXEC));
}

}  // namespace

Result<OpenDevice> open_device(const std::string& path, FilesAllowed files) {
  const auto resolved = resolve(path, files);
  if (!resolved) return tl::unexpected(resolved.error());

  // O_PATH opens nothing: no tape is rewound and no terminal is made ours by a wrong name.
  const UniqueFd place(::open(resolved->c_str(), O_PATH | O_NOFOLLOW | O_CLOEXEC));
  struct stat status{};
  if (!place.valid() || ::fstat(place.get(), &status) != 0)
    return fail(Reason::kDeviceAbsent, path + " is not there");
  const bool file = S_ISREG(status.st_mode) && files == FilesAllowed::kYes;
  if (!S_ISBLK(status.st_mode) && !file)
    return fail(Reason::kDeviceAbsent, path + " is not a block device");

  OpenDevice device;
  device.fd = reopen(place.get(), O_RDONLY);
  if (!device.fd.valid()) return fail_errno(errno, "open " + path, Reason::kDeviceAbsent);
  if (file) {
    device.identity.node = *resolved;
    device.identity.size_bytes = static_cast<std::uint64_t>(status.st_size);
    device.identity.sequence = status.st_ino;
    return device;
  }
  device.number = status.st_rdev;
  auto identity = identify_block(device.fd.get(), status.st_rdev);
  if (!identity) return pass(identity.error(), path);
  device.identity = std::move(*identity);
  return device;
}

Result<void> require_unchanged(const OpenDevice& device) {
  return require_same(device.fd.get(), device);
}

Result<std::string> node_path(const OpenDevice& device) {
  if (device.is_file()) return fd_path(device.fd.get());
  auto path = "/dev/" + kernel_name(device.number);
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISBLK(status.st_mode) ||
      status.st_rdev != device.number)
    return fail(Reason::kDeviceChanged, path + " is not the device that was scanned");
  return path;
}

Result<UniqueFd> open_shared(const OpenDevice& device) {
  const auto& node = device.identity.node;
  if (device.identity.read_only) return fail(Reason::kAccessDenied, node + " is read-only");
  UniqueFd fd(::open(fd_path(device.fd.get()).c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return fail_errno(errno, "open " + node + " to change its header");
  if (const auto same = require_same(fd.get(), device); !same) return tl::unexpected(same.error());
  return fd;
}

Result<UniqueFd> open_exclusively(const OpenDevice& device, Access access) {
  const bool write = access == Access::kWrite;
  if (write && device.identity.read_only)
    return fail(Reason::kAccessDenied, device.identity.node + " is read-only");
  UniqueFd fd(::open(fd_path(device.fd.get()).c_str(),
                     (write ? O_RDWR : O_RDONLY) | O_CLOEXEC | (device.is_file() ? 0 : O_EXCL)));
  if (!fd.valid() && errno == EBUSY)
    return fail(Reason::kBusy, device.identity.node + " is mounted or held by another");
  if (!fd.valid()) return fail_errno(errno, "open " + device.identity.node + " for us alone");
  if (device.is_file() && ::flock(fd.get(), LOCK_EX | LOCK_NB) != 0)
    return fail(Reason::kBusy, device.identity.node + " is held by another");
  // A number leads to whatever disk has it now.
  if (const auto same = require_same(fd.get(), device); !same) return tl::unexpected(same.error());
  return fd;
}

}  // namespace coffer::agent

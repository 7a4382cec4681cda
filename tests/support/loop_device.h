// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fcntl.h>
#include <linux/loop.h>
#include <sys/ioctl.h>

#include <string>

#include "core/base/unique_fd.h"

namespace coffer::tests {

// LoopDevice makes a block device of a file, where the machine lets us; valid() says whether. It
// goes when its last user closes it, whatever becomes of this process.
class LoopDevice {
 public:
  explicit LoopDevice(const std::string& file, std::uint32_t sector_bytes = 512) {
    const UniqueFd control(::open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    const UniqueFd backing(::open(file.c_str(), O_RDWR | O_CLOEXEC));
    // Another process may take the free number first: then the next one.
    for (int attempt = 0; control.valid() && backing.valid() && attempt < 20; ++attempt) {
      const int number = ::ioctl(control.get(), LOOP_CTL_GET_FREE);
      if (number < 0) return;
      path_ = "/dev/loop" + std::to_string(number);
      fd_.reset(::open(path_.c_str(), O_RDWR | O_CLOEXEC));
      loop_config config{};
      config.fd = static_cast<std::uint32_t>(backing.get());
      config.block_size = sector_bytes;
      config.info.lo_flags = LO_FLAGS_AUTOCLEAR;
      if (fd_.valid() && ::ioctl(fd_.get(), LOOP_CONFIGURE, &config) == 0) return;
      fd_.reset();
    }
  }

  bool valid() const noexcept { return fd_.valid(); }
  const std::string& path() const noexcept { return path_; }

 private:
  std::string path_;
  UniqueFd fd_;
};

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::tests {

// Needle is a secret that memory is searched for. It keeps the bytes masked, so that the searcher's
// own memory does not hold what it looks for.
class Needle {
 public:
  // Takes 16 bytes or more for windows of 16, fewer for one window of all of them (at least 8).
  Needle(std::string name, std::span<const std::byte> secret);

  static constexpr std::size_t kWindowBytes = 16;
  static constexpr std::byte kMask{0xA5};

  const std::string& name() const noexcept { return name_; }
  // Each window, every byte XORed with kMask.
  const std::vector<Bytes>& masked_windows() const noexcept { return masked_windows_; }

 private:
  std::string name_;
  std::vector<Bytes> masked_windows_;
};

struct Hit {
  std::string needle;
  std::string where;  // A line of /proc/PID/maps.
  std::size_t count = 0;
};

// Stops the process, reads all of its readable memory through /proc/PID/mem, lets it go on. Every
// 16-byte window of each needle is looked for. The caller may trace it (root, or its parent).
//   kAccessDenied, kNoSuchFile
Result<std::vector<Hit>> scan_process(pid_t pid, std::span<const Needle> needles);

// One line per hit, for a test's message.
std::string describe(const std::vector<Hit>& hits);

}  // namespace coffer::tests

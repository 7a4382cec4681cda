// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/unique_fd.h"

namespace coffer::tests {

// BusTap is a monitor of a private bus that keeps all bytes of all messages as they go over the
// wire, headers and names too. What travels beside a message, in a descriptor, it does not see. It
// speaks the few words of the protocol itself: a library would show it what it understood.
class BusTap {
 public:
  // `address`: "unix:path=…". Blocks until it is a monitor.
  explicit BusTap(const std::string& address);

  // Why it is none, "" when it is.
  const std::string& problem() const noexcept { return problem_; }

  // All bytes so far.
  const std::string& bytes();
  bool has_seen(const std::string& part) { return bytes().find(part) != std::string::npos; }

 private:
  bool say(const std::string& words);
  bool hear(const std::string& words);  // Waits until they came.

  UniqueFd socket_;
  std::string problem_;
  std::string bytes_;
};

}  // namespace coffer::tests

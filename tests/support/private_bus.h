// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <string>

namespace coffer::tests {

// PrivateBus is a dbus-daemon of the test's own, in a new folder under TMPDIR, with the limits of
// Debian's system bus. Any user may connect. Ends with the test.
class PrivateBus {
 public:
  // kOpen: anyone owns any name and sends to anyone. kAsSystem: nobody does, as on the system bus,
  // but for what our own policy file allows, read with this user in the place of `coffer`.
  enum class Policy { kOpen, kAsSystem };
  explicit PrivateBus(Policy policy = Policy::kOpen);
  ~PrivateBus();
  PrivateBus(const PrivateBus&) = delete;
  PrivateBus& operator=(const PrivateBus&) = delete;

  // Why no bus could be started, "" when it runs.
  const std::string& problem() const noexcept { return problem_; }
  std::string address() const;
  const std::string& folder() const noexcept { return folder_; }

  void stop();   // Kills the daemon and removes its socket.
  void start();  // Again, at the same address. Returns when it accepts connections.

 private:
  void write_config(Policy policy) const;

  std::string folder_;
  std::string problem_;
  pid_t daemon_ = -1;
};

}  // namespace coffer::tests

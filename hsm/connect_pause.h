// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <mutex>
#include <optional>

#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer::hsm {

// ConnectPause keeps requests from trying again and again to reach a token that was just not there:
// for a while after a failed attempt they fail at once, with its error. It counts failures, too.
//
// Thread-safe; blocks nobody.
class ConnectPause {
 public:
  ConnectPause(std::chrono::milliseconds pause, const Clock& clock)
      : pause_(pause), clock_(clock) {}

  // Whether an attempt may be made now; else the last one's error.
  Result<void> may_try() const;
  // How the attempt that began at `begun` ended.
  void tried(SteadyTime begun, const Result<void>& outcome);

  void count_failure();
  std::uint64_t failures() const;

 private:
  const std::chrono::milliseconds pause_;
  const Clock& clock_;
  mutable std::mutex mutex_;  // Guards what follows.
  std::optional<Error> last_error_;
  SteadyTime last_attempt_{};
  std::uint64_t failures_ = 0;
};

}  // namespace coffer::hsm

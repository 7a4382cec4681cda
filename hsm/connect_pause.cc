// SPDX-License-Identifier: Apache-2.0
#include "hsm/connect_pause.h"

namespace coffer::hsm {

Result<void> ConnectPause::may_try() const {
  const std::scoped_lock lock(mutex_);
  if (last_error_ && clock_.steady() - last_attempt_ < pause_) return tl::unexpected(*last_error_);
  return {};
}

void ConnectPause::tried(SteadyTime begun, const Result<void>& outcome) {
  const std::scoped_lock lock(mutex_);
  last_attempt_ = begun;
  last_error_.reset();
  if (!outcome) last_error_ = outcome.error();
}

void ConnectPause::count_failure() {
  const std::scoped_lock lock(mutex_);
  ++failures_;
}

std::uint64_t ConnectPause::failures() const {
  const std::scoped_lock lock(mutex_);
  return failures_;
}

}  // namespace coffer::hsm

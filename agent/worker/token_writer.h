// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/worker/device_table.h"
#include "agent/worker/header_writer.h"
#include "agent/worker/one_shot.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/luks2/checked_header.h"

namespace coffer::agent {

// TokenWriter exchanges the coffer token in the header of a volume that may be in use.
// libcryptsetup makes the new header in memory, of the very bytes that the reader checked, in a
// process of its own; our own parser then says what changed. Only then is the device opened for
// writing, and only over the header that was checked. Thread-safe; blocks.
class TokenWriter {
 public:
  explicit TokenWriter(std::string program) : runner_(std::move(program)) {}

  // As Worker::replace_token(). `after_step` is for tests, which stop between the copies.
  Result<void> replace(const HeldDevice& device, const std::string& token_json, Deadline deadline,
                       const AfterStep& after_step = {});

 private:
  OneShotRunner runner_;
};

// Whether `next` may stand in the place of `now`: its wraps and records may be others, but not
// their number of ways to open the volume, nor anything else. kTokenInvalid.
Result<void> require_replaceable(const luks2::Token& now, const luks2::Token& next);

// Whether `after` is `before` with that token, one change later, and both copies good.
//   kHeaderUnusual
Result<void> require_only_token_changed(const luks2::CheckedHeader& before,
                                        const luks2::CheckedHeader& after,
                                        const luks2::Token& token);

}  // namespace coffer::agent

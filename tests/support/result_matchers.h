// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>

#include <ostream>

#include "core/base/result.h"

namespace coffer {

// NOLINTBEGIN(readability-identifier-naming): names as GoogleTest wants them.

// Lets GoogleTest print what went wrong.
inline void PrintTo(const Error& error, std::ostream* out) {
  *out << error.str();
}
inline void PrintTo(Reason reason, std::ostream* out) {
  *out << reason_info(reason).name;
}

namespace tests {

MATCHER(Succeeds, "succeeds") {
  if (arg.has_value()) return true;
  *result_listener << arg.error().str();
  return false;
}

MATCHER_P(FailsWith, reason, std::string("fails with ") + std::string(reason_info(reason).name)) {
  if (arg.has_value()) {
    *result_listener << "succeeded";
    return false;
  }
  *result_listener << arg.error().str();
  return arg.error().reason() == reason;
}

// NOLINTEND(readability-identifier-naming)

}  // namespace tests
}  // namespace coffer

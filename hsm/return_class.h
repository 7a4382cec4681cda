// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/base/result.h"

namespace coffer::hsm {

// What a return value of a token's module tells about the token, whichever interface it has. The
// tables are pkcs11_errors.cc and sdf_errors.cc; everything that decides by a return value asks
// them.
enum class ReturnClass : std::uint8_t {
  kOk,
  kSessionLost,  // Sessions or handles are gone, the token is there.
  kTokenLost,    // The token or its module is gone.
  kPin,          // The PIN was refused.
  kUnclear,      // Bad data, or a token that is broken: the value does not tell.
  kResource,     // The token is out of memory or sessions.
  kOther,        // Our mistake, or something the token cannot do.
};

// What to do about it.
enum class Reaction : std::uint8_t {
  kNone,
  kReopenAndRepeat,  // Open sessions and log in anew, find the keys again, repeat once.
  kReload,           // Count the token as absent; load and log in anew at the next request.
  kStopLogin,        // Never try this PIN again.
  kProbeAndRepeat,   // Probe the token; repeat once if it is well: the same again means bad data.
  kBackOff,          // Fail now; the caller may repeat later.
  kFail,
};

struct ReturnInfo {
  unsigned long value;
  std::string_view name;  // "CKR_DEVICE_REMOVED", "SDR_COMMFAIL"
  ReturnClass kind;
  Reaction reaction;
  Reason reason;  // What a caller is told when the reaction did not help.
};

// The rows of those tables: what is done about a value of each class, and what a caller is told.
namespace rows {

constexpr ReturnInfo session_lost(unsigned long value, std::string_view name) {
  return {value, name, ReturnClass::kSessionLost, Reaction::kReopenAndRepeat, Reason::kHsmFailed};
}
constexpr ReturnInfo token_lost(unsigned long value, std::string_view name) {
  return {value, name, ReturnClass::kTokenLost, Reaction::kReload, Reason::kHsmAbsent};
}
constexpr ReturnInfo pin(unsigned long value, std::string_view name, Reason reason) {
  return {value, name, ReturnClass::kPin, Reaction::kStopLogin, reason};
}
constexpr ReturnInfo unclear(unsigned long value, std::string_view name) {
  return {value, name, ReturnClass::kUnclear, Reaction::kProbeAndRepeat, Reason::kHsmFailed};
}
constexpr ReturnInfo resource(unsigned long value, std::string_view name) {
  return {value, name, ReturnClass::kResource, Reaction::kBackOff, Reason::kHsmBusy};
}
constexpr ReturnInfo other(unsigned long value, std::string_view name, Reason reason) {
  return {value, name, ReturnClass::kOther, Reaction::kFail, reason};
}

}  // namespace rows

// The row of a value; one that no table knows is kOther.
constexpr ReturnInfo find_return(std::span<const ReturnInfo> table, unsigned long value) {
  const auto found = std::ranges::find(table, value, &ReturnInfo::value);
  return found != table.end() ? *found : rows::other(value, "unknown", Reason::kHsmFailed);
}

// The error of a step that returned the value.
inline tl::unexpected<Error> fail_with_return(const ReturnInfo& info, std::string_view step) {
  return fail(info.reason, fmt::format("{}: {} (0x{:X})", step, info.name, info.value));
}

}  // namespace coffer::hsm

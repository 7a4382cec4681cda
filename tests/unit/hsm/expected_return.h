// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <set>
#include <span>
#include <string_view>

#include "hsm/return_class.h"

// The classes of return values as the design states them, written out again: one row per value.
namespace coffer::hsm {

struct Expected {
  unsigned long value;
  ReturnClass kind;
  Reaction reaction;
  Reason reason;
};

constexpr Expected session(unsigned long value) {
  return {value, ReturnClass::kSessionLost, Reaction::kReopenAndRepeat, Reason::kHsmFailed};
}
constexpr Expected token(unsigned long value) {
  return {value, ReturnClass::kTokenLost, Reaction::kReload, Reason::kHsmAbsent};
}
constexpr Expected pin(unsigned long value, Reason reason) {
  return {value, ReturnClass::kPin, Reaction::kStopLogin, reason};
}
constexpr Expected unclear(unsigned long value) {
  return {value, ReturnClass::kUnclear, Reaction::kProbeAndRepeat, Reason::kHsmFailed};
}
constexpr Expected resource(unsigned long value) {
  return {value, ReturnClass::kResource, Reaction::kBackOff, Reason::kHsmBusy};
}
constexpr Expected other(unsigned long value, Reason reason) {
  return {value, ReturnClass::kOther, Reaction::kFail, reason};
}

// What the table says of the value, and the error that "a step" makes of it.
inline void expect_return(const Expected& expected, const ReturnInfo& info, const Error& error) {
  EXPECT_EQ(info.kind, expected.kind) << info.name;
  EXPECT_EQ(info.reaction, expected.reaction) << info.name;
  EXPECT_EQ(error.reason(), expected.reason) << info.name;
  EXPECT_NE(error.message().find("a step"), std::string::npos);
}

// No value stands in the table twice, and all names begin so.
inline std::set<unsigned long> expect_each_once(std::span<const ReturnInfo> table,
                                                std::string_view prefix) {
  std::set<unsigned long> seen;
  for (const auto& info : table) {
    EXPECT_TRUE(seen.insert(info.value).second) << info.name;
    EXPECT_TRUE(info.name.starts_with(prefix)) << info.name;
  }
  return seen;
}

}  // namespace coffer::hsm

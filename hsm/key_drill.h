// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "hsm/host_setup.h"
#include "hsm/named_keys.h"

namespace coffer::hsm {

// What a drill found.
struct DrillReport {
  std::uint64_t opened = 0;  // Enabled keys that were used.
  // Keys in a state in which none is used, and those without material: their seals hold.
  std::uint64_t sealed = 0;
  // Of `sealed`, those made in a token that they never left: whether this is that one only a use
  // would tell.
  std::uint64_t resident = 0;
  NamedKeys lost{};  // Keys that do not open.

  std::string str() const;  // For an operator, without the names.
  Bytes encode() const;
  static Result<DrillReport> decode(ByteView bytes);
};

// Tries whether the vault's token opens every key of the store. Every record is presented, so its
// seal is checked, and each enabled key is used: it wraps and unwraps a random key, signs, or
// decrypts what was encrypted to its public half, and the outcome is checked here. Every use is
// counted and recorded as any other.
//   kHsmAbsent, …   the vault's own state, when it is not up: nothing is known of the keys then.
Result<DrillReport> drill_keys(const HostSetup::Agent& agent);

}  // namespace coffer::hsm

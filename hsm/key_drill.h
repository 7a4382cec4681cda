// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"
#include "hsm/host_setup.h"

namespace coffer::hsm {

// What a drill found.
struct DrillReport {
  std::uint64_t opened = 0;  // Enabled keys that were used.
  // Keys in a state in which none is used, and those without material: their seals hold.
  std::uint64_t sealed = 0;

  std::string str() const;  // For an operator.
};

// Proves that the vault's token opens every key of the store. Every record is presented, so its
// seal is checked, and each enabled key is used: it wraps and unwraps a random key, signs, or
// decrypts what was encrypted to its public half, and the outcome is checked here. Every use is
// counted and recorded as any other.
//   kRecordInvalid  one or more do not open; names them, the first with its reason.
//   kHsmAbsent, …   the vault's own state, when it is not up.
Result<DrillReport> drill_keys(const HostSetup::Agent& agent);

}  // namespace coffer::hsm

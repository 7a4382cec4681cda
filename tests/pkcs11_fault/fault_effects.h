// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "tests/pkcs11_fault/fault_script.h"

namespace coffer::tests {

// What the faults of one call do, whichever interface the token has. Both take them in the script's
// order, and may not come back.

// Before the call. The value to return at once instead of making it, if there is one.
// `drop_sessions` closes all sessions of the token.
std::optional<unsigned long> suffer_before(std::span<const Fault> faults,
                                           const std::function<void()>& drop_sessions);

// After it. `given`: what it gave, to be spoiled; empty when it failed.
void suffer_after(std::span<const Fault> faults, std::span<std::byte> given);

}  // namespace coffer::tests

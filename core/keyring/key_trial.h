// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "core/audit/record.h"
#include "core/base/clock.h"
#include "core/keyring/keyring.h"

namespace coffer::keyring {

// Wraps a key of no volume under `cmk`, unwraps it again and compares: the token has to use its
// root key, which asking for its health does not show. Recorded as any use of a key. Returns how
// long that took. Blocks on hardware and disk.
//   kHsmFailed  what came back is not the key that was wrapped.
//   All errors of Keyring::wrap() and unwrap(), and kNoMemory.
Result<std::chrono::microseconds> try_key(Keyring& keyring, const CmkId& cmk,
                                          const std::string& host_id, const audit::Actor& actor,
                                          const Clock& clock);

}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "bench/report.h"

namespace coffer::bench {

// Wraps and unwraps through a vault process on a SoftHSM token, beside a bare loop of C_Encrypt and
// C_Decrypt on the same token by turns, five rounds: keys per second of requests of 256 keys, and
// the time of one unwrap by 1, 4 and 16 callers at once (p50 and p99).
//
// Throws std::runtime_error when SoftHSM is not installed or anything fails.
std::vector<Figure> measure_tokens();

// Keys wrapped per second of the thread's CPU time by a vault in this process, under a key that it
// keeps itself (`rooted`), five rounds.
std::vector<Figure> measure_rooted();

}  // namespace coffer::bench

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "bench/report.h"

namespace coffer::bench {

// SM4-GCM, SM4-CTR and SM3 of core/crypto on one core, at 4 KiB and 1 MiB a call, beside OpenSSL's
// SM4-CTR and SM3, measured by turns in the same run: five rounds, the median and the ends of each
// in MiB per second of the thread's CPU time, and of the rounds' ratios to OpenSSL's. Each call of
// ours takes the key anew, as its users do; OpenSSL's is given it once, in a context that stays.
//
// Throws std::runtime_error when a cipher fails.
std::vector<Figure> measure_ciphers();

}  // namespace coffer::bench

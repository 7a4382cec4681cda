// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "cli/selftest/report.h"

namespace coffer::cli {

// The part of run_known_answers() (suites.h) that makes and reads signatures and decrypts with keys
// of two halves.
FileReport key_pair_answers();

}  // namespace coffer::cli

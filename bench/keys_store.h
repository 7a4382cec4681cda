// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "bench/report.h"

namespace coffer::bench {

inline constexpr std::size_t kStoreKeys = 1'000'000;
inline constexpr std::size_t kStoreKeysFew = 1000;

// Creates, looks up (by id, by alias) and unwraps with kStoreKeysFew and with `many` CMKs in a
// store on disk, under TMPDIR, by turns, five rounds: microseconds each, and how many times longer
// with many. Keys are made by a vault in this process. What is looked up is any key of the store;
// what is unwrapped is of a thousand keys spread over it, as many as are in use in both stores.
//
// `many` is more than kStoreKeysFew. Throws std::runtime_error when anything fails.
std::vector<Figure> measure_store(std::size_t many);

}  // namespace coffer::bench

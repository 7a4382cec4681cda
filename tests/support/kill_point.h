// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace coffer::tests {

// How a program ran that was watched by run_to_kill_point().
struct WatchedRun {
  std::size_t points = 0;  // Calls of the kernel, by all of its threads, that change a file or make
                           // it durable: those it made.
  bool killed = false;     // As it was about to make the next one.
  int status = -1;         // Its exit status, when it ended by itself; -1: a signal ended it.
};

// What is watched, and killed.
enum class Watched : std::uint8_t {
  kProgram,
  kChildren,  // And all processes that it starts: as when the power is cut.
};

// Runs a program, the first of `words`, with `environment` added to this one's, and kills it with
// all its threads as it is about to make call number `kill_at` (from 0) that changes a file. What
// it had written until then is what a start after it finds. What goes to standard output and
// standard error is no point, and goes nowhere. Returns when all that is watched has ended.
//   kIoError  it cannot be started or watched here: ptrace is not allowed.
// Made with ptrace(2): no other child of this process may change its state meanwhile.
Result<WatchedRun> run_to_kill_point(std::vector<std::string> words,
                                     std::vector<std::string> environment,
                                     std::optional<std::size_t> kill_at,
                                     Watched watched = Watched::kProgram);

}  // namespace coffer::tests

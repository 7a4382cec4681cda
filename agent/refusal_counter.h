// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/engine_types.h"

namespace coffer::agent {

// RefusalCounter decides which refusals the audit trail holds one by one: of each user the first
// ones of a period, so that nobody fills the disk by being refused, and nobody's flood hides the
// refusals of another. What is over that is counted, and told when the period ends.
//
// Bound to the event loop.
class RefusalCounter {
 public:
  static constexpr std::uint32_t kInFullMax = 20;  // Of one user in a period.
  static constexpr std::size_t kUsersMax = 256;    // Told apart; those beyond share one count.

  struct Refusal {
    std::string operation;
    Error error;
    Caller caller;
  };
  // What one user, or all users beyond kUsersMax, were refused beyond the first ones.
  struct Flood {
    std::uint64_t count = 0;
    Refusal last;
    bool many_users = false;  // `last.caller` is one of several.
  };

  // Whether the refusal is to be recorded in full; else it is counted.
  bool take(const Refusal& refusal);

  // Ends the period: the floods of it, and everybody begins anew.
  std::vector<Flood> end_period();

 private:
  struct Count {
    std::uint32_t in_full = 0;
    std::optional<Flood> flood;
  };
  std::map<std::uint32_t, Count> users_;  // By uid.
  Count others_{};
};

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

#include <array>

namespace coffer::cli {

std::span<const DeclareCommand> all_commands() {
  static constexpr std::array<DeclareCommand, 3> kCommands = {
      declare_header,
      declare_init,
      declare_selftest,
  };
  return kCommands;
}

}  // namespace coffer::cli

// SPDX-License-Identifier: Apache-2.0
#include "cli/commands.h"

#include <array>

namespace coffer::cli {

std::span<const DeclareCommand> all_commands() {
  static constexpr auto kCommands = std::to_array<DeclareCommand>({
      declare_volume_commands,
      declare_key,
      declare_audit,
      declare_job,
      declare_provider,
      declare_backup,
      declare_header,
      declare_init,
      declare_selftest,
  });
  return kCommands;
}

}  // namespace coffer::cli

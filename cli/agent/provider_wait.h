// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer::cli {

// Waits until cofferd, on the bus at `address` ("": the system's), finds the provider `name` up
// ("": the only one, or the first); what it says of it in words. At the deadline:
//   the provider's own last error, with its words; kHsmAbsent where it gave none yet
//   kInvalidArgs       no provider has that name; told at once
//   kAgentUnreachable  cofferd was not on the bus
//   others             as AgentBus::objects()
Result<std::string> wait_provider_up(const std::string& address, const std::string& name,
                                     Deadline deadline);

}  // namespace coffer::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <vector>

#include "core/audit/audit_log.h"

namespace coffer::agent {

// The intents on volumes up to record `last` to which no result was written: the agent ended in
// between. Only the last kIntentsLookedAt records are read; older ones were looked at by the starts
// before.   kAuditBroken, kAuditUnavailable
Result<std::vector<audit::Record>> open_intents(audit::AuditLog& log, std::uint64_t last);
inline constexpr std::uint64_t kIntentsLookedAt = 20'000;

// Writes the result of each: done where `is_done` says that what was intended is so, else
// AgentUnreachable. They may wait for the next commit.
void close_intents(audit::AuditLog& log, const std::vector<audit::Record>& intents,
                   const std::function<bool(const audit::Event&)>& is_done);

}  // namespace coffer::agent

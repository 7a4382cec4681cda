// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/audit/audit_log.h"
#include "core/audit/journal_files.h"
#include "core/base/result.h"

namespace coffer::audit {

// Verifies the records `from` to `to` (0: first, last) of a journal at rest: every segment header,
// checksum, link and sequence number, what lies behind the last record, and that segments follow
// each other. The first thing that does not hold is in the report.
//
// What it cannot see without a signed checkpoint: that whole blocks are missing at the end.
//
//   kNoSuchFile  the folder is not there.
//   kInvalidArgs `from` is behind `to`, or the range is not in the journal.
//   kIoError     it cannot be read.
Result<VerifyReport> verify_folder(const std::string& folder, std::uint64_t from = 0,
                                   std::uint64_t to = 0);
Result<VerifyReport> verify_files(const JournalFiles& files, std::uint64_t from = 0,
                                  std::uint64_t to = 0);

}  // namespace coffer::audit

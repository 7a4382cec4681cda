// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/audit/audit_log.h"
#include "core/audit/journal_files.h"
#include "core/base/result.h"

namespace coffer::audit {

// Verifies the records `from` to `to` of a journal: every segment header, checksum, link and
// sequence number, and that segments follow each other. 0 as `from`: from the first record, which
// must be there. 0 as `to`: to the last one, and nothing may stand behind it. The first thing that
// does not hold is in the report.
//
// What it cannot see without a signed checkpoint: that whole blocks are missing at the end.
//
//   kNoSuchFile   the folder is not there.
//   kInvalidArgs  `from` is behind `to`.
//   kIoError      it cannot be read.
Result<VerifyReport> verify_folder(const std::string& folder, std::uint64_t from = 0,
                                   std::uint64_t to = 0);
Result<VerifyReport> verify_files(const JournalFiles& files, std::uint64_t from = 0,
                                  std::uint64_t to = 0);

}  // namespace coffer::audit

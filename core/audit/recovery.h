// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/audit/audit_log.h"
#include "core/audit/journal_files.h"
#include "core/audit/segment.h"

namespace coffer::audit {

// What a journal's folder holds when it is opened, and what is to be tidied once the next segment
// has been begun: until then the folder is not changed, so that a crash in between finds it the
// same.
struct Recovered {
  Head head;
  bool stopped = true;  // The last record is a stop, or there is none.
  Before before = Before::kWhole;
  std::uint64_t void_bytes = 0;
  std::vector<SegmentName> segments;  // Those that hold records.
  std::vector<std::string> to_remove;
  struct Cut {
    std::string name;
    std::uint64_t size_bytes = 0;
  };
  std::optional<Cut> to_cut;
  unsigned attempt = 0;  // Of the segment that begins with the next record.
};

// Reads the end of the journal.
//   kAuditBroken  another node's journal, or a damage that a crash cannot make.
//   kIoError
Result<Recovered> recover(const JournalFiles& files, const HostId& node);

// Removes and cuts what `recovered` names. What fails is left for the next time: readers ignore it.
void tidy(JournalFiles& files, const Recovered& recovered);

}  // namespace coffer::audit

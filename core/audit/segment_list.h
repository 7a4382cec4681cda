// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/audit/journal_files.h"
#include "core/audit/segment.h"

namespace coffer::audit {

// The segments of a journal's folder, in order, with what a failed beginning left apart: of several
// segments that begin with one record the last attempt counts, the others were never acknowledged.
struct SegmentList {
  std::vector<SegmentName> segments;
  std::vector<SegmentName> superseded;
};

//   kAuditBroken  a file with the suffix of a segment has a name no segment has.
//   kIoError
Result<SegmentList> list_segments(const JournalFiles& files);

// Reads a segment whole.   kIoError, kNoSuchFile, kLimitsExceeded.
Result<Bytes> read_segment(const JournalFiles& files, const SegmentName& name);

}  // namespace coffer::audit

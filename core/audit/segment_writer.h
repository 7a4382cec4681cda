// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "core/audit/audit_log.h"
#include "core/audit/journal_files.h"
#include "core/audit/recovery.h"
#include "core/audit/segment.h"
#include "core/base/clock.h"

namespace coffer::audit {

// SegmentWriter puts blocks into segments, one after another, and begins a new one when the last is
// full or failed. One thread at a time.
class SegmentWriter {
 public:
  struct Options {
    HostId node;
    std::uint64_t segment_bytes = 0;
    const Clock* clock = nullptr;
  };

  SegmentWriter(JournalFiles& files, const Options& options, const Recovered& recovered);

  // Makes `block`, whose first record follows `head`, durable. A failed write or sync ends the
  // segment for good; one new segment is tried.
  //   kAuditUnavailable  that failed too. The block may be found in the journal nevertheless.
  Result<void> commit(ByteView block, const Head& head);

  // Whether the last commit began a segment, and which.
  const SegmentName& segment() const noexcept { return name_; }

  // Gives back the unused part of the segment. It is not written again.
  void close();

 private:
  Result<void> begin_segment(ByteView block, const Head& head);
  void abandon();

  JournalFiles& files_;
  const Options options_;
  std::unique_ptr<SegmentFile> file_;  // Null: the next commit begins a segment.
  SegmentName name_;
  std::uint64_t size_bytes_ = 0;
  std::uint64_t offset_bytes_ = 0;
  Before before_;               // For the header of the next segment.
  std::uint64_t void_bytes_;    // Likewise.
  std::uint64_t attempts_for_;  // The record that attempts_ counts for.
  unsigned attempts_;
};

}  // namespace coffer::audit

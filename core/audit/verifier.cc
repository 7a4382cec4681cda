// SPDX-License-Identifier: Apache-2.0
#include "core/audit/verifier.h"

#include <algorithm>
#include <optional>

#include "core/audit/segment_list.h"
#include "core/base/encoding.h"

namespace coffer::audit {
namespace {

// Walk goes through the segments in order and remembers where the chain stands. Its steps give
// false once the report names a problem.
class Walk {
 public:
  Walk(std::uint64_t from, std::uint64_t to) : from_(from), to_(to) {}

  bool segment(ByteView file, const SegmentName& name, bool tried_before,
               std::optional<std::uint64_t> next_segment_first);
  // After the last segment.
  bool end();
  bool problem(std::uint64_t sequence, std::string text) {
    report_.intact = false;
    report_.bad_sequence = sequence;
    report_.problem = std::move(text);
    return false;
  }
  bool done() const { return to_ != 0 && next_ > to_; }
  VerifyReport take() { return std::move(report_); }

 private:
  bool header(ByteView file, const SegmentName& name, bool tried_before);
  bool record(ByteView encoded, const std::string& where);

  const std::uint64_t from_;
  const std::uint64_t to_;
  bool begun_ = false;
  std::optional<HostId> node_;
  std::uint64_t next_ = 1;           // The sequence number that must come.
  crypto::Sha256Digest previous_{};  // The hash it must link to.
  std::string void_tail_;            // What stands behind the records of the segment before.
  VerifyReport report_;
};

bool Walk::header(ByteView file, const SegmentName& name, bool tried_before) {
  const std::string where = to_string(name);
  const auto header = decode_header(file);
  if (!header) return problem(name.first_sequence, where + ": " + header.error().message());
  if (header->first_sequence != name.first_sequence) {
    return problem(name.first_sequence, where + ": its header names another first record");
  }
  if (node_ && header->node != *node_) return problem(next_, where + ": from another node");
  if (!begun_ && from_ > 1) {
    // What lies before was not asked for: the chain begins with what this segment says.
    next_ = header->first_sequence;
    previous_ = header->previous;
  }
  if (header->first_sequence > next_) {
    return problem(next_, "records " + std::to_string(next_) + " to " +
                              std::to_string(header->first_sequence - 1) + " are missing before " +
                              where);
  }
  if (header->first_sequence < next_) {
    return problem(header->first_sequence, where + ": begins with a record that came before");
  }
  if (header->previous != previous_) {
    return problem(next_, where + ": does not link to the record before");
  }
  if (header->before == Before::kWhole && !void_tail_.empty()) return problem(next_, void_tail_);
  if (header->before == Before::kWhole && tried_before) {
    return problem(next_, where + ": an earlier attempt stands beside it without a reason");
  }
  begun_ = true;
  node_ = header->node;
  void_tail_.clear();
  return true;
}

bool Walk::record(ByteView encoded, const std::string& where) {
  const std::string which = "record " + std::to_string(next_) + " of " + where;
  const auto record = decode(encoded);
  if (!record) return problem(next_, which + ": " + record.error().message());
  if (record->sequence != next_) {
    return problem(next_, which + ": has number " + std::to_string(record->sequence));
  }
  if (record->node != *node_) return problem(next_, which + ": from another node");
  if (record->previous != previous_) return problem(next_, which + ": the chain is broken");
  previous_ = record->hash;
  if (next_ >= from_) {
    if (report_.records == 0) report_.first_sequence = next_;
    report_.last_sequence = next_;
    ++report_.records;
  }
  report_.stopped = record->event.kind == Kind::kStop;
  report_.head = {next_, record->hash};
  ++next_;
  return true;
}

bool Walk::segment(ByteView file, const SegmentName& name, bool tried_before,
                   std::optional<std::uint64_t> next_segment_first) {
  if (!header(file, name, tried_before)) return false;
  const std::string where = to_string(name);
  BlockReader reader(file);
  while (!done()) {
    const std::size_t block_at = reader.offset_bytes();
    const auto block = reader.next();
    if (!block) break;
    if (next_segment_first && next_ >= *next_segment_first) {
      void_tail_ = where + ": records behind its end, at byte " + std::to_string(block_at);
      return true;
    }
    for (const ByteView encoded : *block) {
      if (!record(encoded, where)) return false;
      if (done()) return true;
    }
  }
  if (!done() && next_ == name.first_sequence && reader.only_zeros_left()) {
    // The header is written together with the first block.
    return problem(next_, where + ": holds no record");
  }
  if (!done() && !reader.only_zeros_left()) {
    void_tail_ = "record " + std::to_string(next_) + " of " + where +
                 ": damaged or torn block at byte " + std::to_string(reader.offset_bytes());
  }
  return true;
}

bool Walk::end() {
  if (!done() && !void_tail_.empty()) return problem(next_, void_tail_);
  if (to_ != 0 && !done()) {
    return problem(next_, "records " + std::to_string(next_) + " to " + std::to_string(to_) +
                              " are missing at the end");
  }
  report_.intact = true;
  return true;
}

bool walk_all(Walk& walk, const JournalFiles& files, const SegmentList& list, std::uint64_t from,
              std::optional<Error>& unreadable) {
  const auto& segments = list.segments;
  // The segment that holds `from` is the last one that does not begin behind it.
  auto at = std::upper_bound(
      segments.begin(), segments.end(), from,
      [](std::uint64_t wanted, const SegmentName& name) { return wanted < name.first_sequence; });
  if (at != segments.begin()) --at;
  if (from <= 1) at = segments.begin();
  for (; at != segments.end() && !walk.done(); ++at) {
    const auto file = read_segment(files, *at);
    if (!file && file.error().reason() == Reason::kLimitsExceeded) {
      return walk.problem(at->first_sequence, file.error().message());
    }
    if (!file) {
      unreadable = file.error();
      return false;
    }
    const bool tried_before = std::any_of(
        list.superseded.begin(), list.superseded.end(),
        [&](const SegmentName& name) { return name.first_sequence == at->first_sequence; });
    std::optional<std::uint64_t> next_first;
    if (at + 1 != segments.end()) next_first = (at + 1)->first_sequence;
    if (!walk.segment(*file, *at, tried_before, next_first)) return false;
  }
  return walk.end();
}

}  // namespace

Result<VerifyReport> verify_files(const JournalFiles& files, std::uint64_t from, std::uint64_t to) {
  if (to != 0 && from > to)
    return fail(Reason::kInvalidArgs, "verify a range that ends before it begins");
  Walk walk(from, to);
  const auto list = list_segments(files);
  if (!list && list.error().reason() != Reason::kAuditBroken) return tl::unexpected(list.error());
  if (!list) {
    walk.problem(0, list.error().message());
    return walk.take();
  }
  std::optional<Error> unreadable;
  walk_all(walk, files, *list, from, unreadable);
  if (unreadable) return pass(*unreadable, "verify the journal");
  return walk.take();
}

Result<VerifyReport> verify_folder(const std::string& folder, std::uint64_t from,
                                   std::uint64_t to) {
  const auto files = read_journal_folder(folder);
  if (!files) return tl::unexpected(files.error());
  return verify_files(**files, from, to);
}

}  // namespace coffer::audit

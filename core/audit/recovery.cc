// SPDX-License-Identifier: Apache-2.0
#include "core/audit/recovery.h"

#include <algorithm>

#include "core/audit/segment_list.h"

namespace coffer::audit {
namespace {

// The records of one segment, read up to its end or to the first record of the next one.
struct Content {
  SegmentHeader header;
  Head last;  // Of its last record, or of the one before the segment.
  bool stopped = false;
  std::uint64_t whole_bytes = 0;  // Header and the blocks that count.
  std::uint64_t void_bytes = 0;   // Behind them, without the zeros at the end.
};

tl::unexpected<Error> broken(const SegmentName& name, const std::string& what) {
  return fail(Reason::kAuditBroken, to_string(name) + ": " + what);
}

// Whether records of any block of the file could have been acknowledged although its header is bad.
bool holds_blocks(ByteView file, const HostId& node) {
  return BlockReader(file).whole_block_behind(node) || BlockReader(file).next().has_value();
}

Result<void> follow(Content& content, ByteView encoded, const SegmentName& name) {
  const auto record = decode(encoded);
  if (!record) return broken(name, record.error().message());
  const bool follows = record->sequence == content.last.sequence + 1 &&
                       record->previous == content.last.hash && record->node == content.header.node;
  if (!follows)
    return broken(name, "record " + std::to_string(record->sequence) + " does not follow");
  content.last = {record->sequence, record->hash};
  content.stopped = record->event.kind == Kind::kStop;
  return {};
}

Result<Content> read_content(ByteView file, const SegmentName& name, const HostId& node,
                             std::uint64_t next_first) {
  const auto header = decode_header(file);
  if (!header) return broken(name, header.error().message());
  if (header->node != node) return broken(name, "the journal of another node");
  if (header->first_sequence != name.first_sequence) return broken(name, "not its own name");
  Content content{*header, {header->first_sequence - 1, header->previous}, false, 0, 0};
  BlockReader reader(file);
  content.whole_bytes = reader.offset_bytes();
  while (content.last.sequence + 1 < next_first) {
    const auto block = reader.next();
    if (!block) break;
    for (const ByteView encoded : *block) {
      if (auto followed = follow(content, encoded, name); !followed) {
        return tl::unexpected(followed.error());
      }
    }
    content.whole_bytes = reader.offset_bytes();
  }
  content.void_bytes = reader.used_bytes_left();
  const bool last_segment = next_first == UINT64_MAX;
  if (last_segment && content.void_bytes > 0 && reader.whole_block_behind(node)) {
    return broken(name, "damaged at byte " + std::to_string(content.whole_bytes) +
                            ", with whole records behind");
  }
  return content;
}

bool has_records(const Content& content) {
  return content.last.sequence + 1 > content.header.first_sequence;
}

// When a segment was begun because the one before ended badly, that one's tail may still be there.
Result<void> find_old_tail(const JournalFiles& files, Recovered& found, const HostId& node) {
  const SegmentName& name = found.segments[found.segments.size() - 2];
  const auto file = read_segment(files, name);
  if (!file) return tl::unexpected(file.error());
  const auto content = read_content(*file, name, node, found.segments.back().first_sequence);
  if (!content) return tl::unexpected(content.error());
  if (content->void_bytes > 0) found.to_cut = {to_string(name), content->whole_bytes};
  return {};
}

}  // namespace

Result<Recovered> recover(const JournalFiles& files, const HostId& node) {
  const auto list = list_segments(files);
  if (!list) return tl::unexpected(list.error());
  Recovered found;
  found.segments = list->segments;
  for (const auto& name : list->superseded) found.to_remove.push_back(to_string(name));

  // From the end to the first segment that holds a record.
  while (!found.segments.empty()) {
    const SegmentName name = found.segments.back();
    const auto file = read_segment(files, name);
    if (!file) return pass(file.error(), "recover the journal");
    const bool begun = decode_header(*file).has_value();
    if (!begun && holds_blocks(*file, node)) return broken(name, "the segment's header is damaged");
    if (begun) {
      const auto content = read_content(*file, name, node, UINT64_MAX);
      if (!content) return tl::unexpected(content.error());
      if (has_records(*content)) {
        found.head = content->last;
        found.stopped = content->stopped;
        if (content->void_bytes > 0) {
          found.before = Before::kCut;
          found.void_bytes += content->void_bytes;
          found.to_cut = {to_string(name), content->whole_bytes};
        } else if (content->header.before != Before::kWhole && found.segments.size() > 1) {
          if (auto done = find_old_tail(files, found, node); !done) {
            return tl::unexpected(done.error());
          }
        }
        break;
      }
    }
    // Its first block was torn, so none of it was acknowledged.
    found.before = Before::kCut;
    found.void_bytes += static_cast<std::uint64_t>(
        file->rend() -
        std::find_if(file->rbegin(), file->rend(), [](std::byte b) { return b != std::byte{0}; }));
    found.to_remove.push_back(to_string(name));
    found.attempt = name.attempt + 1;
    found.segments.pop_back();
  }
  return found;
}

void tidy(JournalFiles& files, const Recovered& recovered) {
  if (recovered.to_cut) {
    static_cast<void>(files.truncate(recovered.to_cut->name, recovered.to_cut->size_bytes));
  }
  for (const auto& name : recovered.to_remove) static_cast<void>(files.remove(name));
}

}  // namespace coffer::audit

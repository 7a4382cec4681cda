// SPDX-License-Identifier: Apache-2.0
#include "core/audit/segment_list.h"

#include <algorithm>

namespace coffer::audit {

Result<SegmentList> list_segments(const JournalFiles& files) {
  const auto names = files.list();
  if (!names) return tl::unexpected(names.error());
  std::vector<SegmentName> all;
  for (const std::string& file : *names) {
    if (!file.ends_with(kSegmentSuffix)) continue;
    const auto name = parse_segment_name(file);
    if (!name) {
      return fail(Reason::kAuditBroken,
                  printable(file, kNameBytesMax) + " is no name of a segment");
    }
    all.push_back(*name);
  }
  std::sort(all.begin(), all.end());
  SegmentList list;
  for (std::size_t i = 0; i < all.size(); ++i) {
    const bool again = i + 1 < all.size() && all[i + 1].first_sequence == all[i].first_sequence;
    (again ? list.superseded : list.segments).push_back(all[i]);
  }
  return list;
}

Result<Bytes> read_segment(const JournalFiles& files, const SegmentName& name) {
  return files.read(to_string(name), kSegmentBytesMax + kBlockBytesMax);
}

}  // namespace coffer::audit

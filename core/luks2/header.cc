// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/header.h"

#include <algorithm>

namespace coffer::luks2 {

std::string_view copies_name(Copies copies) noexcept {
  switch (copies) {
    case Copies::kBoth:
      return "both";
    case Copies::kPrimaryBad:
      return "primary-bad";
    case Copies::kSecondaryBad:
      return "secondary-bad";
  }
  return "unknown";
}

const Segment* Header::data_segment() const {
  return segments.size() == 1 ? &segments.front() : nullptr;
}

const Digest* Header::digest_of(std::uint32_t segment_id) const {
  const auto has_segment = [&](const Digest& digest) {
    return std::ranges::find(digest.segments, segment_id) != digest.segments.end();
  };
  const auto found = std::ranges::find_if(digests, has_segment);
  return found == digests.end() ? nullptr : &*found;
}

}  // namespace coffer::luks2

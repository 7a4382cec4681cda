// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/header_layout.h"

#include <algorithm>
#include <limits>

namespace coffer::luks2 {
namespace {

constexpr std::uint64_t kEndless = std::numeric_limits<std::uint64_t>::max();

struct Interval {
  std::uint64_t first = 0;
  std::uint64_t end = 0;  // One behind the last; kEndless: up to the end of the device.

  bool overlaps(const Interval& other) const { return first < other.end && other.first < end; }
};

std::optional<Refusal> refuse(std::string field, std::string message) {
  return Refusal{Reason::kHeaderInvalid, std::move(field), std::move(message)};
}

std::string path(std::string_view section, std::uint32_t id, std::string_view member) {
  return std::string(section) + "." + std::to_string(id) + "." + std::string(member);
}

// None: offset and size overflow.
std::optional<Interval> interval(std::uint64_t offset, std::uint64_t size) {
  if (size > kEndless - 1 - offset || offset == kEndless) return std::nullopt;
  return Interval{offset, offset + size};
}

// Regular segments are numbered from 0 without a gap, backups follow; regular ones do not overlap,
// and only the last may go to the end of the device.
std::optional<Refusal> check_segments(const Header& header) {
  if (header.segments.empty()) return refuse("segments", "there is none");
  std::vector<Interval> seen;
  bool backups = false;
  bool endless = false;
  for (std::uint32_t i = 0; i < header.segments.size(); ++i) {
    const Segment& segment = header.segments[i];
    if (segment.id != i) return refuse("segments." + std::to_string(i), "missing");
    if (segment.type == "crypt" && header.digest_of(segment.id) == nullptr) {
      return refuse(path("segments", segment.id, "type"), "a crypt segment without a digest");
    }
    if (segment.backup()) {
      backups = true;
      continue;
    }
    if (backups)
      return refuse(path("segments", segment.id, "flags"), "a data segment behind a backup one");
    if (endless) return refuse(path("segments", segment.id, "offset"), "behind one without end");
    endless = !segment.size_bytes.has_value();
    // A size that overflows reaches to the end: the reference takes such a header, nobody activates
    // it.
    const auto range = interval(segment.offset_bytes, segment.size_bytes.value_or(kEndless))
                           .value_or(Interval{segment.offset_bytes, kEndless});
    const bool overlap =
        std::ranges::any_of(seen, [&](const Interval& other) { return other.overlaps(range); });
    if (overlap) return refuse(path("segments", segment.id, "offset"), "overlaps another segment");
    seen.push_back(range);
  }
  if (seen.empty()) return refuse("segments", "only backups");
  return std::nullopt;
}

// The keyslot area lies between the copies and the first segment; an offset of 0 is that of a
// detached header's data.
std::optional<Refusal> check_sizes(const Header& header) {
  if (std::ranges::find(kMetadataSizes, header.metadata_bytes) == kMetadataSizes.end()) {
    return refuse("config.json_size", "not one of the nine sizes");
  }
  if (header.keyslots_bytes > kKeyslotsBytesMax || header.keyslots_bytes % 4096 != 0) {
    return refuse("config.keyslots_size", "over 128 MiB or not whole 4 KiB blocks");
  }
  std::uint64_t data_offset = kEndless;
  for (const auto& segment : header.segments) {
    if (!segment.backup()) data_offset = std::min(data_offset, segment.offset_bytes);
  }
  if (data_offset != 0 && data_offset < 2 * header.metadata_bytes + header.keyslots_bytes) {
    return refuse("segments.0.offset", "inside the metadata or the keyslot area");
  }
  return std::nullopt;
}

std::optional<Refusal> check_areas(const Header& header) {
  const Interval whole{2 * header.metadata_bytes,
                       2 * header.metadata_bytes + header.keyslots_bytes};
  std::vector<Interval> seen;
  for (const auto& slot : header.keyslots) {
    const auto area = interval(slot.area.offset_bytes, slot.area.size_bytes);
    if (!area || area->first == area->end)
      return refuse(path("keyslots", slot.id, "area.size"), "empty or overflows");
    if (area->first < whole.first)
      return refuse(path("keyslots", slot.id, "area.offset"), "inside the metadata");
    if (area->end > whole.end)
      return refuse(path("keyslots", slot.id, "area.size"), "behind the keyslot area");
    const bool overlap =
        std::ranges::any_of(seen, [&](const Interval& other) { return other.overlaps(*area); });
    if (overlap)
      return refuse(path("keyslots", slot.id, "area.offset"), "overlaps another keyslot");
    seen.push_back(*area);
  }
  return std::nullopt;
}

std::optional<Refusal> check_keyslots(const Header& header) {
  std::size_t reencrypt_count = 0;
  for (const auto& slot : header.keyslots) {
    if (slot.type == "reencrypt") ++reencrypt_count;
    if (slot.type != "luks2") continue;
    const auto has_slot = [&](const Digest& digest) {
      return std::ranges::find(digest.keyslots, slot.id) != digest.keyslots.end();
    };
    if (std::ranges::count_if(header.digests, has_slot) != 1) {
      return refuse(path("keyslots", slot.id, "type"), "not assigned to exactly one digest");
    }
  }
  const bool online = std::ranges::any_of(header.requirements, [](const std::string& requirement) {
    return requirement.starts_with("online-reencrypt");
  });
  if (online && reencrypt_count == 0) {
    return refuse("config.requirements", "reencryption without a reencryption keyslot");
  }
  if (!online && reencrypt_count != 0) {
    return refuse("config.requirements", "a reencryption keyslot without the requirement");
  }
  if (reencrypt_count > 1) return refuse("keyslots", "more than one reencryption keyslot");
  return std::nullopt;
}

}  // namespace

std::optional<Refusal> check_layout(const Header& header) {
  if (auto refusal = check_segments(header)) return refusal;
  if (auto refusal = check_sizes(header)) return refusal;
  if (auto refusal = check_areas(header)) return refusal;
  return check_keyslots(header);
}

}  // namespace coffer::luks2

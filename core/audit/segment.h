// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/audit/record.h"
#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::audit {

// The bytes of one segment (docs/formats/audit.md): a header, then one block per commit, then zeros
// to the end of the file. A block is whole or was never acknowledged, because the next one is
// written only after it was synced: so a bad block with a good one behind it is damage, not a
// crash.
inline constexpr std::size_t kSegmentHeaderBytes = 120;
inline constexpr std::size_t kBlockHeaderBytes = 8;
inline constexpr std::size_t kBlockBytesMax = std::size_t{16} << 20U;
inline constexpr std::size_t kSegmentBytesMax = std::size_t{64} << 20U;

// What the journal said about the segment before, when it began this one.
enum class Before : std::uint16_t {
  kWhole = 0,    // Ends with whole blocks.
  kDamaged = 1,  // A write or sync failed: what lies behind the last acknowledged record is void.
  kCut = 2,      // A crash tore its last block: void likewise.
};

struct SegmentHeader {
  HostId node;
  std::uint64_t first_sequence = 1;
  crypto::Sha256Digest previous{};  // Hash of the record before the first.
  WallTime created;
  Before before = Before::kWhole;
  std::uint64_t void_bytes = 0;  // Behind the last record of the segment before, when not kWhole.

  friend bool operator==(const SegmentHeader&, const SegmentHeader&) = default;
};

Bytes encode(const SegmentHeader& header);
//   kAuditBroken
Result<SegmentHeader> decode_header(ByteView file);

// One block around encoded records.
Bytes encode_block(std::span<const Bytes> records);

// BlockReader goes through the blocks of a segment's file and trusts none of its bytes.
class BlockReader {
 public:
  explicit BlockReader(ByteView file) noexcept;

  // The encoded records of the next whole block. Empty at the end of the whole blocks.
  std::optional<std::vector<ByteView>> next();

  // After that: how far the blocks reach, and whether nothing but zeros follows.
  std::size_t offset_bytes() const noexcept { return offset_; }
  bool only_zeros_left() const noexcept;
  std::size_t used_bytes_left() const noexcept;  // Up to the last byte that is not zero.
  // Whether a whole block with a record of `node` stands anywhere behind: then what lies between
  // was not torn by a crash.
  bool whole_block_behind(const HostId& node) const;

 private:
  ByteView file_;
  std::size_t offset_;
};

// A segment's place in the folder: "00000000000000000042-000.audit" is the first attempt to begin a
// segment with record 42.
struct SegmentName {
  std::uint64_t first_sequence = 0;
  unsigned attempt = 0;

  friend auto operator<=>(const SegmentName&, const SegmentName&) = default;
};
inline constexpr std::string_view kSegmentSuffix = ".audit";
inline constexpr unsigned kAttemptsMax = 1000;
std::string to_string(const SegmentName& name);
std::optional<SegmentName> parse_segment_name(std::string_view file_name);

// CRC-32C (RFC 3720 appendix B.4).
std::uint32_t crc32c(ByteView bytes, std::uint32_t before = 0) noexcept;

}  // namespace coffer::audit

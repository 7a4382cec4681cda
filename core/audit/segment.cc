// SPDX-License-Identifier: Apache-2.0
#include "core/audit/segment.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <limits>

namespace coffer::audit {
namespace {

constexpr std::string_view kMagic = "COFAUDIT";
constexpr std::uint16_t kSegmentVersion = 1;
constexpr std::size_t kDigestedBytes = kSegmentHeaderBytes - crypto::kSha256Bytes;

// Eight tables, so that eight bytes take one step ("slicing by 8").
using CrcTables = std::array<std::array<std::uint32_t, 256>, 8>;
constexpr CrcTables make_crc_tables() {
  CrcTables tables{};
  for (std::uint32_t i = 0; i < 256; ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit)
      value = (value >> 1U) ^ ((value & 1U) != 0 ? 0x82F63B78U : 0U);
    tables[0][i] = value;
  }
  for (std::size_t t = 1; t < 8; ++t) {
    for (std::size_t i = 0; i < 256; ++i) {
      const std::uint32_t before = tables[t - 1][i];
      tables[t][i] = (before >> 8U) ^ tables[0][before & 0xFFU];
    }
  }
  return tables;
}
constexpr CrcTables kCrcTables = make_crc_tables();

// The header of a block: size of its payload, and the checksum over that size and the payload.
std::uint32_t block_checksum(ByteView size_field, ByteView payload) {
  return crc32c(payload, crc32c(size_field));
}

// The payload of the block at the start of `rest`, if a whole one stands there.
std::optional<ByteView> whole_block(ByteView rest) {
  ByteReader reader(rest);
  const std::size_t size = reader.u32();
  const std::uint32_t checksum = reader.u32();
  if (!reader.good() || size == 0 || size > kBlockBytesMax || size > reader.rest_bytes()) {
    return std::nullopt;
  }
  const ByteView payload = rest.subspan(kBlockHeaderBytes, size);
  if (block_checksum(rest.first(4), payload) != checksum) return std::nullopt;
  return payload;
}

std::optional<std::vector<ByteView>> split(ByteView payload) {
  std::vector<ByteView> records;
  ByteReader reader(payload);
  while (reader.good() && reader.rest_bytes() > 0) records.push_back(reader.bytes(kRecordBytesMax));
  if (!reader.good()) return std::nullopt;
  return records;
}

}  // namespace

std::uint32_t crc32c(ByteView bytes, std::uint32_t before) noexcept {
  std::uint32_t crc = ~before;
  const auto* at = reinterpret_cast<const unsigned char*>(bytes.data());
  std::size_t left = bytes.size();
  const auto& t = kCrcTables;
  for (; left >= 8; left -= 8, at += 8) {
    const std::uint32_t low = crc ^ (at[0] | (std::uint32_t{at[1]} << 8U) |
                                     (std::uint32_t{at[2]} << 16U) | (std::uint32_t{at[3]} << 24U));
    crc = t[7][low & 0xFFU] ^ t[6][(low >> 8U) & 0xFFU] ^ t[5][(low >> 16U) & 0xFFU] ^
          t[4][low >> 24U] ^ t[3][at[4]] ^ t[2][at[5]] ^ t[1][at[6]] ^ t[0][at[7]];
  }
  for (; left > 0; --left, ++at) crc = (crc >> 8U) ^ t[0][(crc ^ *at) & 0xFFU];
  return ~crc;
}

Bytes encode(const SegmentHeader& header) {
  ByteWriter out;
  out.raw(as_bytes(kMagic))
      .u16(kSegmentVersion)
      .u16(static_cast<std::uint16_t>(header.before))
      .u32(0)
      .raw(header.node.bytes())
      .u64(header.first_sequence)
      .raw(header.previous)
      .u64(usec(header.created))
      .u64(header.void_bytes);
  const crypto::Sha256Digest digest = crypto::sha256(out.view());
  return out.raw(digest).take();
}

Result<SegmentHeader> decode_header(ByteView file) {
  if (file.size() < kSegmentHeaderBytes) {
    return fail(Reason::kAuditBroken, "the segment is shorter than its header");
  }
  const ByteView bytes = file.first(kSegmentHeaderBytes);
  const crypto::Sha256Digest digest = crypto::sha256(bytes.first(kDigestedBytes));
  if (!std::equal(digest.begin(), digest.end(), bytes.begin() + kDigestedBytes)) {
    return fail(Reason::kAuditBroken, "the segment's header is damaged");
  }
  ByteReader in(bytes.first(kDigestedBytes));
  const bool ours = as_text(in.raw(kMagic.size())) == kMagic && in.u16() == kSegmentVersion;
  if (!ours) return fail(Reason::kAuditBroken, "not a segment of a known version");
  const std::uint16_t before = in.u16();
  if (before > static_cast<std::uint16_t>(Before::kCut) || in.u32() != 0) in.reject();
  const auto node = HostId::from_bytes(in.raw(16));
  if (!node) return tl::unexpected(node.error());
  SegmentHeader header{*node, in.u64(), {}, {}, static_cast<Before>(before), 0};
  const ByteView previous = in.raw(header.previous.size());
  std::copy(previous.begin(), previous.end(), header.previous.begin());
  const std::uint64_t created_usec = in.u64();
  if (created_usec > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) in.reject();
  header.created = wall_from_usec(created_usec);
  header.void_bytes = in.u64();
  if (header.first_sequence == 0) in.reject();
  if (auto done = in.finish(Reason::kAuditBroken, "segment header"); !done) {
    return tl::unexpected(done.error());
  }
  return header;
}

Bytes encode_block(std::span<const Bytes> records) {
  ByteWriter payload;
  for (const Bytes& record : records) payload.bytes(record);
  const Bytes size = ByteWriter().u32(static_cast<std::uint32_t>(payload.size())).take();
  return ByteWriter()
      .raw(size)
      .u32(block_checksum(size, payload.view()))
      .raw(payload.view())
      .take();
}

BlockReader::BlockReader(ByteView file) noexcept
    : file_(file), offset_(std::min(file.size(), kSegmentHeaderBytes)) {}

std::optional<std::vector<ByteView>> BlockReader::next() {
  const auto payload = whole_block(file_.subspan(offset_));
  if (!payload) return std::nullopt;
  auto records = split(*payload);
  if (records) offset_ += kBlockHeaderBytes + payload->size();
  return records;
}

std::size_t BlockReader::used_bytes_left() const noexcept {
  const ByteView rest = file_.subspan(offset_);
  const auto last =
      std::find_if(rest.rbegin(), rest.rend(), [](std::byte b) { return b != std::byte{0}; });
  return static_cast<std::size_t>(rest.rend() - last);
}

bool BlockReader::only_zeros_left() const noexcept {
  return used_bytes_left() == 0;
}

bool BlockReader::whole_block_behind(const HostId& node) const {
  // A block begins with its header, the first record's length and version, then the node: look for
  // the node, and compute a checksum only where the rest fits.
  constexpr std::size_t kNodeAt = kBlockHeaderBytes + 4 + 2;
  const ByteView wanted = node.bytes();
  auto from = file_.begin() + static_cast<std::ptrdiff_t>(offset_);
  for (;;) {
    const auto found = std::search(from, file_.end(), wanted.begin(), wanted.end());
    if (found == file_.end()) return false;
    const auto at = static_cast<std::size_t>(found - file_.begin());
    if (at >= offset_ + kNodeAt + 1 && whole_block(file_.subspan(at - kNodeAt))) return true;
    from = found + 1;
  }
}

std::string to_string(const SegmentName& name) {
  const auto padded = [](const std::string& digits, std::size_t width) {
    return std::string(width - std::min(width, digits.size()), '0') + digits;
  };
  return padded(std::to_string(name.first_sequence), 20) + "-" +
         padded(std::to_string(name.attempt), 3) + std::string(kSegmentSuffix);
}

std::optional<SegmentName> parse_segment_name(std::string_view file_name) {
  if (file_name.size() != 24 + kSegmentSuffix.size()) return std::nullopt;
  SegmentName name;
  const auto digits = [](std::string_view text, auto& value) {
    for (const char c : text) {
      if (c < '0' || c > '9') return false;
      value = value * 10 + static_cast<unsigned>(c - '0');
    }
    return true;
  };
  if (!digits(file_name.substr(0, 20), name.first_sequence) ||
      !digits(file_name.substr(21, 3), name.attempt)) {
    return std::nullopt;
  }
  // One spelling each: this also refuses a number that overflowed.
  if (to_string(name) != file_name || name.first_sequence == 0) return std::nullopt;
  return name;
}

}  // namespace coffer::audit

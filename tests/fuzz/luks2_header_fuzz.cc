// SPDX-License-Identifier: Apache-2.0
// The input is the JSON of a header, if it starts like one, else the start of a device. Checksums
// are put right first, or no mutation would get past them; then everything that reads a header runs
// on it.
#include <algorithm>

#include "core/crypto/digest.h"
#include "core/luks2/activation_rules.h"
#include "core/luks2/checked_header.h"
#include "core/luks2/header.h"
#include "core/luks2/profile.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

using namespace coffer;
using namespace coffer::luks2;

constexpr std::size_t kSizeAt = 8;
constexpr std::size_t kChecksumAt = 448;
constexpr std::size_t kChecksumBytes = 64;

// Magic, offset and checksum of the copy at `offset`, if its size fits.
void repair(Bytes& start, std::size_t offset) {
  if (start.size() < offset + kBinaryHeaderBytes) return;
  const auto copy = std::span(start).subspan(offset);
  std::uint64_t size = 0;
  for (const std::byte b : copy.subspan(kSizeAt, 8))
    size = size << 8U | std::to_integer<std::uint64_t>(b);
  if (size < kMetadataBytesMin || size > copy.size()) return;
  std::ranges::fill(copy.subspan(kChecksumAt, kChecksumBytes), std::byte{0});
  std::ranges::copy(crypto::sha256(copy.first(size)), copy.begin() + kChecksumAt);
}

void check_header_values(const Header& header) {
  // The same bytes give the same verdict, and a profile taken from a header fits it.
  const auto refusal = activation_refusal(header);
  if (const auto profile = profile_of(header)) {
    fuzz::require(!first_difference(*profile, header).has_value());
    fuzz::require(decode_profile(encode_profile(*profile)).has_value());
  } else {
    fuzz::require(refusal.has_value());
  }
  if (!refusal) {
    fuzz::require(header.segments.size() == 1 &&
                  header.segments[0].encryption == "aes-xts-plain64");
    fuzz::require(header.segments[0].offset_bytes % kDataAlignmentBytes == 0);
  }
}

// A first copy around a JSON text, no second one.
Bytes wrap_json(ByteView json) {
  constexpr std::string_view kStart("LUKS\xba\xbe\0\2\0\0\0\0\0\0\x40\0\0\0\0\0\0\0\0\5", 24);
  constexpr std::size_t kChecksumAlgAt = 72;
  constexpr std::size_t kUuidAt = 168;
  Bytes start(std::size_t{2} * kMetadataBytesMin);
  const auto put = [&start](std::size_t at, ByteView bytes) {
    std::ranges::copy(bytes, start.begin() + static_cast<std::ptrdiff_t>(at));
  };
  put(0, as_bytes(kStart));
  put(kChecksumAlgAt, as_bytes("sha256"));
  put(kUuidAt, as_bytes("6f1b2a9c-0d3e-4c57-9a55-3b1c0e5f7a10"));
  put(kBinaryHeaderBytes,
      json.first(std::min(json.size(), kMetadataBytesMin - kBinaryHeaderBytes)));
  repair(start, 0);
  return start;
}

Bytes raw_start(ByteView in) {
  Bytes start(in.begin(),
              in.begin() + static_cast<std::ptrdiff_t>(std::min(in.size(), kReaderBytes)));
  start.resize(kReaderBytes);
  repair(start, 0);
  for (const std::size_t offset :
       {std::size_t{16} << 10, std::size_t{32} << 10, std::size_t{64} << 10}) {
    repair(start, offset);
  }
  return start;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kDeviceBytes = std::uint64_t{1} << 30;
  const ByteView in = fuzz::input(data, size);
  const Bytes start = size != 0 && data[0] == '{' ? wrap_json(in) : raw_start(in);
  const auto examined = examine_header(start, kDeviceBytes);
  if (const auto* const header = std::get_if<Header>(&examined)) check_header_values(*header);
  const CheckOutcome outcome = check_header(start, kDeviceBytes);
  const auto decoded = decode_outcome(encode_outcome(outcome));
  fuzz::require(decoded.has_value() && *decoded == outcome);
  return 0;
}

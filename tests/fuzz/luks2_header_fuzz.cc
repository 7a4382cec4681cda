// SPDX-License-Identifier: Apache-2.0
// The input is the start of a device. Checksums are put right first, or no mutation would get past
// them; then everything that reads a header runs on it.
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr std::uint64_t kDeviceBytes = std::uint64_t{1} << 30;
  const ByteView in = fuzz::input(data, std::min(size, kReaderBytes));
  Bytes start(in.begin(), in.end());
  start.resize(kReaderBytes);
  repair(start, 0);
  for (const std::size_t offset :
       {std::size_t{16} << 10, std::size_t{32} << 10, std::size_t{64} << 10}) {
    repair(start, offset);
  }
  const auto examined = examine_header(start, kDeviceBytes);
  if (const auto* const header = std::get_if<Header>(&examined)) check_header_values(*header);
  const CheckOutcome outcome = check_header(start, kDeviceBytes);
  const auto decoded = decode_outcome(encode_outcome(outcome));
  fuzz::require(decoded.has_value() && *decoded == outcome);
  return 0;
}

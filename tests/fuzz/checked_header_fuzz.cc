// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/luks2/checked_header.h"
#include "tests/fuzz/fuzz_check.h"

// A taken outcome is canonical: it encodes to the very bytes it came from.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const ByteView in = fuzz::input(data, size);
  const auto outcome = luks2::decode_outcome(in);
  if (!outcome) return 0;
  fuzz::require(std::ranges::equal(luks2::encode_outcome(*outcome), in));
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/keyring/caller_blob.h"
#include "tests/fuzz/fuzz_check.h"

// Whatever is accepted has exactly one encoding, and a context that is within its limits.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto bytes = fuzz::input(data, size);
  const auto blob = keyring::CallerBlob::decode(bytes);
  if (!blob) {
    fuzz::require(blob.error().reason() == Reason::kBlobInvalid);
    return 0;
  }
  fuzz::require(std::ranges::equal(blob->encode(), bytes));
  fuzz::require(blob->context("").require_valid().has_value());
  return 0;
}

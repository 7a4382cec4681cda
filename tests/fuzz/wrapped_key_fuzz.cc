// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/keyring/wrapped_key.h"
#include "tests/fuzz/fuzz_check.h"

// Whatever is accepted has exactly one encoding, which begins with its header.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto bytes = fuzz::input(data, size);
  const auto blob = keyring::WrappedKey::decode(bytes);
  if (!blob) {
    fuzz::require(blob.error().reason() == Reason::kBlobInvalid);
    return 0;
  }
  fuzz::require(std::ranges::equal(blob->encode(), bytes));
  const Bytes header = blob->header();
  fuzz::require(std::ranges::equal(header, bytes.first(header.size())));
  return 0;
}

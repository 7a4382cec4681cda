// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/keyring/key_context.h"
#include "tests/fuzz/fuzz_check.h"

// Whatever is accepted is within the limits and has exactly one encoding.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto bytes = fuzz::input(data, size);
  const auto context = keyring::KeyContext::decode(bytes);
  if (!context) {
    fuzz::require(context.error().reason() == Reason::kTokenInvalid);
    return 0;
  }
  fuzz::require(std::ranges::equal(context->encode(), bytes));
  fuzz::require(context->require_valid().has_value());
  fuzz::require(keyring::require_same(*context, *context).has_value());
  return 0;
}

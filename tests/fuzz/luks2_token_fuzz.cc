// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/token.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto token = luks2::parse_token(as_text(fuzz::input(data, size)));
  if (!token) return 0;
  const auto text = luks2::print_token(*token);
  fuzz::require(text.has_value());
  const auto again = luks2::parse_token(*text);
  fuzz::require(again.has_value() && *again == *token);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/header.h"
#include "core/luks2/json.h"
#include "tests/fuzz/fuzz_check.h"

// What is read prints in one form, and that form reads as itself.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto value =
      luks2::JsonValue::parse(as_text(fuzz::input(data, size)), luks2::kJsonDepthMax);
  if (!value) return 0;
  const std::string canonical = value->canonical();
  const auto again = luks2::JsonValue::parse(canonical, luks2::kJsonDepthMax);
  // Bytes that are no UTF-8 become lone surrogates, which a text may not have.
  if (!is_utf8(as_text(fuzz::input(data, size)))) return 0;
  fuzz::require(again.has_value() && again->canonical() == canonical);
  return 0;
}

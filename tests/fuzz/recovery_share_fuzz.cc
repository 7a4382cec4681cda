// SPDX-License-Identifier: Apache-2.0
#include "hsm/recovery_shares.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto share = hsm::share_from_text(fuzz::input(data, size));
  if (!share) return 0;
  const auto text = hsm::share_to_text(*share);
  fuzz::require(text.has_value());
  const auto again = hsm::share_from_text(text->reveal());
  fuzz::require(again.has_value() && again->index == share->index &&
                equal_constant_time(again->value.reveal(), share->value.reveal()));
  return 0;
}

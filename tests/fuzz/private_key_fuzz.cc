// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/crypto/private_key_info.h"
#include "tests/fuzz/fuzz_check.h"

// What is accepted has one form, which is accepted and stays as it is.
// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto info = crypto::read_private_key_info(fuzz::input(data, size));
  if (!info) {
    fuzz::require(info.error().reason() == Reason::kInvalidArgs);
    return 0;
  }
  fuzz::require(info->der.size() <= size);
  const auto again = crypto::read_private_key_info(info->der.reveal());
  fuzz::require(again.has_value() && again->kind == info->kind && again->point.empty());
  fuzz::require(equal_constant_time(again->der.reveal(), info->der.reveal()));
  return 0;
}

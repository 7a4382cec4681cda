// SPDX-License-Identifier: Apache-2.0
#include "hsm/delivery_protocol.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto packet = fuzz::input(data, size);
  if (const auto taken = hsm::decode_delivery(packet)) {
    const auto again = hsm::encode_delivery(taken->ticket, taken->index, taken->label, taken->key);
    fuzz::require(again.has_value() && std::ranges::equal(again->reveal(), packet));
  }
  const auto outcome = hsm::decode_delivery_reply(packet);
  if (!outcome && outcome.error().reason() != Reason::kMessageInvalid)
    fuzz::require(
        hsm::decode_delivery_reply(hsm::encode_delivery_reply(outcome)).error().reason() ==
        outcome.error().reason());
  return 0;
}

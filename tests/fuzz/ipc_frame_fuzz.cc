// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/ipc/frame.h"
#include "tests/fuzz/fuzz_check.h"

// Whatever is accepted has exactly one encoding, a message as well as the error in it.
// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto bytes = fuzz::input(data, size);
  const auto frame = ipc::decode_frame(bytes);
  if (!frame) {
    fuzz::require(frame.error().reason() == Reason::kMessageInvalid);
    return 0;
  }
  fuzz::require(std::ranges::equal(ipc::encode_frame(frame->header, frame->body), bytes));
  const auto error = ipc::decode_error(frame->body);
  if (!error) {
    fuzz::require(error.error().reason() == Reason::kMessageInvalid);
    return 0;
  }
  fuzz::require(std::ranges::equal(ipc::encode_error(*error), frame->body));
  return 0;
}

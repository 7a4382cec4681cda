// SPDX-License-Identifier: Apache-2.0
// The first byte chooses the form.
#include <algorithm>

#include "core/luks2/profile.h"
#include "tests/fuzz/fuzz_check.h"

namespace {

using namespace coffer;
using namespace coffer::luks2;

void check_binary(ByteView in) {
  const auto profile = decode_profile(in);
  if (!profile) return;
  const Bytes again = encode_profile(*profile);
  fuzz::require(std::ranges::equal(again, in));
  const auto text = parse_profile(print_profile(*profile));
  fuzz::require(text.has_value() && *text == *profile);
}

void check_text(std::string_view in) {
  const auto profile = parse_profile(in);
  if (!profile) return;
  const auto again = decode_profile(encode_profile(*profile));
  fuzz::require(again.has_value() && *again == *profile);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const ByteView in = fuzz::input(data, size).subspan(1);
  if (data[0] == 'b') check_binary(in);
  if (data[0] == 't') check_text(as_text(in));
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/crypto/digest.h"
#include "hsm/sdf_token_keys.h"
#include "tests/fuzz/fuzz_check.h"

// Whatever is accepted has exactly one encoding. The digest is put right first, or nothing would
// ever come past it.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto content = fuzz::input(data, size);
  const Bytes bytes = ByteWriter().raw(content).raw(crypto::sha256(content)).take();
  const auto file = hsm::SdfKeysFile::decode(bytes);
  if (!file) {
    fuzz::require(file.error().reason() == Reason::kStoreDamaged);
    return 0;
  }
  fuzz::require(std::ranges::equal(file->encode(), bytes));
  return 0;
}

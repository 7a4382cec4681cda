// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <span>

#include "agent/volume/registry.h"
#include "core/crypto/digest.h"
#include "tests/fuzz/fuzz_check.h"

// The body of a row, with its digest put right so that the fuzzer gets behind it: what is read has
// one form.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  coffer::Bytes body(input.begin(), input.end());
  const auto digest = coffer::crypto::sha256(body);
  body.insert(body.end(), digest.begin(), digest.end());
  const auto row = coffer::agent::VolumeRow::decode(body);
  if (row) coffer::fuzz::require(row->encode() == body);
  return 0;
}

// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "core/keyring/cmk_record.h"
#include "tests/fuzz/fuzz_check.h"

// Whatever is accepted has exactly one encoding, and every version of it is found by its number.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto bytes = fuzz::input(data, size);
  const auto record = keyring::CmkRecord::decode(bytes);
  if (!record) {
    fuzz::require(record.error().reason() == Reason::kRecordInvalid);
    return 0;
  }
  const auto sealed_part = bytes.first(size - keyring::CmkRecord::kSealBytes);
  fuzz::require(std::ranges::equal(record->encode(), sealed_part));
  for (const auto& version : record->versions) {
    fuzz::require(record->find_version(version.number) == &version);
  }
  const bool destroyed = record->state == keyring::KeyState::kDestroyed;
  const auto last = destroyed ? keyring::VersionState::kDestroyed : keyring::VersionState::kCurrent;
  fuzz::require(record->current().state == last);
  return 0;
}

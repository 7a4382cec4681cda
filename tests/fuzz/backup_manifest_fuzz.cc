// SPDX-License-Identifier: Apache-2.0
// The manifest of a cold backup.
#include "hsm/backup_manifest.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto text = as_text(fuzz::input(data, size));
  const auto manifest = hsm::BackupManifest::parse(text);
  if (manifest) fuzz::require(manifest->to_text() == text);
  return 0;
}

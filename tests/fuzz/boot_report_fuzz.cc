// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <span>

#include "core/ipc/boot_protocol.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto input = std::as_bytes(std::span(data, size));
  const auto report = coffer::ipc::decode_boot_report(input);
  if (!report) return 0;
  coffer::fuzz::require(report->lines.size() <= coffer::ipc::kBootLinesMax);
  coffer::fuzz::require(
      coffer::ipc::decode_boot_report(coffer::ipc::encode_boot_report(*report)).has_value());
  return 0;
}

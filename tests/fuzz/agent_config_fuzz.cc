// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "agent/config.h"
#include "tests/fuzz/fuzz_check.h"

// What is taken keeps its limits; what is refused is refused as the configuration's fault.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const auto config = coffer::agent::parse_config(text, "fuzz");
  if (!config) {
    coffer::fuzz::require(config.error().reason() == coffer::Reason::kConfigInvalid);
    return 0;
  }
  coffer::fuzz::require(config->state_folder.starts_with('/'));
  coffer::fuzz::require(config->boot_deadline.count() >= 1 &&
                        config->boot_deadline.count() <= 3600);
  coffer::fuzz::require(config->retry_min <= config->retry_max);
  coffer::fuzz::require(config->rewraps_per_minute >= 1 && config->rewraps_per_minute <= 60'000);
  return 0;
}

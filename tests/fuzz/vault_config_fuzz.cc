// SPDX-License-Identifier: Apache-2.0
// The vault's configuration, and with it PKCS#11 URIs.
#include "hsm/vault_config.h"
#include "tests/fuzz/fuzz_check.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace coffer;
  const auto text = as_text(fuzz::input(data, size));
  (void)hsm::Pkcs11Uri::parse(text);
  const auto config = hsm::VaultConfig::parse(text);
  if (!config) return 0;
  const auto again = hsm::VaultConfig::parse(config->to_text());
  fuzz::require(again.has_value() && again->to_text() == config->to_text());
  return 0;
}

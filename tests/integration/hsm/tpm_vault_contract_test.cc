// SPDX-License-Identifier: Apache-2.0
// The contract of a KeyVault, on a TPM's token: its keys are rooted.
#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "hsm/pkcs11_token.h"
#include "hsm/ruled_vault.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/result_matchers.h"
#include "tests/support/swtpm.h"

namespace coffer::tests {
namespace {

// One TPM for this program.
SwtpmFolder& tpm() {
  static SwtpmFolder tpm;
  return tpm;
}

// Two tokens in it, used in turn: one more cannot be made while the module runs, and takes seconds.
// No test leaves anything in them, as all keys lie outside.
constexpr std::array<std::string_view, 2> kLabels{"one", "other"};

Result<void> make_tokens_once() {
  static bool made = false;
  if (std::exchange(made, true)) return {};
  for (const auto label : kLabels) {
    if (auto done = tpm().make_coffer_token(label); !done) return done;
  }
  return {};
}

struct Parts {
  std::string_view label;
  std::string floors;
  FakeDekSink sink;
};

struct Running {
  explicit Running(Parts& parts)
      : token({.link = tpm().link(parts.label)}),
        floors(std::move(*hsm::open_sqlite_floors(parts.floors))),
        vault({token, *floors, parts.sink, system_clock()}) {}

  hsm::Pkcs11Token token;
  std::unique_ptr<hsm::RevisionFloors> floors;
  hsm::RuledVault vault;
};

VaultUnderTest start(const std::shared_ptr<Parts>& parts) {
  const auto running = std::make_shared<Running>(*parts);
  return {parts, std::shared_ptr<keyring::KeyVault>(running, &running->vault), &parts->sink};
}

Result<VaultUnderTest> make() {
  if (auto tokens = make_tokens_once(); !tokens) return tl::unexpected(tokens.error());
  static std::size_t count = 0;
  auto parts = std::make_shared<Parts>();
  parts->label = kLabels.at(++count % kLabels.size());
  parts->floors = (tpm().path() / (std::to_string(count) + ".floors")).string();
  return start(parts);
}

Result<VaultUnderTest> restart(VaultUnderTest& before) {
  before.vault.reset();
  return start(std::static_pointer_cast<Parts>(before.parts));
}

VaultMaker maker() {
  VaultMaker maker{"Tpm", make, restart, true, swtpm_missing()};
  maker.protection = keyring::Protection::kRooted;
  return maker;
}

INSTANTIATE_TEST_SUITE_P(Tpm, KeyVaultContract, testing::Values(maker()), maker_name);

}  // namespace
}  // namespace coffer::tests

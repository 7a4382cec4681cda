// SPDX-License-Identifier: Apache-2.0
// The contract of a KeyVault, on a PKCS#11 token.
#include "hsm/pkcs11_token.h"
#include "hsm/ruled_vault.h"
#include "hsm/token_setup.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/softhsm.h"

namespace coffer::tests {
namespace {

// One folder for all tokens of this program, as SoftHSM reads its configuration once.
SoftHsmFolder& folder() {
  static SoftHsmFolder folder;
  return folder;
}

struct Parts {
  std::string label;
  FakeDekSink sink;
};

// The vault with what it is made of.
struct Running {
  explicit Running(const Parts& parts, FakeDekSink& sink)
      : token({folder().link(softhsm_module_path(), parts.label)}),
        floors(std::move(
            *hsm::open_sqlite_floors((folder().path() / (parts.label + ".floors")).string()))),
        vault({token, *floors, sink, system_clock()}) {}

  hsm::Pkcs11Token token;
  std::unique_ptr<hsm::RevisionFloors> floors;
  hsm::RuledVault vault;
};

VaultUnderTest start(const std::shared_ptr<Parts>& parts) {
  const auto running = std::make_shared<Running>(*parts, parts->sink);
  return {parts, std::shared_ptr<keyring::KeyVault>(running, &running->vault), &parts->sink};
}

Result<VaultUnderTest> make() {
  static int count = 0;
  auto parts = std::make_shared<Parts>();
  parts->label = "coffer-" + std::to_string(++count);
  const auto seed = SecretBytes::random(hsm::kSeedBytes);
  const auto made = folder().make_token(softhsm_module_path(), parts->label, &*seed);
  if (!made) return tl::unexpected(made.error());
  return start(parts);
}

Result<VaultUnderTest> restart(VaultUnderTest& before) {
  before.vault.reset();
  return start(std::static_pointer_cast<Parts>(before.parts));
}

VaultMaker softhsm() {
  return {"SoftHsm", make, restart, true,
          softhsm_module_path().empty() ? "SoftHSM is not installed" : ""};
}

INSTANTIATE_TEST_SUITE_P(Pkcs11, KeyVaultContract, testing::Values(softhsm()), maker_name);

}  // namespace
}  // namespace coffer::tests

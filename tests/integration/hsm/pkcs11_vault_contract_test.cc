// SPDX-License-Identifier: Apache-2.0
// The contract of a KeyVault, on a PKCS#11 token.
#include "hsm/pkcs11_token.h"
#include "hsm/ruled_vault.h"
#include "hsm/token_setup.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/fault_script_file.h"
#include "tests/support/result_matchers.h"
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
  std::string module;
  FakeDekSink sink;
};

// The vault with what it is made of.
struct Running {
  explicit Running(const Parts& parts, FakeDekSink& sink)
      : token({folder().link(parts.module, parts.label)}),
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

Result<VaultUnderTest> make(const std::string& module) {
  static int count = 0;
  auto parts = std::make_shared<Parts>();
  parts->module = module;
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
  return {"SoftHsm", [] { return make(softhsm_module_path()); }, restart, true,
          softhsm_module_path().empty() ? "SoftHSM is not installed" : ""};
}

// The same token without CKM_AES_GCM: its keys are wrapped by AES-CBC and an HMAC.
VaultMaker without_gcm() {
  auto maker = softhsm();
  maker.name = "WithoutGcm";
  maker.make = [] {
    static const FaultScriptFile script(folder().path());
    script.set("hide 0x1087\n");
    return make(fault_module_path());
  };
  return maker;
}

// The same token with keys that it encrypts and the vault uses.
VaultMaker rooted() {
  auto maker = softhsm();
  maker.name = "SoftHsmRooted";
  maker.protection = keyring::Protection::kRooted;
  maker.asks_for_protection = true;
  return maker;
}

// The same with keys of SM4, in GCM.
VaultMaker sm4() {
  auto maker = rooted();
  maker.name = "SoftHsmSm4";
  maker.algorithm = keyring::KeyAlgorithm::kSm4;
  return maker;
}

INSTANTIATE_TEST_SUITE_P(Pkcs11, KeyVaultContract,
                         testing::Values(softhsm(), without_gcm(), rooted(), sm4()), maker_name);

TEST(KekProfileTest, TokenWithoutGcmWrapsWithCbcAndHmac) {
  if (softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
  const auto made = without_gcm().make();
  ASSERT_THAT(made, Succeeds());
  EXPECT_EQ(made->vault->health().profile, keyring::KekProfile::kAesCbcHmac);
}

}  // namespace
}  // namespace coffer::tests

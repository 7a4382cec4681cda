// SPDX-License-Identifier: Apache-2.0
// The contract of a KeyVault, on a PKCS#11 token.
#include "tests/integration/hsm/softhsm_vaults.h"
#include "tests/support/fault_script_file.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

// The same token without CKM_AES_GCM: its keys are wrapped by AES-CBC and an HMAC.
VaultMaker without_gcm() {
  auto maker = softhsm();
  maker.name = "WithoutGcm";
  maker.make = [] {
    static const FaultScriptFile script(softhsm_folder().path());
    script.set("hide 0x1087\n");
    return make_softhsm(fault_module_path());
  };
  return maker;
}

INSTANTIATE_TEST_SUITE_P(Pkcs11, KeyVaultContract, testing::Values(softhsm(), without_gcm()),
                         maker_name);

TEST(KekProfileTest, TokenWithoutGcmWrapsWithCbcAndHmac) {
  if (softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
  const auto made = without_gcm().make();
  ASSERT_THAT(made, Succeeds());
  EXPECT_EQ(made->vault->health().profile, keyring::KekProfile::kAesCbcHmac);
}

}  // namespace
}  // namespace coffer::tests

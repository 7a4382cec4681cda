// SPDX-License-Identifier: Apache-2.0
// The contract of a KeyVault, with keys that a PKCS#11 token encrypts and the vault uses.
#include "tests/integration/hsm/softhsm_vaults.h"

namespace coffer::tests {
namespace {

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

INSTANTIATE_TEST_SUITE_P(Rooted, KeyVaultContract, testing::Values(rooted(), sm4()), maker_name);

}  // namespace
}  // namespace coffer::tests

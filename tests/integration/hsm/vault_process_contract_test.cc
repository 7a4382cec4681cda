// SPDX-License-Identifier: Apache-2.0
// The contract of a KeyVault, on a vault process: client, protocol, server, token, and the delivery
// to a worker that this test plays.
#include "hsm/token_setup.h"
#include "hsm/vault_client.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/softhsm.h"
#include "tests/support/vault_process.h"

namespace coffer::tests {
namespace {

SoftHsmFolder& folder() {
  static SoftHsmFolder folder;
  return folder;
}

struct Parts {
  std::string label;
  FakeDekSink sink;
  std::unique_ptr<DeliverySocket> worker;
};

Result<VaultUnderTest> start(const std::shared_ptr<Parts>& parts) {
  VaultProcess::Options options;
  options.folder = &folder();
  options.label = parts->label;
  options.deliver_socket = parts->worker->path();
  auto process = VaultProcess::start(options);
  if (!process) return tl::unexpected(process.error());
  const std::shared_ptr<VaultProcess> running = std::move(*process);
  return VaultUnderTest{parts, std::shared_ptr<keyring::KeyVault>(running, &running->client()),
                        &parts->sink};
}

Result<VaultUnderTest> make() {
  static int count = 0;
  auto parts = std::make_shared<Parts>();
  parts->label = "coffer-" + std::to_string(++count);
  const auto seed = SecretBytes::random(hsm::kSeedBytes);
  const auto made = folder().make_token(softhsm_module_path(), parts->label, &*seed);
  if (!made) return tl::unexpected(made.error());
  parts->worker = std::make_unique<DeliverySocket>(folder().path(), parts->sink);
  return start(parts);
}

Result<VaultUnderTest> restart(VaultUnderTest& before) {
  before.vault.reset();
  return start(std::static_pointer_cast<Parts>(before.parts));
}

VaultMaker vault_process() {
  return {"SoftHsm", make, restart, true,
          softhsm_module_path().empty() ? "SoftHSM is not installed" : ""};
}

INSTANTIATE_TEST_SUITE_P(VaultProcess, KeyVaultContract, testing::Values(vault_process()),
                         maker_name);

}  // namespace
}  // namespace coffer::tests

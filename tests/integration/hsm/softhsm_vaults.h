// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "hsm/pkcs11_token.h"
#include "hsm/ruled_vault.h"
#include "hsm/token_setup.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/softhsm.h"

// Vaults over SoftHSM tokens, for the contract. SoftHSM loads no more than some 250 tokens of one
// folder, and each test makes one: the makers are spread over programs.
namespace coffer::tests {

// One folder for all tokens of this program, as SoftHSM reads its configuration once.
inline SoftHsmFolder& softhsm_folder() {
  static SoftHsmFolder folder;
  return folder;
}

struct SoftHsmParts {
  std::string label;
  std::string module;
  FakeDekSink sink;
};

// The vault with what it is made of.
struct SoftHsmRunning {
  explicit SoftHsmRunning(const SoftHsmParts& parts, FakeDekSink& sink)
      : token({softhsm_folder().link(parts.module, parts.label)}),
        floors(std::move(*hsm::open_sqlite_floors(
            (softhsm_folder().path() / (parts.label + ".floors")).string()))),
        vault({token, *floors, sink, system_clock()}) {}

  hsm::Pkcs11Token token;
  std::unique_ptr<hsm::RevisionFloors> floors;
  hsm::RuledVault vault;
};

inline VaultUnderTest start_softhsm(const std::shared_ptr<SoftHsmParts>& parts) {
  const auto running = std::make_shared<SoftHsmRunning>(*parts, parts->sink);
  return {parts, std::shared_ptr<keyring::KeyVault>(running, &running->vault), &parts->sink};
}

inline Result<VaultUnderTest> make_softhsm(const std::string& module) {
  static int count = 0;
  auto parts = std::make_shared<SoftHsmParts>();
  parts->module = module;
  parts->label = "coffer-" + std::to_string(++count);
  const auto seed = SecretBytes::random(hsm::kSeedBytes);
  const auto made = softhsm_folder().make_token(softhsm_module_path(), parts->label, &*seed);
  if (!made) return tl::unexpected(made.error());
  return start_softhsm(parts);
}

inline Result<VaultUnderTest> restart_softhsm(VaultUnderTest& before) {
  before.vault.reset();
  return start_softhsm(std::static_pointer_cast<SoftHsmParts>(before.parts));
}

inline VaultMaker softhsm() {
  return {"SoftHsm", [] { return make_softhsm(softhsm_module_path()); }, restart_softhsm, true,
          softhsm_module_path().empty() ? "SoftHSM is not installed" : ""};
}

}  // namespace coffer::tests

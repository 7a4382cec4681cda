// SPDX-License-Identifier: Apache-2.0
// The contract of a KeyVault, on an SDF device.
#include "hsm/ruled_vault.h"
#include "hsm/sdf_token.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/result_matchers.h"
#include "tests/support/sdf_folder.h"

namespace coffer::tests {
namespace {

// One device for all tokens of this program; each has a key encryption key of its own.
SdfFolder& folder() {
  static SdfFolder folder;
  return folder;
}

struct Parts {
  hsm::SdfToken::Options options;
  FakeDekSink sink;
};

// The vault with what it is made of.
struct Running {
  explicit Running(const Parts& parts, FakeDekSink& sink)
      : token(parts.options),
        floors(std::move(*hsm::open_sqlite_floors(parts.options.keys_file + ".floors"))),
        vault({token, *floors, sink, system_clock()}) {}

  hsm::SdfToken token;
  std::unique_ptr<hsm::RevisionFloors> floors;
  hsm::RuledVault vault;
};

VaultUnderTest start(const std::shared_ptr<Parts>& parts) {
  const auto running = std::make_shared<Running>(*parts, parts->sink);
  return {parts, std::shared_ptr<keyring::KeyVault>(running, &running->vault), &parts->sink};
}

Result<VaultUnderTest> make(const std::string& library) {
  auto parts = std::make_shared<Parts>();
  parts->options.link.library_path = library;
  parts->options.link.kek = folder().add_kek();
  parts->options.keys_file =
      (folder().path() / ("keys-" + std::to_string(parts->options.link.kek))).string();
  const auto made = hsm::SdfToken::make_keys(parts->options);
  if (!made) return tl::unexpected(made.error());
  return start(parts);
}

Result<VaultUnderTest> restart(VaultUnderTest& before) {
  before.vault.reset();
  return start(std::static_pointer_cast<Parts>(before.parts));
}

VaultMaker sdf(std::string name, std::string_view edition) {
  return {.name = std::move(name),
          .make = [edition] { return make(sdf_library_path(edition)); },
          .restart = restart,
          .durable_floors = true,
          .skip_reason = "",
          .algorithm = keyring::KeyAlgorithm::kSm4};
}

// With HMAC in the device, and with a library of the edition of 2012, which has none.
INSTANTIATE_TEST_SUITE_P(Sdf, KeyVaultContract,
                         testing::Values(sdf("Edition2023", "sdf"), sdf("Edition2012", "sdf-2012")),
                         maker_name);

}  // namespace
}  // namespace coffer::tests

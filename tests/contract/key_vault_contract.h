// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <functional>
#include <memory>
#include <string>

#include "core/keyring/key_vault.h"
#include "tests/fakes/fake_dek_sink.h"

namespace coffer::tests {

// A vault under test, and what it delivers to. `sink` must be the one whose DEKs the vault
// delivers, whichever processes lie between.
struct VaultUnderTest {
  std::shared_ptr<void> parts;  // Whatever must outlive the vault; freed after it.
  std::shared_ptr<keyring::KeyVault> vault;
  FakeDekSink* sink = nullptr;
};

// One maker of a KeyVault. The contract, in key_vault_contract.cc, is run against each:
//
//   INSTANTIATE_TEST_SUITE_P(SoftHsm, KeyVaultContract, testing::Values(softhsm_maker()),
//   maker_name);
struct VaultMaker {
  std::string name;  // Letters and digits.
  // A vault with a token of its own, new and empty. A test may hold several at once.
  std::function<Result<VaultUnderTest>()> make;
  // The same token again, as after a restart of its process; null where a maker cannot. Floors are
  // expected to be kept if `durable_floors`.
  std::function<Result<VaultUnderTest>(VaultUnderTest&)> restart;
  bool durable_floors = false;
  // Why this maker cannot be tested here; "" when it can.
  std::string skip_reason;
  // What its keys that wrap are: not every token has AES.
  keyring::KeyAlgorithm algorithm = keyring::KeyAlgorithm::kAes256;
  // And how it keeps them: not every token wraps keys.
  keyring::Protection protection = keyring::Protection::kWrapped;
  // Whether that is asked for; else it is what the token does of itself.
  bool asks_for_protection = false;
};

inline std::string maker_name(const testing::TestParamInfo<VaultMaker>& info) {
  return info.param.name;
}

class KeyVaultContract : public testing::TestWithParam<VaultMaker> {
 protected:
  void SetUp() override;

  // Of a CMK that wraps, of the maker's algorithm.
  static keyring::CmkParameters parameters_of(const std::string& alias);
  // A fresh enabled CMK. Fails the test when it cannot be made.
  keyring::SealedRecord create(const std::string& alias = "default");
  keyring::SealedRecord change(const keyring::SealedRecord& record,
                               const keyring::CmkChange& change);

  static keyring::KeyContext volume_context();
  static keyring::KeyContext data_context();

  // Wraps one key of 32 bytes for data_context().
  keyring::WrappedKey wrap_one(const keyring::SealedRecord& record, ByteView key);
  // Unwraps one key, for a look at its result.
  Result<SecretBytes> unwrap_one(ByteView record, const keyring::WrappedKey& blob,
                                 const keyring::KeyContext& context);
  // Ample time for any call here.
  static Deadline soon() { return Deadline::after(std::chrono::seconds(60)); }

  // Makes one DEK for volume_context() and delivers it with index 0.
  keyring::WrappedKey make_dek(const keyring::SealedRecord& record);
  Result<void> deliver_one(ByteView record, const keyring::WrappedKey& blob,
                           const keyring::KeyContext& context);

  keyring::KeyVault& vault() { return *under_test_.vault; }
  FakeDekSink& sink() { return *under_test_.sink; }

  VaultUnderTest under_test_;
  keyring::Ticket ticket_{};
};

// A suite that a build without one of its makers leaves empty is no mistake.
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(KeyVaultContract);

}  // namespace coffer::tests

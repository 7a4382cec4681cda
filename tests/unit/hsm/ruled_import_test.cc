// SPDX-License-Identifier: Apache-2.0
// An import whose material is good, into a vault that is not.
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "core/crypto/sm2.h"
#include "hsm/revision_floors.h"
#include "hsm/ruled_vault.h"
#include "hsm/software_token.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using keyring::KeySupport;
using tests::FailsWith;
using tests::Succeeds;

// A software token that opens what it closed as a test says.
class OpeningToken final : public VaultToken {
 public:
  Result<Identity> identity() override { return token_->identity(); }
  Result<std::vector<KeySupport>> supports() override { return token_->supports(); }
  Result<Mac> mac(MacKey key, ByteView message) override { return token_->mac(key, message); }
  Result<NewKey> generate(const CmkId& cmk, std::uint32_t number, const KeySupport& kind) override {
    return token_->generate(cmk, number, kind);
  }
  std::vector<Result<Ciphertext>> encrypt(const TokenKey& key,
                                          std::span<const EncryptJob> jobs) override {
    return token_->encrypt(key, jobs);
  }
  std::vector<Result<SecretBytes>> decrypt(const TokenKey& key,
                                           std::span<const DecryptJob> jobs) override {
    return token_->decrypt(key, jobs);
  }
  Result<bool> keeps_rooted() override { return true; }
  Result<Bytes> close_rooted(const SecretBytes& key, ByteView aad) override {
    return token_->close_rooted(key, aad);
  }
  Result<SecretBytes> open_rooted(ByteView material, ByteView aad) override {
    if (failure) return fail(*failure, "not opened as the test asked");
    if (garbles) return SecretBytes::random(32);
    return token_->open_rooted(material, aad);
  }
  Result<SecretBytes> random(std::size_t size_bytes) override { return token_->random(size_bytes); }
  keyring::VaultHealth health() override { return token_->health(); }

  std::optional<Reason> failure;
  bool garbles = false;

 private:
  const std::unique_ptr<VaultToken> token_ = std::move(*open_software_token({}));
};

TEST(RuledImport, WhatIsNotTheMaterialsFaultIsNotHeldAgainstIt) {
  OpeningToken token;
  const auto floors = make_memory_floors();
  tests::FakeDekSink sink;
  RuledVault vault({token, *floors, sink, system_clock()});
  keyring::CmkParameters parameters;
  parameters.alias = "brought";
  parameters.algorithm = keyring::KeyAlgorithm::kSm4;
  parameters.protection = keyring::Protection::kRooted;
  parameters.origin = keyring::KeyOrigin::kImported;
  const auto empty = vault.create_cmk(parameters);
  ASSERT_THAT(empty, Succeeds());
  const auto prepared = vault.prepare_import(*empty, keyring::ImportWrapping::kSm2);
  ASSERT_THAT(prepared, Succeeds());
  const auto to = crypto::Sm2PublicKey::parse(prepared->public_key);
  ASSERT_THAT(to, Succeeds());
  const keyring::ImportMaterial material{prepared->token, *to->encrypt(Bytes(16)), {}};

  token.failure = Reason::kHsmAbsent;
  EXPECT_THAT(vault.import_material(prepared->record, material), FailsWith(Reason::kHsmAbsent));
  token.failure.reset();
  token.garbles = true;  // A private key of the record that is none.
  EXPECT_THAT(vault.import_material(prepared->record, material), FailsWith(Reason::kRecordInvalid));
  token.garbles = false;
  const keyring::ImportMaterial other{prepared->token, *to->encrypt(Bytes(15)), {}};
  EXPECT_THAT(vault.import_material(prepared->record, other), FailsWith(Reason::kImportRefused));
  EXPECT_THAT(vault.import_material(prepared->record, material), Succeeds());
}

}  // namespace
}  // namespace coffer::hsm

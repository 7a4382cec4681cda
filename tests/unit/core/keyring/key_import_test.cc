// SPDX-License-Identifier: Apache-2.0
// Keys whose owner brings the material (BYOK).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/crypto/aead.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "hsm/vault_rules.h"
#include "tests/fakes/flaky_vault.h"
#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::ImportParameters;
using keyring::ImportWrapping;
using keyring::KeyAlgorithm;
using keyring::KeyOrigin;
using keyring::KeyState;
using keyring::Protection;
using std::chrono::hours;

// As the owner of the material does it, with what the import's parameters tell.
Bytes wrap_for(const ImportParameters& parameters, ImportWrapping wrapping,
               const SecretBytes& material) {
  if (wrapping == ImportWrapping::kSm2) {
    return *crypto::Sm2PublicKey::parse(parameters.public_key)->encrypt(material.reveal());
  }
  const auto key = crypto::RsaPublicKey::parse(parameters.public_key);
  switch (wrapping) {
    case ImportWrapping::kRsaPkcs1:
      return *key->encrypt_pkcs1(material.reveal());
    case ImportWrapping::kRsaOaepSha1:
      return *key->encrypt(crypto::kOaepSha1, material.reveal());
    case ImportWrapping::kRsaOaepSha256:
      return *key->encrypt(crypto::kOaepSha256, material.reveal());
    default:
      break;
  }
  const auto kek = SecretBytes::random(32);
  const bool sha1 = wrapping == ImportWrapping::kRsaAesSha1;
  Bytes wrapped = *key->encrypt(sha1 ? crypto::kOaepSha1 : crypto::kOaepSha256, kek->reveal());
  const Bytes behind = *crypto::aes_kwp_wrap(kek->reveal(), material.reveal());
  wrapped.insert(wrapped.end(), behind.begin(), behind.end());
  return wrapped;
}

class KeyImportTest : public KeyFixture {
 protected:
  CmkRecord create_external(Protection protection = Protection::kWrapped,
                            KeyAlgorithm algorithm = KeyAlgorithm::kAes256) {
    CmkParameters parameters;
    parameters.origin = KeyOrigin::kImported;
    parameters.protection = protection;
    parameters.algorithm = algorithm;
    return create(parameters);
  }
  ImportParameters prepare(const CmkId& id,
                           ImportWrapping wrapping = ImportWrapping::kRsaOaepSha256) {
    auto prepared = keyring_->prepare_import(id, wrapping, actor_);
    EXPECT_THAT(prepared, Succeeds());
    return prepared ? *prepared : ImportParameters{};
  }
  Result<CmkRecord> import(const CmkId& id, const SecretBytes& material,
                           std::optional<WallTime> valid_to = {},
                           ImportWrapping wrapping = ImportWrapping::kRsaOaepSha256) {
    const auto prepared = prepare(id, wrapping);
    return keyring_->import_material(
        id, {prepared.token, wrap_for(prepared, wrapping, material), valid_to}, actor_);
  }

  const SecretBytes material_ = *SecretBytes::random(32);
};

TEST_F(KeyImportTest, MaterialComesInByEveryWrapping) {
  for (const auto wrapping :
       {ImportWrapping::kRsaPkcs1, ImportWrapping::kRsaOaepSha1, ImportWrapping::kRsaOaepSha256,
        ImportWrapping::kRsaAesSha1, ImportWrapping::kRsaAesSha256}) {
    const CmkRecord key = create_external();
    EXPECT_EQ(key.state, KeyState::kPendingImport);
    EXPECT_THAT(wrap(key.id), FailsWith(Reason::kKeyPendingImport));
    const auto imported = import(key.id, material_, {}, wrapping);
    ASSERT_THAT(imported, Succeeds()) << import_wrapping_name(wrapping);
    EXPECT_EQ(imported->state, KeyState::kEnabled);
    const auto blob = wrap(key.id);
    ASSERT_THAT(blob, Succeeds());
    EXPECT_THAT(unwrap(*blob), Succeeds());
  }
  EXPECT_EQ(log_.count(audit::Kind::kResult, "key.import"), 5U);
}

TEST_F(KeyImportTest, Sm4MaterialComesInBySm2) {
  const CmkRecord key = create_external(Protection::kRooted, KeyAlgorithm::kSm4);
  const auto material = *SecretBytes::random(16);
  ASSERT_THAT(import(key.id, material, {}, ImportWrapping::kSm2), Succeeds());
  const auto blob = wrap(key.id);
  ASSERT_THAT(blob, Succeeds());
  EXPECT_EQ(blob->profile, keyring::KekProfile::kSm4Gcm);
  EXPECT_THAT(unwrap(*blob), Succeeds());
  EXPECT_THAT(keyring_->prepare_import(create_external().id, ImportWrapping::kSm2, actor_),
              FailsWith(Reason::kUnsupported));
}

TEST_F(KeyImportTest, OnlyTheNewestTokenOfItsKeyCountsAndForADay) {
  const CmkRecord key = create_external();
  const CmkRecord other = create_external();
  const auto first = prepare(key.id);
  const auto foreign = prepare(other.id);
  const auto newest = prepare(key.id);
  const auto with = [&](const ImportParameters& parameters) {
    return keyring_->import_material(
        key.id,
        {parameters.token, wrap_for(parameters, ImportWrapping::kRsaOaepSha256, material_), {}},
        actor_);
  };
  EXPECT_THAT(with(first), FailsWith(Reason::kImportTokenExpired));
  EXPECT_THAT(with(foreign), FailsWith(Reason::kImportTokenExpired));
  for (std::size_t i = 0; i < newest.token.size(); ++i) {
    auto edited = newest;
    edited.token[i] ^= std::byte{1};
    EXPECT_THAT(with(edited), FailsWith(Reason::kImportTokenExpired)) << i;
  }
  EXPECT_EQ(newest.valid_to, clock_.wall() + hours(24));
  clock_.advance(hours(24) - std::chrono::seconds(1));
  EXPECT_THAT(with(newest), Succeeds());
  EXPECT_THAT(with(newest), Succeeds()) << "reusable within its time";
  clock_.advance(std::chrono::seconds(1));
  EXPECT_THAT(with(newest), FailsWith(Reason::kImportTokenExpired));
}

TEST_F(KeyImportTest, WhatDoesNotUnwrapToAKeyOfItsLengthIsRefused) {
  const CmkRecord key = create_external();
  EXPECT_THAT(import(key.id, *SecretBytes::random(16)), FailsWith(Reason::kImportRefused));
  EXPECT_THAT(import(key.id, *SecretBytes::random(33)), FailsWith(Reason::kImportRefused));
  const auto prepared = prepare(key.id);
  Bytes damaged = wrap_for(prepared, ImportWrapping::kRsaOaepSha256, material_);
  damaged[10] ^= std::byte{1};
  EXPECT_THAT(keyring_->import_material(key.id, {prepared.token, damaged, {}}, actor_),
              FailsWith(Reason::kImportRefused));
  EXPECT_THAT(keyring_->import_material(key.id, {prepared.token, {}, {}}, actor_),
              FailsWith(Reason::kImportRefused));
  EXPECT_THAT(keyring_->import_material(key.id, {prepared.token, Bytes(9000), {}}, actor_),
              FailsWith(Reason::kImportRefused));
  EXPECT_EQ(keyring_->get(key.id)->state, KeyState::kPendingImport);
}

// So that nobody asks the private key about paddings as often as that takes.
TEST_F(KeyImportTest, ATokenIsGoodForAFewAttempts) {
  const CmkRecord key = create_external();
  const auto prepared = prepare(key.id, ImportWrapping::kRsaPkcs1);
  const auto with = [&](const ImportParameters& parameters, const Bytes& wrapped) {
    return keyring_->import_material(key.id, {parameters.token, wrapped, {}}, actor_);
  };
  for (int i = 0; i < 16; ++i) {
    EXPECT_THAT(with(prepared, Bytes(256)), FailsWith(Reason::kImportRefused)) << i;
  }
  const auto wrapped = wrap_for(prepared, ImportWrapping::kRsaPkcs1, material_);
  EXPECT_THAT(with(prepared, wrapped), FailsWith(Reason::kImportTokenExpired));
  const auto again = prepare(key.id, ImportWrapping::kRsaPkcs1);
  EXPECT_THAT(with(again, wrap_for(again, ImportWrapping::kRsaPkcs1, material_)), Succeeds());
}

TEST_F(KeyImportTest, DeletedMaterialComesBackAsItWasAndNoOtherDoes) {
  const CmkRecord key = create_external();
  ASSERT_THAT(import(key.id, material_), Succeeds());
  const auto blob = *wrap(key.id);
  const auto gone = keyring_->delete_material(key.id, actor_);
  ASSERT_THAT(gone, Succeeds());
  EXPECT_EQ(gone->state, KeyState::kPendingImport);
  EXPECT_FALSE(gone->has_material());
  EXPECT_THAT(unwrap(blob), FailsWith(Reason::kKeyPendingImport));

  EXPECT_THAT(import(key.id, *SecretBytes::random(32)), FailsWith(Reason::kMaterialMismatch));
  ASSERT_THAT(import(key.id, material_), Succeeds());
  EXPECT_THAT(unwrap(blob), Succeeds());
}

TEST_F(KeyImportTest, MaterialExpiresAtItsTime) {
  const CmkRecord key = create_external();
  const WallTime end = clock_.wall() + hours(100);
  EXPECT_THAT(import(key.id, material_, clock_.wall()), FailsWith(Reason::kInvalidArgs));
  ASSERT_THAT(import(key.id, material_, end), Succeeds());
  clock_.advance(hours(24));
  ASSERT_EQ(keyring_->run_due(actor_)->done.size(), 1U) << "the offer";
  EXPECT_EQ(keyring_->run_due(actor_)->next, end);
  clock_.advance(hours(76));
  const auto report = run_due_for_sure();
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].state, KeyState::kPendingImport);
  EXPECT_FALSE(report->done[0].has_material());

  // The same material once more, now without an end.
  EXPECT_EQ(import(key.id, material_)->material_valid_to, std::nullopt);
}

// Its private key does not travel in the record, and in volumes' headers, for good.
TEST_F(KeyImportTest, AnOfferIsDroppedWhenItsTimeIsOver) {
  const CmkRecord key = create_external();
  const WallTime end = prepare(key.id).valid_to;
  EXPECT_EQ(keyring_->run_due(actor_)->next, end);
  clock_.advance(hours(24));
  const auto report = keyring_->run_due(actor_);
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_FALSE(report->done[0].offer);
  EXPECT_EQ(report->done[0].state, KeyState::kPendingImport);

  // By any other change as well.
  prepare(key.id);
  clock_.advance(hours(24));
  EXPECT_FALSE(keyring_->describe(key.id, "renamed", "", actor_)->offer);
}

TEST_F(KeyImportTest, TheMaterialOfABoundKeyDoesNotExpire) {
  const CmkRecord key = create_external();
  ASSERT_THAT(import(key.id, material_, clock_.wall() + hours(2)), Succeeds());
  ASSERT_THAT(keyring_->bind(key.id, "volume:a", actor_), Succeeds());
  EXPECT_EQ(keyring_->get(key.id)->material_valid_to, std::nullopt);
  EXPECT_THAT(import(key.id, material_, clock_.wall() + hours(2)), FailsWith(Reason::kKeyBound));
  EXPECT_THAT(keyring_->delete_material(key.id, actor_), FailsWith(Reason::kKeyBound));
  keyring::CmkChange expire = keyring::CmkChange::kSetValidTo;
  expire.time = clock_.wall() + hours(2);
  EXPECT_THAT(keyring_->change_many({&key.id, 1}, expire, actor_).at(0),
              FailsWith(Reason::kKeyBound));
  EXPECT_THAT(import(key.id, material_), Succeeds());
  ASSERT_THAT(keyring_->unbind(key.id, "volume:a", actor_), Succeeds());
  EXPECT_THAT(import(key.id, material_, clock_.wall() + hours(2)), Succeeds());
}

// The time of its material does not come back, so what does not bind the key leaves it there.
TEST_F(KeyImportTest, ABindingThatFailsLeavesTheTimeOfTheMaterial) {
  const CmkRecord key = create_external();
  const WallTime end = clock_.wall() + hours(2);
  ASSERT_THAT(import(key.id, material_, end), Succeeds());
  log_.fail_when([](const audit::Event& event) { return event.operation == "key.bind"; });
  EXPECT_THAT(keyring_->bind(key.id, "volume:a", actor_), FailsWith(Reason::kAuditUnavailable));
  log_.succeed_again();
  EXPECT_EQ(keyring_->get(key.id)->material_valid_to, end);
  EXPECT_THAT(keyring_->bindings(key.id, "", 10).value(), testing::IsEmpty());

  // Bound, and the vault cannot be asked for the rest: the next one clears the time.
  FlakyVault vault(*vault_);
  keyring_.emplace(keyring::Keyring::Parts{vault, store_, log_, clock_});
  vault.go_away();
  EXPECT_THAT(keyring_->bind(key.id, "volume:a", actor_), FailsWith(Reason::kHsmAbsent));
  EXPECT_THAT(keyring_->bindings(key.id, "", 10).value(), testing::ElementsAre("volume:a"));
  vault.come_back();
  EXPECT_THAT(keyring_->bind(key.id, "volume:a", actor_), Succeeds());
  EXPECT_EQ(keyring_->get(key.id)->material_valid_to, std::nullopt);
  keyring_.reset();
}

// A key that was bound in a store by which nobody cleared its time.
TEST_F(KeyImportTest, WhatIsBoundAllTheSameKeepsItsMaterial) {
  const CmkRecord key = create_external();
  ASSERT_THAT(import(key.id, material_, clock_.wall() + hours(2)), Succeeds());
  store_.row(key.id).bindings.insert("volume:a");
  clock_.advance(hours(2));
  const auto report = keyring_->run_due(actor_);
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].state, KeyState::kEnabled);
  EXPECT_EQ(report->done[0].material_valid_to, std::nullopt);
}

// reference: kms-api.md section 3, the rows of imported keys, and section 5.
TEST_F(KeyImportTest, ImportedKeysGoThroughTheirStatesAsTheTableSays) {
  struct Row {
    KeyState state;
    std::optional<Reason> prepare, import, drop;
    KeyState dropped;  // The state after the material expired or was deleted.
  };
  const std::vector<Row> rows{
      {KeyState::kDisabled, {}, Reason::kKeyDisabled, {}, KeyState::kPendingImport},
      {KeyState::kArchived, {}, Reason::kKeyArchived, {}, KeyState::kPendingImport},
      {KeyState::kPendingDelete, Reason::kKeyPendingDeletion, Reason::kKeyPendingDeletion,
       Reason::kKeyPendingDeletion, KeyState::kPendingDelete}};
  const auto expect = [](const auto& done, const std::optional<Reason>& refused) {
    if (refused) {
      EXPECT_THAT(done, FailsWith(*refused));
    } else {
      EXPECT_THAT(done, Succeeds());
    }
  };
  for (const auto& row : rows) {
    SCOPED_TRACE(key_state_name(row.state));
    const auto bring = [&](std::optional<WallTime> valid_to) {
      const CmkRecord key = create_external();
      EXPECT_THAT(import(key.id, material_, valid_to), Succeeds());
      if (row.state == KeyState::kArchived) {
        EXPECT_THAT(keyring_->archive(key.id, actor_), Succeeds());
      } else {
        EXPECT_THAT(keyring_->disable(key.id, actor_), Succeeds());
      }
      if (row.state == KeyState::kPendingDelete) {
        EXPECT_THAT(keyring_->schedule_deletion(key.id, 30, actor_), Succeeds());
      }
      return key.id;
    };
    const CmkId deleted = bring({});
    const auto prepared = keyring_->prepare_import(deleted, ImportWrapping::kRsaOaepSha256, actor_);
    expect(prepared, row.prepare);
    EXPECT_THAT(keyring_->import_material(deleted, {Bytes(69), Bytes(256), {}}, actor_),
                FailsWith(*row.import));
    expect(keyring_->delete_material(deleted, actor_), row.drop);

    const CmkId expired = bring(clock_.wall() + hours(2));
    clock_.advance(hours(2));
    ASSERT_THAT(run_due_for_sure(), Succeeds());
    EXPECT_EQ(keyring_->get(expired)->state, row.dropped);
    EXPECT_FALSE(keyring_->get(expired)->has_material());
  }
}

TEST_F(KeyImportTest, MaterialThatHasExpiredIsNotUsedBeforeAnybodyDropsIt) {
  const CmkRecord key = create_external();
  ASSERT_THAT(import(key.id, material_, clock_.wall() + hours(1)), Succeeds());
  const auto blob = *wrap(key.id);
  clock_.advance(hours(1));
  EXPECT_THAT(unwrap(blob), FailsWith(Reason::kKeyPendingImport));
  EXPECT_THAT(wrap(key.id), FailsWith(Reason::kKeyPendingImport));
}

// A lease of a process before counts as used up, and bringing the same material makes no new one.
TEST_F(KeyImportTest, TheSameMaterialAgainGivesNoUsesBack) {
  const CmkRecord key = create_external();
  ASSERT_THAT(import(key.id, material_), Succeeds());
  ASSERT_THAT(wrap(key.id), Succeeds());
  const auto leased = keyring_->get(key.id)->current().wraps_leased;
  keyring_.emplace(keyring::Keyring::Parts{*vault_, store_, log_, clock_});  // Restarted.
  ASSERT_THAT(import(key.id, material_), Succeeds());
  ASSERT_THAT(wrap(key.id), Succeeds());
  EXPECT_GT(keyring_->get(key.id)->current().wraps_leased, leased);
}

TEST_F(KeyImportTest, AKeyThatWasRescuedWithoutItsMaterialWaitsForItAgain) {
  const CmkRecord key = create_external();
  ASSERT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), Succeeds());
  EXPECT_THAT(keyring_->prepare_import(key.id, ImportWrapping::kRsaPkcs1, actor_),
              FailsWith(Reason::kKeyPendingDeletion));
  EXPECT_EQ(keyring_->cancel_deletion(key.id, actor_)->state, KeyState::kPendingImport);
}

TEST_F(KeyImportTest, TheSameMaterialInTwoKeysOpensNoBlobOfTheOther) {
  const CmkRecord one = create_external();
  const CmkRecord two = create_external();
  ASSERT_THAT(import(one.id, material_), Succeeds());
  ASSERT_THAT(import(two.id, material_), Succeeds());
  auto blob = *wrap(one.id);
  // By the key that the format page tells: not the material's, which the two share.
  const auto opened = [&](const SecretBytes& key) {
    const Bytes aad = hsm::wrap_aad(blob, one_plain()[0].context);
    const Bytes sealed = ByteWriter().raw(blob.ciphertext).raw(blob.tag).take();
    return crypto::aes_gcm_open(key.reveal(), {blob.nonce, aad}, sealed);
  };
  EXPECT_THAT(opened(material_), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(opened(*crypto::hkdf_sha256(material_.reveal(),
                                          {one.id.bytes(), as_bytes("coffer imported key")}, 32)),
              Succeeds());
  blob.cmk = two.id;
  EXPECT_THAT(unwrap(blob), FailsWith(Reason::kBlobInvalid));
}

// It cannot be rotated before, as a generated one is: somebody has to do something.
TEST_F(KeyImportTest, AnImportedKeyThatNearsItsLimitIsToldAsLongAsItIsInUse) {
  keyring_.emplace(keyring::Keyring::Parts{*vault_, store_, log_, clock_, 1});
  const CmkRecord key = create_external();
  ASSERT_THAT(import(key.id, material_), Succeeds());
  keyring_.emplace(keyring::Keyring::Parts{*vault_, store_, log_, clock_, 1});  // Leases anew.
  EXPECT_TRUE(keyring_->run_due(actor_)->failed.empty());
  ASSERT_THAT(wrap(key.id), Succeeds());
  const auto report = keyring_->run_due(actor_);
  ASSERT_EQ(report->failed.size(), 1U);
  EXPECT_EQ(report->failed[0].reason(), Reason::kKeyExhausted);
  EXPECT_THAT(report->failed[0].message(), testing::HasSubstr(key.id.str()));
  EXPECT_THAT(report->failed[0].message(), testing::EndsWith("make another one"));
  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  EXPECT_TRUE(keyring_->run_due(actor_)->failed.empty());
}

TEST_F(KeyImportTest, ImportedKeysDoNotRotateAndGeneratedOnesTakeNothing) {
  const CmkRecord key = create_external();
  ASSERT_THAT(import(key.id, material_), Succeeds());
  EXPECT_THAT(keyring_->rotate(key.id, actor_), FailsWith(Reason::kKeyImported));
  EXPECT_THAT(keyring_->set_rotation(key.id, 90, actor_), FailsWith(Reason::kKeyImported));
  EXPECT_THAT(keyring_->prepare_import(create({}).id, ImportWrapping::kRsaPkcs1, actor_),
              FailsWith(Reason::kKeyNotImported));
}

}  // namespace
}  // namespace coffer::tests

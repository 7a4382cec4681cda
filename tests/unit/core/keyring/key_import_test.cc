// SPDX-License-Identifier: Apache-2.0
// Keys whose owner brings the material (BYOK).
#include <gtest/gtest.h>

#include "core/crypto/key_wrap.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
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
  EXPECT_EQ(keyring_->run_due(actor_)->next, end);
  clock_.advance(hours(100));
  const auto report = keyring_->run_due(actor_);
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].state, KeyState::kPendingImport);
  EXPECT_FALSE(report->done[0].has_material());

  // The same material once more, now without an end.
  EXPECT_EQ(import(key.id, material_)->material_valid_to, std::nullopt);
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
  blob.cmk = two.id;
  EXPECT_THAT(unwrap(blob), FailsWith(Reason::kBlobInvalid));
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

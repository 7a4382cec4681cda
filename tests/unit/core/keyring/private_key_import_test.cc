// SPDX-License-Identifier: Apache-2.0
// Asymmetric keys whose owner brings the private half (BYOK).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/base/encoding.h"
#include "core/crypto/ec.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/private_key_info.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "tests/support/pkcs8_forms.h"
#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::DecryptScheme;
using keyring::ImportParameters;
using keyring::ImportWrapping;
using keyring::KeyAlgorithm;
using keyring::KeyOrigin;
using keyring::KeyState;
using keyring::KeyUsage;
using keyring::Protection;
using keyring::SignScheme;
using std::chrono::hours;
using testing::HasSubstr;

const Bytes kDigest(32, std::byte{0x5C});
const Bytes kText(24, std::byte{'t'});

template <class Private>
Bytes pkcs8_of(const Result<Private>& key) {
  const auto der = *key->to_der();
  return {der.reveal().begin(), der.reveal().end()};
}

// As the owner of the key does it (PKCS#11 3.0 section 2.1.21).
Bytes wrap_for(const ImportParameters& parameters, ImportWrapping wrapping, ByteView pkcs8) {
  const auto to = crypto::RsaPublicKey::parse(parameters.public_key);
  const auto kek = SecretBytes::random(32);
  const bool sha1 = wrapping == ImportWrapping::kRsaAesSha1;
  const Bytes head = *to->encrypt(sha1 ? crypto::kOaepSha1 : crypto::kOaepSha256, kek->reveal());
  return joined({head, *crypto::aes_kwp_wrap(kek->reveal(), pkcs8)});
}

class PrivateKeyImportTest : public KeyFixture {
 protected:
  CmkRecord create_external(KeyAlgorithm algorithm, KeyUsage usage) {
    CmkParameters parameters;
    parameters.origin = KeyOrigin::kImported;
    parameters.algorithm = algorithm;
    parameters.usage = usage;
    return create(parameters);
  }
  CmkRecord create_signer() {
    return create_external(KeyAlgorithm::kEcP256, KeyUsage::kSignVerify);
  }
  ImportParameters prepare(const CmkId& id,
                           ImportWrapping wrapping = ImportWrapping::kRsaAesSha256) {
    auto prepared = keyring_->prepare_import(id, wrapping, actor_);
    EXPECT_THAT(prepared, Succeeds());
    return prepared ? *prepared : ImportParameters{};
  }
  // By the key's offer, which takes seconds to make, as long as it has one.
  Result<CmkRecord> import(const CmkId& id, ByteView pkcs8, std::optional<WallTime> valid_to = {},
                           ImportWrapping wrapping = ImportWrapping::kRsaAesSha256) {
    const bool has_offer = keyring_->get(id)->offer.has_value();
    if (!has_offer) offers_.insert_or_assign(id, prepare(id, wrapping));
    const auto& prepared = offers_[id];
    return keyring_->import_material(
        id, {prepared.token, wrap_for(prepared, wrapping, pkcs8), valid_to}, actor_);
  }
  Result<Bytes> sign(const CmkId& id, SignScheme scheme = SignScheme::kEcdsa) {
    return std::move(keyring_->sign(id, scheme, {&kDigest, 1}, actor_).at(0));
  }
  Result<SecretBytes> decrypt(const CmkId& id, DecryptScheme scheme, const Bytes& ciphertext) {
    return std::move(keyring_->decrypt(id, scheme, {&ciphertext, 1}, actor_).at(0));
  }
  void expect_opens(const CmkId& id, DecryptScheme scheme, const Result<Bytes>& ciphertext) {
    const auto opened = decrypt(id, scheme, *ciphertext);
    ASSERT_THAT(opened, Succeeds());
    EXPECT_TRUE(std::ranges::equal(opened->reveal(), ByteView(kText)));
  }
  // A key that was brought, and what it was brought as.
  CmkId bring(ByteView pkcs8, std::optional<WallTime> valid_to = {}) {
    const CmkId id = create_signer().id;
    EXPECT_THAT(import(id, pkcs8, valid_to), Succeeds());
    return id;
  }

  std::map<CmkId, ImportParameters> offers_;
  const Bytes ec_ = pkcs8_of(crypto::EcPrivateKey::generate(crypto::EcCurve::kP256));
};

TEST_F(PrivateKeyImportTest, KeysThatSignDoSoForTheirOwnPublicHalf) {
  const auto rsa = [](unsigned bits) { return pkcs8_of(crypto::RsaPrivateKey::generate(bits)); };
  struct Kind {
    KeyAlgorithm algorithm;
    Bytes pkcs8;
    SignScheme scheme;
    std::function<Result<void>(ByteView half, ByteView signature)> verify;
  };
  const auto by_rsa = [](ByteView half, ByteView signature) {
    return crypto::RsaPublicKey::parse(half)->verify(crypto::RsaScheme::kPssSha256, kDigest,
                                                     signature);
  };
  const auto by_ec = [](ByteView half, ByteView signature) {
    return crypto::EcPublicKey::parse(half)->verify(kDigest, signature);
  };
  const auto by_sm2 = [](ByteView half, ByteView signature) {
    return crypto::Sm2PublicKey::parse(half)->verify(kDigest, signature);
  };
  const std::vector<Kind> kinds{
      {KeyAlgorithm::kRsa2048, rsa(2048), SignScheme::kRsaPssSha256, by_rsa},
      {KeyAlgorithm::kRsa3072, rsa(3072), SignScheme::kRsaPssSha256, by_rsa},
      {KeyAlgorithm::kRsa4096, rsa(4096), SignScheme::kRsaPssSha256, by_rsa},
      {KeyAlgorithm::kEcP256, ec_, SignScheme::kEcdsa, by_ec},
      {KeyAlgorithm::kEcP384, pkcs8_of(crypto::EcPrivateKey::generate(crypto::EcCurve::kP384)),
       SignScheme::kEcdsa, by_ec},
      {KeyAlgorithm::kSm2, pkcs8_of(crypto::Sm2PrivateKey::generate()), SignScheme::kSm2, by_sm2}};
  for (const auto& kind : kinds) {
    SCOPED_TRACE(key_algorithm_name(kind.algorithm));
    const CmkRecord key = create_external(kind.algorithm, KeyUsage::kSignVerify);
    EXPECT_EQ(key.state, KeyState::kPendingImport);
    EXPECT_EQ(key.protection, Protection::kRooted);
    EXPECT_TRUE(key.current().public_key.empty());
    EXPECT_THAT(sign(key.id, kind.scheme), FailsWith(Reason::kKeyPendingImport));
    const auto imported = import(key.id, kind.pkcs8);
    ASSERT_THAT(imported, Succeeds());
    EXPECT_EQ(imported->state, KeyState::kEnabled);
    EXPECT_EQ(imported->current().wraps_leased, 0U);
    const auto signature = sign(key.id, kind.scheme);
    ASSERT_THAT(signature, Succeeds());
    EXPECT_THAT(kind.verify(imported->current().public_key, *signature), Succeeds());
  }
  EXPECT_EQ(log_.count(audit::Kind::kResult, "key.import"), kinds.size());
}

TEST_F(PrivateKeyImportTest, KeysThatDecryptOpenWhatTheirPublicHalfEncrypted) {
  const auto rsa = crypto::RsaPrivateKey::generate(2048);
  const CmkId rsa_id = create_external(KeyAlgorithm::kRsa2048, KeyUsage::kAsymmetricDecrypt).id;
  ASSERT_THAT(import(rsa_id, pkcs8_of(rsa), {}, ImportWrapping::kRsaAesSha1), Succeeds());
  const auto half = *rsa->public_key();
  expect_opens(rsa_id, DecryptScheme::kRsaOaepSha256, half.encrypt(crypto::kOaepSha256, kText));
  expect_opens(rsa_id, DecryptScheme::kRsaPkcs1, half.encrypt_pkcs1(kText));
  EXPECT_EQ(keyring_->get(rsa_id)->current().public_key, *half.to_der());

  const auto sm2 = crypto::Sm2PrivateKey::generate();
  const CmkId sm2_id = create_external(KeyAlgorithm::kSm2, KeyUsage::kAsymmetricDecrypt).id;
  ASSERT_THAT(import(sm2_id, pkcs8_of(sm2)), Succeeds());
  expect_opens(sm2_id, DecryptScheme::kSm2, sm2->public_key()->encrypt(kText));
  EXPECT_THAT(sign(sm2_id, SignScheme::kSm2), FailsWith(Reason::kKeyUsage));
}

TEST_F(PrivateKeyImportTest, OtherWrappingsAreRefused) {
  const CmkId id = create_signer().id;
  for (const auto wrapping : {ImportWrapping::kRsaPkcs1, ImportWrapping::kRsaOaepSha1,
                              ImportWrapping::kRsaOaepSha256, ImportWrapping::kSm2}) {
    EXPECT_THAT(keyring_->prepare_import(id, wrapping, actor_), FailsWith(Reason::kUnsupported))
        << import_wrapping_name(wrapping);
  }
  EXPECT_THAT(
      keyring_->prepare_import(id, ImportWrapping::kRsaOaepSha256, actor_).error().message(),
      HasSubstr("rsa-aes-key-wrap-sha256"));
}

TEST_F(PrivateKeyImportTest, NoTokenTakesPrivateKeysIn) {
  CmkParameters parameters;
  parameters.alias = "a";
  parameters.origin = KeyOrigin::kImported;
  parameters.algorithm = KeyAlgorithm::kEcP256;
  parameters.usage = KeyUsage::kSignVerify;
  parameters.protection = Protection::kWrapped;
  EXPECT_THAT(keyring_->create(parameters, actor_), FailsWith(Reason::kUnsupported));
  parameters.protection = Protection::kRooted;
  EXPECT_THAT(keyring_->create(parameters, actor_), Succeeds());
}

TEST_F(PrivateKeyImportTest, WhatIsNoKeyOfItsKindIsRefused) {
  const CmkId id = create_signer().id;
  const auto refused = [&](ByteView pkcs8, const char* why) {
    const auto done = import(id, pkcs8);
    ASSERT_THAT(done, FailsWith(Reason::kImportRefused)) << why;
    EXPECT_THAT(done.error().message(), HasSubstr(why));
  };
  refused(pkcs8_of(crypto::EcPrivateKey::generate(crypto::EcCurve::kP384)), "curve");
  refused(pkcs8_of(crypto::Sm2PrivateKey::generate()), "curve");
  refused(ByteView(ec_).first(ec_.size() - 1), "PKCS #8");
  refused(joined({ec_, Bytes(1)}), "PKCS #8");
  refused(Bytes(32, std::byte{7}), "PKCS #8");
  EcForm form = EcForm::of(Pkcs8::of(ec_).key);
  form.point.back() ^= std::byte{1};
  Pkcs8 foreign = Pkcs8::of(ec_);
  foreign.key = form.written();
  refused(foreign.written(), "another key's");
  EXPECT_EQ(keyring_->get(id)->state, KeyState::kPendingImport);
  EXPECT_TRUE(keyring_->get(id)->current().public_key.empty());
}

// Of what does not unwrap nothing is told but that.
TEST_F(PrivateKeyImportTest, WhatDoesNotUnwrapIsRefusedInOneVoice) {
  const CmkId id = create_signer().id;
  const auto prepared = prepare(id);
  const Bytes good = wrap_for(prepared, ImportWrapping::kRsaAesSha256, ec_);
  const auto with = [&](const Bytes& wrapped) {
    return keyring_->import_material(id, {prepared.token, wrapped, {}}, actor_);
  };
  const auto changed = [&](std::size_t at) {
    Bytes wrapped = good;
    wrapped.at(at) ^= std::byte{1};
    return wrapped;
  };
  const Bytes foreign = wrap_for(prepare(create_signer().id), ImportWrapping::kRsaAesSha256, ec_);
  const Bytes only_head(good.begin(), good.begin() + 512);
  const Bytes cut(good.begin(), good.end() - 8);
  const Bytes uneven(good.begin(), good.end() - 1);
  std::string message;
  for (const Bytes& bad : {changed(3), changed(500), changed(512), changed(good.size() - 1),
                           only_head, cut, uneven, foreign, Bytes(), Bytes(8193)}) {
    const auto done = with(bad);
    ASSERT_THAT(done, FailsWith(Reason::kImportRefused));
    if (message.empty()) message = done.error().message();
    EXPECT_EQ(done.error().message(), message);
  }
  EXPECT_THAT(with(good), Succeeds());
}

TEST_F(PrivateKeyImportTest, TheSameKeyComesBackInAnySpellingAndNoOtherDoes) {
  const CmkId id = bring(ec_);
  const Bytes half = keyring_->get(id)->current().public_key;
  const auto signature = *sign(id);
  ASSERT_THAT(keyring_->delete_material(id, actor_), Succeeds());
  EXPECT_EQ(keyring_->get(id)->state, KeyState::kPendingImport);
  EXPECT_FALSE(keyring_->get(id)->has_material());
  EXPECT_EQ(keyring_->get(id)->current().public_key, half) << "its signatures are still checked";
  EXPECT_THAT(sign(id), FailsWith(Reason::kKeyPendingImport));

  const auto other = crypto::EcPrivateKey::generate(crypto::EcCurve::kP256);
  EXPECT_THAT(import(id, pkcs8_of(other)), FailsWith(Reason::kMaterialMismatch));
  EcForm form = EcForm::of(Pkcs8::of(ec_).key);
  form.point = form.compressed_point();
  Pkcs8 spelled = Pkcs8::of(ec_);
  spelled.key = form.written();
  spelled.behind = some_attribute();
  ASSERT_NE(spelled.written(), ec_);
  ASSERT_THAT(import(id, spelled.written()), Succeeds());
  EXPECT_EQ(keyring_->get(id)->state, KeyState::kEnabled);
  EXPECT_EQ(keyring_->get(id)->current().public_key, half);
  EXPECT_THAT(crypto::EcPublicKey::parse(half)->verify(kDigest, *sign(id)), Succeeds());
  EXPECT_THAT(crypto::EcPublicKey::parse(half)->verify(kDigest, signature), Succeeds());
  // Enabled, for another time to end at.
  EXPECT_THAT(import(id, ec_, clock_.wall() + hours(3)), Succeeds());
  EXPECT_THAT(import(id, pkcs8_of(other)), FailsWith(Reason::kMaterialMismatch));
}

TEST_F(PrivateKeyImportTest, AnRsaKeyIsTheSameWithItsFactorsTheOtherWayRound) {
  const Bytes whole = pkcs8_of(crypto::RsaPrivateKey::generate(2048));
  const CmkId id = create_external(KeyAlgorithm::kRsa2048, KeyUsage::kSignVerify).id;
  ASSERT_THAT(import(id, whole), Succeeds());
  ASSERT_THAT(keyring_->delete_material(id, actor_), Succeeds());
  Pkcs8 turned = Pkcs8::of(whole);
  turned.key = RsaForm::of(turned.key).turned().written();
  EXPECT_THAT(import(id, pkcs8_of(crypto::RsaPrivateKey::generate(2048))),
              FailsWith(Reason::kMaterialMismatch));
  ASSERT_THAT(import(id, turned.written()), Succeeds());
  EXPECT_THAT(sign(id, SignScheme::kRsaPkcs1Sha256), Succeeds());
}

TEST_F(PrivateKeyImportTest, AKeyWhoseTimeIsOverIsNotUsedAndThenDropped) {
  const CmkId id = bring(ec_, clock_.wall() + hours(2));
  EXPECT_THAT(sign(id), Succeeds());
  clock_.advance(hours(2));
  EXPECT_EQ(keyring_->get(id)->state, KeyState::kEnabled);
  EXPECT_THAT(sign(id), FailsWith(Reason::kKeyPendingImport)) << "before anybody dropped it";
  const auto report = run_due_for_sure();
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].state, KeyState::kPendingImport);
  EXPECT_FALSE(report->done[0].has_material());
  EXPECT_FALSE(report->done[0].current().public_key.empty());
  EXPECT_THAT(sign(id), FailsWith(Reason::kKeyPendingImport));
  EXPECT_THAT(import(id, ec_), Succeeds());
}

TEST_F(PrivateKeyImportTest, ItGoesThroughItsStatesAndNeverRotates) {
  const CmkId id = bring(ec_);
  EXPECT_THAT(keyring_->rotate(id, actor_), FailsWith(Reason::kKeyUsage));
  EXPECT_THAT(keyring_->set_rotation(id, 90, actor_), FailsWith(Reason::kKeyUsage));
  ASSERT_THAT(keyring_->disable(id, actor_), Succeeds());
  EXPECT_THAT(sign(id), FailsWith(Reason::kKeyDisabled));
  const auto prepared = prepare(id);
  EXPECT_THAT(
      keyring_->import_material(
          id, {prepared.token, wrap_for(prepared, ImportWrapping::kRsaAesSha256, ec_), {}}, actor_),
      FailsWith(Reason::kKeyDisabled));
  ASSERT_THAT(keyring_->schedule_deletion(id, 7, actor_), Succeeds());
  EXPECT_THAT(keyring_->prepare_import(id, ImportWrapping::kRsaAesSha256, actor_),
              FailsWith(Reason::kKeyPendingDeletion));
  clock_.advance(std::chrono::days(7));
  ASSERT_THAT(run_due_for_sure(), Succeeds());
  EXPECT_THAT(keyring_->get(id), FailsWith(Reason::kNoSuchKey));

  // One that never had any material is rescued and destroyed as well.
  const CmkId empty = create_signer().id;
  ASSERT_THAT(keyring_->schedule_deletion(empty, 7, actor_), Succeeds());
  EXPECT_EQ(keyring_->cancel_deletion(empty, actor_)->state, KeyState::kPendingImport);
  ASSERT_THAT(keyring_->schedule_deletion(empty, 7, actor_), Succeeds());
  clock_.advance(std::chrono::days(7));
  ASSERT_THAT(run_due_for_sure(), Succeeds());
  EXPECT_THAT(keyring_->get(empty), FailsWith(Reason::kNoSuchKey));
}

// The largest that there is, under a description of every byte that it may have.
TEST_F(PrivateKeyImportTest, TheLargestRecordHasRoomForItsNextOffer) {
  CmkParameters parameters;
  parameters.alias = std::string(60, 'a');
  parameters.description = std::string(1024, 'x');
  parameters.origin = KeyOrigin::kImported;
  parameters.algorithm = KeyAlgorithm::kRsa4096;
  parameters.usage = KeyUsage::kAsymmetricDecrypt;
  const CmkId id = create(parameters).id;
  const Bytes whole = pkcs8_of(crypto::RsaPrivateKey::generate(4096));
  ASSERT_THAT(import(id, whole, clock_.wall() + hours(300)), Succeeds());
  // The longest form that one may have: an attribute fills it up.
  Pkcs8 longest = Pkcs8::of(whole);
  longest.behind = der(crypto::der_context(0), Bytes(2000));
  const std::size_t rest_bytes = crypto::kPrivateKeyInfoBytesMax - longest.written().size();
  longest.behind = der(crypto::der_context(0), Bytes(2000 + rest_bytes));
  ASSERT_EQ(longest.written().size(), crypto::kPrivateKeyInfoBytesMax);
  EXPECT_THAT(import(id, longest.written(), clock_.wall() + hours(200)), Succeeds());
  EXPECT_THAT(keyring_->disable(id, actor_), Succeeds());
  EXPECT_THAT(keyring_->schedule_deletion(id, 30, actor_), Succeeds());
}

}  // namespace
}  // namespace coffer::tests

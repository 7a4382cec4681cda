// SPDX-License-Identifier: Apache-2.0
// What keys of every algorithm are used for.
#include <gtest/gtest.h>

#include "core/crypto/digest.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "tests/fakes/flaky_vault.h"
#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::DecryptScheme;
using keyring::KeyAlgorithm;
using keyring::KeyUsage;
using keyring::Protection;
using keyring::Rewrapped;
using keyring::SignScheme;

class KeyUseTest : public KeyFixture {
 protected:
  CmkRecord create_rooted(KeyAlgorithm algorithm, KeyUsage usage) {
    CmkParameters parameters;
    parameters.algorithm = algorithm;
    parameters.usage = usage;
    parameters.protection = Protection::kRooted;
    return create(parameters);
  }
  Result<Bytes> sign(const CmkRecord& key, SignScheme scheme, const Bytes& digest) {
    return keyring_->sign(key.id, scheme, {&digest, 1}, actor_).at(0);
  }
  // Whether the text comes back.
  Result<bool> decrypts(const CmkRecord& key, DecryptScheme scheme, const Bytes& ciphertext) {
    const auto opened = keyring_->decrypt(key.id, scheme, {&ciphertext, 1}, actor_);
    if (!opened.at(0)) return tl::unexpected(opened.at(0).error());
    return std::ranges::equal(opened.at(0)->reveal(), ByteView(text_));
  }

  const Bytes text_ = Bytes(24, std::byte{'t'});
  const Bytes digest_ = Bytes(32, std::byte{7});
};

TEST_F(KeyUseTest, RootedSymmetricKeysWrapAndSayHow) {
  for (const auto algorithm : {KeyAlgorithm::kAes256, KeyAlgorithm::kSm4}) {
    const CmkRecord key = create_rooted(algorithm, KeyUsage::kEncryptDecrypt);
    const auto blob = wrap(key.id);
    ASSERT_THAT(blob, Succeeds());
    EXPECT_EQ(blob->profile, algorithm == KeyAlgorithm::kSm4 ? keyring::KekProfile::kSm4Gcm
                                                             : keyring::KekProfile::kAesGcm);
    EXPECT_THAT(unwrap(*blob), Succeeds());
    ASSERT_THAT(keyring_->rotate(key.id, actor_), Succeeds());
    EXPECT_THAT(unwrap(*blob), Succeeds()) << "under its old version";
    EXPECT_EQ(wrap(key.id)->cmk_version, 2U);
  }
}

TEST_F(KeyUseTest, RsaKeysSignAndDecrypt) {
  const CmkRecord signer = create_rooted(KeyAlgorithm::kRsa2048, KeyUsage::kSignVerify);
  const auto half = crypto::RsaPublicKey::parse(signer.current().public_key);
  ASSERT_THAT(half, Succeeds());
  const auto pss = sign(signer, SignScheme::kRsaPssSha256, digest_);
  ASSERT_THAT(pss, Succeeds());
  EXPECT_THAT(half->verify(crypto::RsaScheme::kPssSha256, digest_, *pss), Succeeds());
  const auto pkcs1 = sign(signer, SignScheme::kRsaPkcs1Sha256, digest_);
  ASSERT_THAT(pkcs1, Succeeds());
  EXPECT_THAT(half->verify(crypto::RsaScheme::kPkcs1Sha256, digest_, *pkcs1), Succeeds());

  const CmkRecord reader = create_rooted(KeyAlgorithm::kRsa2048, KeyUsage::kAsymmetricDecrypt);
  const auto to = crypto::RsaPublicKey::parse(reader.current().public_key);
  ASSERT_THAT(to, Succeeds());
  EXPECT_EQ(
      *decrypts(reader, DecryptScheme::kRsaOaepSha256, *to->encrypt(crypto::kOaepSha256, text_)),
      true);
  EXPECT_EQ(*decrypts(reader, DecryptScheme::kRsaOaepSha1, *to->encrypt(crypto::kOaepSha1, text_)),
            true);
  EXPECT_EQ(*decrypts(reader, DecryptScheme::kRsaPkcs1, *to->encrypt_pkcs1(text_)), true);
  EXPECT_THAT(decrypts(reader, DecryptScheme::kRsaOaepSha256, Bytes(256)),
              FailsWith(Reason::kBlobInvalid));
}

// The contract makes the smallest alone, on every token.
TEST_F(KeyUseTest, LargeRsaKeysSignAndDecrypt) {
  const CmkRecord signer = create_rooted(KeyAlgorithm::kRsa3072, KeyUsage::kSignVerify);
  const auto half = crypto::RsaPublicKey::parse(signer.current().public_key);
  ASSERT_THAT(half, Succeeds());
  EXPECT_EQ(half->size_bits(), 3072U);
  const auto signature = sign(signer, SignScheme::kRsaPssSha256, digest_);
  ASSERT_THAT(signature, Succeeds());
  EXPECT_THAT(half->verify(crypto::RsaScheme::kPssSha256, digest_, *signature), Succeeds());

  const CmkRecord reader = create_rooted(KeyAlgorithm::kRsa4096, KeyUsage::kAsymmetricDecrypt);
  const auto to = crypto::RsaPublicKey::parse(reader.current().public_key);
  ASSERT_THAT(to, Succeeds());
  EXPECT_EQ(to->size_bits(), 4096U);
  EXPECT_EQ(
      *decrypts(reader, DecryptScheme::kRsaOaepSha256, *to->encrypt(crypto::kOaepSha256, text_)),
      true);
  EXPECT_EQ(*decrypts(reader, DecryptScheme::kRsaPkcs1, *to->encrypt_pkcs1(text_)), true);
}

TEST_F(KeyUseTest, Sm2KeysSignAndDecrypt) {
  const CmkRecord signer = create_rooted(KeyAlgorithm::kSm2, KeyUsage::kSignVerify);
  const auto half = crypto::Sm2PublicKey::parse(signer.current().public_key);
  ASSERT_THAT(half, Succeeds());
  const auto signature = sign(signer, SignScheme::kSm2, digest_);
  ASSERT_THAT(signature, Succeeds());
  EXPECT_THAT(half->verify(digest_, *signature), Succeeds());

  const CmkRecord reader = create_rooted(KeyAlgorithm::kSm2, KeyUsage::kAsymmetricDecrypt);
  const auto to = crypto::Sm2PublicKey::parse(reader.current().public_key);
  EXPECT_EQ(*decrypts(reader, DecryptScheme::kSm2, *to->encrypt(text_)), true);
}

TEST_F(KeyUseTest, EcKeysSign) {
  for (const auto algorithm : {KeyAlgorithm::kEcP256, KeyAlgorithm::kEcP384}) {
    const CmkRecord signer = create_rooted(algorithm, KeyUsage::kSignVerify);
    const auto half = crypto::EcPublicKey::parse(signer.current().public_key);
    ASSERT_THAT(half, Succeeds());
    const auto signature = sign(signer, SignScheme::kEcdsa, digest_);
    ASSERT_THAT(signature, Succeeds());
    EXPECT_THAT(half->verify(digest_, *signature), Succeeds());
  }
}

TEST_F(KeyUseTest, AKeyDoesWhatItWasMadeForAndNothingElse) {
  const CmkRecord signer = create_rooted(KeyAlgorithm::kEcP256, KeyUsage::kSignVerify);
  EXPECT_THAT(wrap(signer.id), FailsWith(Reason::kKeyUsage));
  EXPECT_THAT(decrypts(signer, DecryptScheme::kSm2, text_), FailsWith(Reason::kKeyUsage));
  EXPECT_THAT(sign(signer, SignScheme::kSm2, digest_), FailsWith(Reason::kKeyUsage));
  EXPECT_THAT(sign(signer, SignScheme::kEcdsa, Bytes(31)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->rotate(signer.id, actor_), FailsWith(Reason::kKeyUsage));
  EXPECT_THAT(sign(create({}), SignScheme::kEcdsa, digest_), FailsWith(Reason::kKeyUsage));
  ASSERT_THAT(keyring_->disable(signer.id, actor_), Succeeds());
  EXPECT_THAT(sign(signer, SignScheme::kEcdsa, digest_), FailsWith(Reason::kKeyDisabled));
  ASSERT_THAT(keyring_->archive(signer.id, actor_), Succeeds());
  EXPECT_THAT(sign(signer, SignScheme::kEcdsa, digest_), FailsWith(Reason::kKeyArchived));

  const CmkRecord reader = create_rooted(KeyAlgorithm::kSm2, KeyUsage::kAsymmetricDecrypt);
  ASSERT_THAT(keyring_->cancel_archive(signer.id, actor_), Succeeds());
  for (const auto& key : {signer, reader}) {
    ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
    ASSERT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), Succeeds());
  }
  EXPECT_THAT(sign(signer, SignScheme::kEcdsa, digest_), FailsWith(Reason::kKeyPendingDeletion));
  EXPECT_THAT(decrypts(reader, DecryptScheme::kSm2, text_), FailsWith(Reason::kKeyPendingDeletion));

  CmkParameters impossible;
  impossible.alias = "impossible";
  impossible.algorithm = KeyAlgorithm::kEcP256;
  EXPECT_THAT(keyring_->create(impossible, actor_), FailsWith(Reason::kInvalidArgs));
  impossible.usage = KeyUsage::kSignVerify;
  impossible.protection = Protection::kWrapped;
  EXPECT_THAT(keyring_->create(impossible, actor_), FailsWith(Reason::kUnsupported))
      << "this token wraps AES-256 alone";
  impossible.protection.reset();
  EXPECT_EQ(keyring_->create(impossible, actor_)->protection, Protection::kRooted);
}

TEST_F(KeyUseTest, KeysAreRewrappedToTheNewestVersionAndToOtherKeys) {
  const CmkRecord old = create({});
  const CmkRecord other = create_rooted(KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt);
  const auto blob = *wrap(old.id);
  ASSERT_THAT(keyring_->rotate(old.id, actor_), Succeeds());
  const Rewrapped same{{blob, one_plain()[0].context}, one_plain()[0].context};
  const auto newer = keyring_->rewrap(old.id, {&same, 1}, actor_).at(0);
  ASSERT_THAT(newer, Succeeds());
  EXPECT_EQ(newer->cmk_version, 2U);
  EXPECT_EQ(log_.events().back().text, "1 of 1 keys, wrapped under key " + old.id.str());
  ASSERT_THAT(keyring_->destroy_version(old.id, 1, actor_, keyring::WhenBound::kGoOn), Succeeds());
  EXPECT_THAT(unwrap(*newer), Succeeds());
  EXPECT_THAT(unwrap(blob), FailsWith(Reason::kBlobInvalid));

  // An archived key gives what it has to another one.
  ASSERT_THAT(keyring_->archive(old.id, actor_), Succeeds());
  const Rewrapped away{{*newer, one_plain()[0].context}, one_plain()[0].context};
  const auto moved = keyring_->rewrap(other.id, {&away, 1}, actor_).at(0);
  ASSERT_THAT(moved, Succeeds());
  EXPECT_EQ(moved->cmk, other.id);
  EXPECT_THAT(unwrap(*moved), Succeeds());
  EXPECT_THAT(keyring_->rewrap(old.id, {&away, 1}, actor_).at(0), FailsWith(Reason::kKeyArchived));
}

TEST_F(KeyUseTest, AChangeInTheMidstOfACallCostsNoKey) {
  FlakyVault flaky(*vault_);
  keyring_.emplace(keyring::Keyring::Parts{flaky, store_, log_, clock_});
  const CmkRecord from = create({});
  const CmkRecord to = create({});
  const Rewrapped one{{*wrap(from.id), one_plain()[0].context}, one_plain()[0].context};
  const std::vector<Rewrapped> three(3, one);
  for (const auto& changed : {from, to}) {
    flaky.between_messages([&] { ASSERT_THAT(keyring_->rotate(changed.id, actor_), Succeeds()); });
    const auto moved = keyring_->rewrap(to.id, three, actor_);
    ASSERT_EQ(moved.size(), 3U);
    for (const auto& blob : moved) {
      ASSERT_THAT(blob, Succeeds());
      EXPECT_THAT(unwrap(*blob), Succeeds());
    }
  }
  const CmkRecord signer = create_rooted(KeyAlgorithm::kEcP256, KeyUsage::kSignVerify);
  flaky.between_messages(
      [&] { ASSERT_THAT(keyring_->describe(signer.id, "signer", "", actor_), Succeeds()); });
  const std::vector<Bytes> digests(3, digest_);
  for (const auto& signature : keyring_->sign(signer.id, SignScheme::kEcdsa, digests, actor_)) {
    EXPECT_THAT(signature, Succeeds());
  }
}

TEST_F(KeyUseTest, AVolumesKeyKeepsItsContextWhenItIsRewrapped) {
  const CmkRecord key = create({});
  keyring::KeyContext context;
  context.volume = *VolumeId::random();
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  const keyring::DekRequest request{context, 77};
  const auto blob = keyring_
                        ->make_deks(key.id, {&request, 1}, *keyring::draw_ticket(), 0, actor_,
                                    Deadline::after(std::chrono::seconds(30)))
                        .at(0);
  ASSERT_THAT(blob, Succeeds());
  const Rewrapped good{{*blob, context}, context};
  EXPECT_THAT(keyring_->rewrap(key.id, {&good, 1}, actor_).at(0), Succeeds());
  Rewrapped elsewhere = good;
  elsewhere.to.volume = *VolumeId::random();
  EXPECT_THAT(keyring_->rewrap(key.id, {&elsewhere, 1}, actor_).at(0),
              FailsWith(Reason::kWrongPurpose));
  Rewrapped out = good;
  out.to = one_plain()[0].context;
  EXPECT_THAT(keyring_->rewrap(key.id, {&out, 1}, actor_).at(0), FailsWith(Reason::kWrongPurpose));
}

}  // namespace
}  // namespace coffer::tests

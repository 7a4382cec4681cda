// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_token.h"

#include <gtest/gtest.h>

#include <array>

#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "hsm/token_setup.h"
#include "tests/support/result_matchers.h"
#include "tests/support/softhsm.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

class Pkcs11TokenTest : public testing::Test {
 protected:
  void SetUp() override {
    module_ = tests::softhsm_module_path();
    if (module_.empty()) GTEST_SKIP() << "SoftHSM is not installed";
    const auto made = folder_.make_token(module_, "coffer test");
    ASSERT_THAT(made, Succeeds());
    root_id_ = *made;
    token_ =
        std::make_unique<Pkcs11Token>(Pkcs11Token::Options{folder_.link(module_, "coffer test")});
  }

  tests::SoftHsmFolder folder_;
  std::string module_;
  std::string root_id_;
  std::unique_ptr<Pkcs11Token> token_;
};

TEST_F(Pkcs11TokenTest, TokenMadeBySetupIsUpAndSaysWhatItIs) {
  const auto health = token_->health();
  EXPECT_EQ(health.state, keyring::VaultState::kUp) << health.detail;
  EXPECT_EQ(health.token_label, "coffer test");
  EXPECT_EQ(health.root_id, root_id_);
  EXPECT_EQ(health.kind, keyring::TokenKind::kSoftware);
  EXPECT_EQ(health.maker, keyring::VaultMaker::kPkcs11);
  EXPECT_EQ(health.profile, keyring::KekProfile::kAesGcm);
}

TEST_F(Pkcs11TokenTest, EqualSeedsGiveEqualKeysOnAnotherToken) {
  token_.reset();
  const auto standby = folder_.make_token(module_, "standby");
  EXPECT_EQ(standby.value(), root_id_);
  const auto seed = SecretBytes::random(kSeedBytes);
  const auto other = folder_.make_token(module_, "other", &*seed);
  EXPECT_NE(other.value(), root_id_);
}

TEST_F(Pkcs11TokenTest, ADestroyedVersionLeavesNoObjectAndNoneIsKeptAgain) {
  keyring::CmkRecord record{.id = *CmkId::random()};
  const auto made = token_->generate(record.id, 1, {});
  ASSERT_THAT(made, Succeeds());
  record.versions.push_back(
      {.number = 1, .profile = keyring::KekProfile::kAesGcm, .material = made->material});
  const auto other = token_->generate(*CmkId::random(), 1, {});
  ASSERT_THAT(other, Succeeds());
  EXPECT_EQ(token_->handles(), 2U);
  ASSERT_THAT(token_->destroy(record.id, 1), Succeeds());
  EXPECT_EQ(token_->handles(), 1U);
  // By a call that began before.
  const Bytes plain(32);
  const EncryptJob job{plain, {}};
  EXPECT_THAT(token_->encrypt({record, record.current()}, {&job, 1}).at(0), Succeeds());
  EXPECT_EQ(token_->handles(), 1U);
}

// A record as the rules would make it of a key that signs.
keyring::CmkRecord record_of(keyring::KeyAlgorithm algorithm, const CmkId& id, const NewKey& made) {
  keyring::CmkRecord record{.id = id};
  record.algorithm = algorithm;
  record.usage = keyring::KeyUsage::kSignVerify;
  record.versions.push_back({.number = 1,
                             .profile = keyring::KekProfile::kNone,
                             .material = made.material,
                             .public_key = made.public_key});
  return record;
}

constexpr std::array kPrivate{keyring::KeyAlgorithm::kRsa2048, keyring::KeyAlgorithm::kRsa3072,
                              keyring::KeyAlgorithm::kRsa4096, keyring::KeyAlgorithm::kEcP256,
                              keyring::KeyAlgorithm::kEcP384};

TEST_F(Pkcs11TokenTest, PrivateKeysOfEverySizeSignInTheTokenAndLeaveNothingInIt) {
  ASSERT_THAT(token_->supports(), Succeeds());  // What a connection and its trial leave is counted.
  const auto before = tests::count_objects(module_, "coffer test");
  ASSERT_GT(before, 0U);
  const Bytes digest(32, std::byte{0x17});
  for (const auto algorithm : kPrivate) {
    const auto id = *CmkId::random();
    const auto made = token_->generate(
        id, 1, {algorithm, keyring::KeyUsage::kSignVerify, keyring::Protection::kWrapped});
    ASSERT_THAT(made, Succeeds()) << key_algorithm_name(algorithm);
    EXPECT_LE(made->material.size(), 4096U);
    // The one object that is kept for use.
    EXPECT_EQ(token_->handles(), 1U);
    EXPECT_EQ(tests::count_objects(module_, "coffer test"), before + 1);
    const auto record = record_of(algorithm, id, *made);
    const bool rsa = algorithm <= keyring::KeyAlgorithm::kRsa4096;
    const auto scheme = rsa ? keyring::SignScheme::kRsaPkcs1Sha256 : keyring::SignScheme::kEcdsa;
    const auto signature = token_->sign({record, record.current()}, scheme, digest);
    ASSERT_THAT(signature, Succeeds()) << key_algorithm_name(algorithm);
    if (rsa) {
      const auto half = crypto::RsaPublicKey::parse(made->public_key);
      EXPECT_EQ(half->size_bits(), signature->size() * 8);
      EXPECT_THAT(half->verify(crypto::RsaScheme::kPkcs1Sha256, digest, *signature), Succeeds());
    } else {
      EXPECT_THAT(crypto::EcPublicKey::parse(made->public_key)->verify(digest, *signature),
                  Succeeds());
    }
    ASSERT_THAT(token_->destroy(id, 1), Succeeds());
    EXPECT_EQ(tests::count_objects(module_, "coffer test"), before);
  }
}

TEST_F(Pkcs11TokenTest, PrivateKeysComeBackAfterARestartAndOnATokenOfTheSameSeed) {
  const auto id = *CmkId::random();
  const auto made =
      token_->generate(id, 1,
                       {keyring::KeyAlgorithm::kEcP256, keyring::KeyUsage::kSignVerify,
                        keyring::Protection::kWrapped});
  ASSERT_THAT(made, Succeeds());
  const auto record = record_of(keyring::KeyAlgorithm::kEcP256, id, *made);
  const Bytes digest(32, std::byte{0x17});
  token_.reset();
  ASSERT_THAT(folder_.make_token(module_, "standby"), Succeeds());
  for (const auto* label : {"coffer test", "standby"}) {
    Pkcs11Token token({folder_.link(module_, label)});
    EXPECT_THAT(token.sign({record, record.current()}, keyring::SignScheme::kEcdsa, digest),
                Succeeds())
        << label;
  }
}

// A record is sealed, so this is what a token does of itself when one was changed all the same.
TEST_F(Pkcs11TokenTest, APublicHalfOfAnotherKeyGetsNoSignature) {
  const keyring::KeySupport kind{keyring::KeyAlgorithm::kEcP256, keyring::KeyUsage::kSignVerify,
                                 keyring::Protection::kWrapped};
  const auto id = *CmkId::random();
  auto made = token_->generate(id, 1, kind);
  const auto other = token_->generate(*CmkId::random(), 1, kind);
  ASSERT_THAT(other, Succeeds());
  made->public_key = other->public_key;
  const auto record = record_of(kind.algorithm, id, *made);
  EXPECT_THAT(token_->sign({record, record.current()}, keyring::SignScheme::kEcdsa, Bytes(32)),
              FailsWith(Reason::kHsmFailed));
}

}  // namespace
}  // namespace coffer::hsm

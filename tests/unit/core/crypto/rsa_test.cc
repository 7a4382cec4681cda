// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/rsa.h"

#include <gmock/gmock.h>

#include <boost/json.hpp>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/crypto/crypto_testing.h"

namespace coffer::tests {
namespace {

using crypto::RsaScheme;

class RsaTest : public testing::Test {
 protected:
  static const crypto::RsaPrivateKey& key() {
    static const auto kMade = crypto::RsaPrivateKey::generate(2048);
    return *kMade;
  }
};

TEST_F(RsaTest, WhatIsEncryptedToThePublicHalfComesBack) {
  const auto there = crypto::RsaPublicKey::parse(*key().public_key()->to_der());
  ASSERT_THAT(there, Succeeds());
  EXPECT_EQ(there->size_bits(), 2048U);
  const auto back = crypto::RsaPrivateKey::parse(key().to_der()->reveal());
  ASSERT_THAT(back, Succeeds());
  for (const auto& params : {crypto::kOaepSha1, crypto::kOaepSha256}) {
    const auto sent = there->encrypt(params, as_bytes("a key"));
    ASSERT_THAT(sent, Succeeds());
    EXPECT_EQ(as_text(back->decrypt(params, *sent)->reveal()), "a key");
  }
}

TEST_F(RsaTest, PublicHalfHoldsNoPrivateOne) {
  EXPECT_THAT(crypto::RsaPrivateKey::parse(*key().public_key()->to_der()),
              FailsWith(Reason::kInvalidArgs));
}

TEST_F(RsaTest, RefusesWhatIsNoKeyOrOfAnotherSize) {
  EXPECT_THAT(crypto::RsaPrivateKey::generate(1024), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::RsaPrivateKey::parse(as_bytes("no key")), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::RsaPublicKey::parse({}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::RsaPublicKey::parse(filled(40000, 0)), FailsWith(Reason::kInvalidArgs));
}

TEST_F(RsaTest, RefusesOtherParametersTextsAndLengths) {
  const auto there = key().public_key();
  auto sent = there->encrypt(crypto::kOaepSha256, as_bytes("a key"));
  EXPECT_THAT(key().decrypt(crypto::kOaepSha1, *sent), FailsWith(Reason::kBlobInvalid));
  crypto::OaepParams labelled = crypto::kOaepSha256;
  labelled.label = as_bytes("label");
  EXPECT_THAT(key().decrypt(labelled, *sent), FailsWith(Reason::kBlobInvalid));
  sent->front() ^= std::byte{1};
  EXPECT_THAT(key().decrypt(crypto::kOaepSha256, *sent), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(key().decrypt(crypto::kOaepSha256, {}), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(there->encrypt(crypto::kOaepSha256, filled(191, 0)), FailsWith(Reason::kInvalidArgs));
}

TEST_F(RsaTest, BytesBehindTheDerAndOtherKindsOfKeysAreRefused) {
  Bytes der = *key().public_key()->to_der();
  der.push_back(std::byte{0});
  EXPECT_THAT(crypto::RsaPublicKey::parse(der), FailsWith(Reason::kInvalidArgs));
  const auto pem = key().public_key()->to_pem();
  ASSERT_THAT(pem, Succeeds());
  EXPECT_TRUE(pem->starts_with("-----BEGIN PUBLIC KEY-----\n"));
  EXPECT_EQ(*crypto::RsaPublicKey::parse(as_bytes(*pem))->to_der(), *key().public_key()->to_der());
}

TEST_F(RsaTest, SignaturesHoldForTheirKeySchemeAndDigestAlone) {
  const auto digest = crypto::sha256(as_bytes("message"));
  const auto other_digest = crypto::sha256(as_bytes("Message"));
  const auto there = key().public_key();
  const auto other_key = crypto::RsaPrivateKey::generate(2048)->public_key();
  for (const auto scheme : {RsaScheme::kPssSha256, RsaScheme::kPkcs1Sha256}) {
    const auto signature = key().sign(scheme, digest);
    ASSERT_THAT(signature, Succeeds());
    EXPECT_EQ(signature->size(), 256U);
    EXPECT_THAT(there->verify(scheme, digest, *signature), Succeeds());
    const auto other =
        scheme == RsaScheme::kPssSha256 ? RsaScheme::kPkcs1Sha256 : RsaScheme::kPssSha256;
    EXPECT_THAT(there->verify(other, digest, *signature), FailsWith(Reason::kBlobInvalid));
    EXPECT_THAT(there->verify(scheme, other_digest, *signature), FailsWith(Reason::kBlobInvalid));
    EXPECT_THAT(other_key->verify(scheme, digest, *signature), FailsWith(Reason::kBlobInvalid));
    for (const Bytes& bad : {flipped(*signature, 0), flipped(*signature, 255), Bytes(),
                             Bytes(signature->begin(), signature->end() - 1), filled(256, 0xff)}) {
      EXPECT_THAT(there->verify(scheme, digest, bad), FailsWith(Reason::kBlobInvalid));
    }
    EXPECT_THAT(key().sign(scheme, filled(31, 1)), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(key().sign(scheme, filled(48, 1)), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(there->verify(scheme, {}, *signature), FailsWith(Reason::kInvalidArgs));
  }
}

TEST_F(RsaTest, Pkcs1TextsOfEveryLengthComeBack) {
  const auto there = key().public_key();
  for (const std::size_t size : {0U, 1U, 16U, 32U, 245U}) {
    const auto sent = there->encrypt_pkcs1(filled(size, 7));
    ASSERT_THAT(sent, Succeeds());
    const auto text = key().decrypt_pkcs1(*sent);
    ASSERT_THAT(text, Succeeds());
    EXPECT_EQ(plain(*text), filled(size, 7));
  }
  EXPECT_THAT(there->encrypt_pkcs1(filled(246, 7)), FailsWith(Reason::kInvalidArgs));
}

TEST_F(RsaTest, WrongPkcs1PaddingGivesAnotherTextAndNoError) {
  const auto sent = key().public_key()->encrypt_pkcs1(filled(16, 7));
  std::size_t same_length = 0;
  // Not in the first bytes: there the number might come to lie above the modulus.
  for (std::size_t at = 8; at < 48; ++at) {
    const Bytes changed = flipped(*sent, at);
    const auto text = key().decrypt_pkcs1(changed);
    ASSERT_THAT(text, Succeeds());
    EXPECT_NE(plain(*text), filled(16, 7));
    // Each time the same one, as a true text would be.
    EXPECT_EQ(plain(*text), plain(*key().decrypt_pkcs1(changed)));
    if (text->size() == 16) ++same_length;
  }
  EXPECT_LT(same_length, 10U);
}

TEST_F(RsaTest, CiphertextsThatAnybodySeesAreWrongAreRefused) {
  const auto sent = key().public_key()->encrypt_pkcs1(filled(16, 7));
  for (const Bytes& bad : {Bytes(), Bytes(sent->begin(), sent->end() - 1), filled(257, 0),
                           filled(256, 0xff)}) {  // The last one is not below the modulus.
    EXPECT_THAT(key().decrypt_pkcs1(bad), FailsWith(Reason::kBlobInvalid));
  }
}

// With keys whose modulus is not whole 64-bit words as well.
TEST(RsaImplicitRejectionTest, GivesWhatAnotherImplementationGives) {
  const auto file = read_file(vectors_dir() / "rsa" / "implicit_rejection.json", 1 << 20);
  ASSERT_THAT(file, Succeeds());
  const auto vectors = boost::json::parse(as_text(*file));
  std::size_t cases = 0;
  for (const auto& group : vectors.at("testGroups").as_array()) {
    const auto key = crypto::RsaPrivateKey::parse(*from_hex(group.at("pkcs8").as_string()));
    ASSERT_THAT(key, Succeeds());
    for (const auto& entry : group.at("tests").as_array()) {
      const auto text = key->decrypt_pkcs1(*from_hex(entry.at("ct").as_string()));
      ASSERT_THAT(text, Succeeds()) << entry.at("case");
      EXPECT_EQ(to_hex(text->reveal()), entry.at("text").as_string()) << entry.at("case");
      ++cases;
    }
  }
  EXPECT_EQ(cases, 56U);
}

}  // namespace
}  // namespace coffer::tests

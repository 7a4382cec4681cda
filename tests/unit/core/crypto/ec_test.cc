// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/ec.h"

#include <gmock/gmock.h>

#include "core/base/encoding.h"
#include "core/crypto/digest.h"
#include "core/crypto/sm2.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/crypto/crypto_testing.h"

namespace coffer::tests {
namespace {

using crypto::EcCurve;
using crypto::EcPrivateKey;
using crypto::EcPublicKey;

// P-256 with its parameters spelled out, a point of secp256k1, and an encrypted key: made with
// OpenSSL's command.
constexpr std::string_view kExplicit = R"(-----BEGIN PUBLIC KEY-----
MIIBSzCCAQMGByqGSM49AgEwgfcCAQEwLAYHKoZIzj0BAQIhAP////8AAAABAAAA
AAAAAAAAAAAA////////////////MFsEIP////8AAAABAAAAAAAAAAAAAAAA////
///////////8BCBaxjXYqjqT57PrvVV2mIa8ZR0GsMxTsPY7zjw+J9JgSwMVAMSd
NgiG5wSTamZ44ROdJreBn36QBEEEaxfR8uEsQkf4vOblY6RA8ncDfYEt6zOg9KE5
RdiYwpZP40Li/hp/m47n60p8D54WK84zV2sxXs7LtkBoN79R9QIhAP////8AAAAA
//////////+85vqtpxeehPO5ysL8YyVRAgEBA0IABFyClGoQORw0liA4viRnFJD4
dpatcJ6pldrT/hSJbIrOSuyMrwCaSUXhxDnryqoTQJ7JtkduC0Lzx3KB6Odop9w=
-----END PUBLIC KEY-----
)";
constexpr std::string_view kOtherCurve = R"(-----BEGIN PUBLIC KEY-----
MFYwEAYHKoZIzj0CAQYFK4EEAAoDQgAEpTbrX7x4nNrdkqiTKjcVWkfrojG+Ucw/
6Aopoc+fkDrxSkHKjJ1YrWpxo6BljXpGIZpI9IMcW8bQeXnrjACdtQ==
-----END PUBLIC KEY-----
)";
constexpr std::string_view kEncrypted = R"(-----BEGIN ENCRYPTED PRIVATE KEY-----
MIHsMFcGCSqGSIb3DQEFDTBKMCkGCSqGSIb3DQEFDDAcBAi7mEMezrQQtQICA+gw
DAYIKoZIhvcNAgkFADAdBglghkgBZQMEASoEECZCfOEZfKhaQD5e8OOCmucEgZBo
bA0xj8fDE3K+tC8CuhvbmnjU/PyYykVn35udjxoV3iZgBP9PJTwJBg+CknjeKEVk
4Wm1ZaHkNqO2l9YLxhrm6WSahkPpQJHG2C2nl0hdyGZ/iB0qlnCHXulqoTGd9rHQ
LZ5v+HdBJcDYosTT0+hBBShYE/5+6soS8PXYjLrMb0KqMKOb0poBDJKbu9EAF3I=
-----END ENCRYPTED PRIVATE KEY-----
)";

TEST(EcTest, SignaturesHoldForTheirKeyAndDigestAlone) {
  for (const auto curve : {EcCurve::kP256, EcCurve::kP384}) {
    const auto key = EcPrivateKey::generate(curve);
    ASSERT_THAT(key, Succeeds());
    const auto there = key->public_key();
    const auto other = EcPrivateKey::generate(curve)->public_key();
    for (const std::size_t size : {32U, 48U, 64U}) {
      const Bytes digest = filled(size, 3);
      const auto signature = key->sign(digest);
      ASSERT_THAT(signature, Succeeds());
      EXPECT_THAT(there->verify(digest, *signature), Succeeds());
      EXPECT_THAT(there->verify(flipped(digest, 0), *signature), FailsWith(Reason::kBlobInvalid));
      EXPECT_THAT(other->verify(digest, *signature), FailsWith(Reason::kBlobInvalid));
      Bytes longer = *signature;
      longer.push_back(std::byte{0});
      for (const Bytes& bad : {flipped(*signature, 8), longer, Bytes()})
        EXPECT_THAT(there->verify(digest, bad), FailsWith(Reason::kBlobInvalid));
    }
    for (const std::size_t size : {0U, 20U, 33U, 65U}) {
      EXPECT_THAT(key->sign(filled(size, 3)), FailsWith(Reason::kInvalidArgs));
      EXPECT_THAT(there->verify(filled(size, 3), {}), FailsWith(Reason::kInvalidArgs));
    }
  }
}

TEST(EcTest, KeysComeBackFromDerAndPem) {
  for (const auto curve : {EcCurve::kP256, EcCurve::kP384}) {
    const auto key = EcPrivateKey::generate(curve);
    const auto back = EcPrivateKey::parse(key->to_der()->reveal());
    ASSERT_THAT(back, Succeeds());
    EXPECT_EQ(back->curve(), curve);
    EXPECT_EQ(plain(*back->to_der()), plain(*key->to_der()));
    const auto there = EcPublicKey::parse(as_bytes(*key->public_key()->to_pem()));
    ASSERT_THAT(there, Succeeds());
    EXPECT_EQ(there->curve(), curve);
    EXPECT_EQ(*there->to_der(), *key->public_key()->to_der());
    EXPECT_THAT(EcPrivateKey::parse(*there->to_der()), FailsWith(Reason::kInvalidArgs));
  }
}

TEST(EcTest, OtherKeysAreRefused) {
  for (const auto text : {kExplicit, kOtherCurve, std::string_view(), std::string_view("no key")})
    EXPECT_THAT(EcPublicKey::parse(as_bytes(text)), FailsWith(Reason::kInvalidArgs)) << text;
  EXPECT_THAT(EcPrivateKey::parse(as_bytes(kEncrypted)), FailsWith(Reason::kInvalidArgs));
  const auto sm2 = crypto::Sm2PrivateKey::generate();
  EXPECT_THAT(EcPrivateKey::parse(sm2->to_der()->reveal()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(EcPublicKey::parse(*sm2->public_key()->to_der()), FailsWith(Reason::kInvalidArgs));
}

TEST(EcTest, DamagedKeysAreRefused) {
  const auto key = EcPrivateKey::generate(EcCurve::kP256);
  const Bytes there = *key->public_key()->to_der();
  EXPECT_THAT(EcPublicKey::parse(flipped(there, there.size() - 1)),
              FailsWith(Reason::kInvalidArgs));  // No point of the curve.
  Bytes longer = there;
  longer.push_back(std::byte{0});
  EXPECT_THAT(EcPublicKey::parse(longer), FailsWith(Reason::kInvalidArgs));

  // The private number of one key and the point of another, which are the last 65 bytes of each.
  Bytes mixed = plain(*key->to_der());
  const auto other = plain(*EcPrivateKey::generate(EcCurve::kP256)->to_der());
  std::copy(other.end() - 65, other.end(), mixed.end() - 65);
  EXPECT_THAT(EcPrivateKey::parse(mixed), FailsWith(Reason::kInvalidArgs));
}

TEST(EcSignatureFormTest, BothFormsGiveEachOther) {
  const auto key = EcPrivateKey::generate(EcCurve::kP384);
  const auto der = key->sign(filled(48, 1));
  const auto raw = crypto::signature_from_der(*der, crypto::scalar_bytes(EcCurve::kP384));
  ASSERT_THAT(raw, Succeeds());
  EXPECT_EQ(raw->size(), 96U);
  EXPECT_EQ(*crypto::signature_to_der(*raw, 48), *der);
  // Zeros in front are dropped, and come back.
  Bytes small(64);
  small[31] = std::byte{0x80};
  small[63] = std::byte{1};
  EXPECT_EQ(to_hex(*crypto::signature_to_der(small, 32)), "300702020080020101");
  EXPECT_EQ(*crypto::signature_from_der(*from_hex("300702020080020101"), 32), small);
}

TEST(EcSignatureFormTest, WhatIsNoSignatureIsRefused) {
  for (const std::size_t size : {0U, 1U, 63U, 65U, 96U})
    EXPECT_THAT(crypto::signature_to_der(filled(size, 1), 32), FailsWith(Reason::kInvalidArgs));
  for (const std::size_t size : {0U, 67U})
    EXPECT_THAT(crypto::signature_to_der(filled(2 * size, 1), size),
                FailsWith(Reason::kInvalidArgs));
  for (const std::string_view bad : {
           "",
           "30070202008002",          // Cut off.
           "30070202008002010100",    // A byte behind it.
           "30810702020080020101",    // A size longer than needed.
           "3080020200800201010000",  // BER of unknown size.
           "30080203000080020101",    // A zero in front that is not needed.
           "30060201ff020101",        // A negative number.
           "300402020080",            // One number alone.
       }) {
    EXPECT_THAT(crypto::signature_from_der(from_hex(bad).value_or(Bytes()), 32),
                FailsWith(Reason::kBlobInvalid))
        << bad;
  }
  // Too large for 32 bytes.
  Bytes large = filled(96, 0x55);
  EXPECT_THAT(crypto::signature_from_der(*crypto::signature_to_der(large, 48), 32),
              FailsWith(Reason::kBlobInvalid));
}

}  // namespace
}  // namespace coffer::tests

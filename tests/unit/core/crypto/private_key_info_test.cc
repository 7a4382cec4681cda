// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/private_key_info.h"

#include <gmock/gmock.h>

#include <boost/json.hpp>
#include <string>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "tests/support/paths.h"
#include "tests/support/pkcs8_forms.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/crypto/crypto_testing.h"

namespace coffer::tests {
namespace {

using crypto::PrivateKeyKind;
using crypto::read_private_key_info;

// As OpenSSL writes them.
const Bytes kEcWhole = plain(*crypto::EcPrivateKey::generate(crypto::EcCurve::kP256)->to_der());
const Bytes kRsaWhole = plain(*crypto::RsaPrivateKey::generate(2048)->to_der());
const Pkcs8 kEc = Pkcs8::of(kEcWhole);
const Pkcs8 kRsa = Pkcs8::of(kRsaWhole);

Bytes read(ByteView der) {
  const auto info = read_private_key_info(der);
  EXPECT_THAT(info, Succeeds());
  return info ? plain(info->der) : Bytes();
}

void expect_refused(ByteView der, std::string_view what) {
  EXPECT_THAT(read_private_key_info(der), FailsWith(Reason::kInvalidArgs)) << what;
}

Bytes ec_with(const EcForm& form) {
  Pkcs8 info = kEc;
  info.key = form.written();
  return info.written();
}
Bytes rsa_with(const RsaForm& form) {
  Pkcs8 info = kRsa;
  info.key = form.written();
  return info.written();
}

// reference: tests/vectors/wycheproof, private keys of other hands.
TEST(PrivateKeyInfo, RsaKeysComeOutAsTheyWentIn) {
  for (const auto* name :
       {"rsa_oaep_2048_sha256_mgf1sha256.json", "rsa_oaep_3072_sha256_mgf1sha256.json",
        "rsa_oaep_4096_sha256_mgf1sha256.json"}) {
    const auto file = read_file(vectors_dir() / "wycheproof" / name, std::size_t{8} << 20U);
    ASSERT_THAT(file, Succeeds());
    const auto parsed = boost::json::parse(as_text(*file));
    const auto& groups = parsed.at("testGroups").as_array();
    ASSERT_FALSE(groups.empty());
    for (const auto& group : groups) {
      const Bytes pkcs8 = *from_hex(group.at("privateKeyPkcs8").as_string());
      const auto info = read_private_key_info(pkcs8);
      ASSERT_THAT(info, Succeeds()) << name;
      EXPECT_EQ(info->kind, PrivateKeyKind::kRsa);
      EXPECT_EQ(to_hex(plain(info->der)), to_hex(pkcs8)) << name;
      const auto key = crypto::RsaPrivateKey::parse(info->der.reveal());
      ASSERT_THAT(key, Succeeds());
      EXPECT_THAT(key->require_sound(), Succeeds()) << name;
    }
  }
}

TEST(PrivateKeyInfo, EveryKindIsTold) {
  const auto kind = [](const auto& key) {
    const auto info = read_private_key_info(key->to_der()->reveal());
    EXPECT_THAT(info, Succeeds());
    return info ? info->kind : PrivateKeyKind::kRsa;
  };
  EXPECT_EQ(kind(crypto::EcPrivateKey::generate(crypto::EcCurve::kP256)), PrivateKeyKind::kEcP256);
  EXPECT_EQ(kind(crypto::EcPrivateKey::generate(crypto::EcCurve::kP384)), PrivateKeyKind::kEcP384);
  EXPECT_EQ(kind(crypto::Sm2PrivateKey::generate()), PrivateKeyKind::kSm2);
  EXPECT_EQ(read_private_key_info(kRsaWhole)->kind, PrivateKeyKind::kRsa);
}

TEST(PrivateKeyInfo, OneKeyHasOneFormHoweverItWasSpelled) {
  const Bytes canonical = read(kEcWhole);
  EcForm form = EcForm::of(kEc.key);
  const auto info = read_private_key_info(kEcWhole);
  EXPECT_EQ(info->point, form.point);
  const auto key = crypto::EcPrivateKey::parse(canonical);
  ASSERT_THAT(key, Succeeds());
  const Bytes half = *key->public_key()->to_der();
  EXPECT_EQ(to_hex(ByteView(half).last(form.point.size())), to_hex(form.point));

  const Bytes point = std::exchange(form.point, {});
  EXPECT_EQ(read(ec_with(form)), canonical);
  EXPECT_EQ(ec_with(form), canonical) << "nothing in it that could be left out";
  form.curve = *from_hex("06082a8648ce3d030107");
  EXPECT_EQ(read(ec_with(form)), canonical);
  form.point = point;
  EXPECT_EQ(read(ec_with(form)), canonical);
  Pkcs8 named = kEc;
  named.behind = some_attribute();
  EXPECT_EQ(read(named.written()), canonical);
  named = kRsa;
  named.behind = some_attribute();
  EXPECT_EQ(read(named.written()), kRsaWhole);
}

TEST(PrivateKeyInfo, WhatIsCutShortOrGoesOnIsRefused) {
  for (const Bytes& whole : {kEcWhole, kRsaWhole}) {
    for (std::size_t size = 0; size < whole.size(); ++size)
      EXPECT_FALSE(read_private_key_info(ByteView(whole).first(size))) << size;
    Bytes longer = whole;
    longer.push_back(std::byte{0});
    expect_refused(longer, "a byte behind it");
  }
  Pkcs8 inside = kEc;
  inside.key.push_back(std::byte{0});
  expect_refused(inside.written(), "a byte behind the EC key");
  inside = kRsa;
  inside.key.push_back(std::byte{0});
  expect_refused(inside.written(), "a byte behind the RSA key");
  RsaForm more = RsaForm::of(kRsa.key);
  more.behind = der_integer(Bytes(1, std::byte{3}));
  expect_refused(rsa_with(more), "a ninth number");
  inside = kRsa;
  inside.behind = der(crypto::der_context(1), Bytes(4));
  expect_refused(inside.written(), "something else behind the key");
  expect_refused(Bytes(crypto::kPrivateKeyInfoBytesMax + 1, std::byte{0x30}), "too long");
}

TEST(PrivateKeyInfo, OtherFormsAndKindsAreRefused) {
  const std::string pem =
      "-----BEGIN PRIVATE KEY-----\n" + to_base64(kEcWhole) + "\n-----END PRIVATE KEY-----\n";
  expect_refused(as_bytes(pem), "PEM");
  expect_refused(as_bytes("0\n" + pem), "PEM that begins like DER");
  expect_refused(kEc.key, "an EC key without PKCS #8 around it");
  expect_refused(kRsa.key, "an RSA key without PKCS #8 around it");
  Pkcs8 other = kEc;
  other.version = Bytes(1, std::byte{1});
  expect_refused(other.written(), "RFC 5958");
  other = kEc;
  other.algorithm = *from_hex("06072a8648ce3d020106052b81040023");
  expect_refused(other.written(), "P-521");
  other.algorithm = *from_hex("06032b6570");
  expect_refused(other.written(), "Ed25519");
  other = kRsa;
  other.algorithm = *from_hex("06092a864886f70d01010a");
  expect_refused(other.written(), "RSASSA-PSS");
  other.algorithm = *from_hex("06092a864886f70d010101");
  expect_refused(other.written(), "without its NULL");
  RsaForm primes = RsaForm::of(kRsa.key);
  primes.version = Bytes(1, std::byte{1});
  expect_refused(rsa_with(primes), "of several primes");
}

TEST(PrivateKeyInfo, AnEcKeyThatContradictsItselfIsRefused) {
  const EcForm good = EcForm::of(kEc.key);
  EcForm bad = good;
  bad.scalar.insert(bad.scalar.begin(), std::byte{0});
  expect_refused(ec_with(bad), "a longer number");
  bad.scalar = Bytes(good.scalar.begin() + 1, good.scalar.end());
  expect_refused(ec_with(bad), "a shorter number");
  bad = good;
  bad.curve = *from_hex("06052b81040022");
  expect_refused(ec_with(bad), "another curve inside");
}

// Lengths and numbers have one form in DER; BER has more.
TEST(PrivateKeyInfo, WhatIsNotDerIsRefused) {
  Bytes padded = kEcWhole;  // Its first length is 0x81, n.
  ASSERT_EQ(padded.at(1), std::byte{0x81});
  padded[1] = std::byte{0x82};
  padded.insert(padded.begin() + 2, std::byte{0});
  expect_refused(padded, "a longer length than needed");
  Bytes endless = kEcWhole;
  endless[1] = std::byte{0x80};
  endless.erase(endless.begin() + 2);
  endless.resize(endless.size() + 2);
  expect_refused(endless, "a length that is not told");
  Pkcs8 numbers = kEc;
  numbers.version = Bytes(2);
  expect_refused(numbers.written(), "a version of two bytes");
  Bytes negative = kRsa.key;
  ASSERT_EQ(negative.at(11), std::byte{0}) << "the sign of the modulus";
  negative[11] = std::byte{0x80};
  Pkcs8 info = kRsa;
  info.key = negative;
  expect_refused(info.written(), "a negative modulus");
}

TEST(PrivateKeyInfo, PointsAreComparedInBothOfTheirForms) {
  const EcForm form = EcForm::of(kEc.key);
  EXPECT_TRUE(crypto::is_same_point(form.point, form.point));
  EXPECT_TRUE(crypto::is_same_point(form.compressed_point(), form.point));
  EXPECT_FALSE(crypto::is_same_point(flipped(form.point, 40), form.point));
  EXPECT_FALSE(crypto::is_same_point(flipped(form.compressed_point(), 20), form.point));
  Bytes other_half = form.compressed_point();
  other_half[0] ^= std::byte{1};
  EXPECT_FALSE(crypto::is_same_point(other_half, form.point));
  Bytes hybrid = form.point;
  hybrid[0] = std::byte{6};
  EXPECT_FALSE(crypto::is_same_point(hybrid, form.point));
  EXPECT_FALSE(crypto::is_same_point({}, form.point));
}

}  // namespace
}  // namespace coffer::tests

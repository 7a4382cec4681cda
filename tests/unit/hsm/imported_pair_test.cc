// SPDX-License-Identifier: Apache-2.0
#include "hsm/imported_pair.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/encoding.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "tests/support/pkcs8_forms.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using crypto::EcCurve;
using keyring::KeyAlgorithm;
using testing::HasSubstr;
using tests::EcForm;
using tests::FailsWith;
using tests::Pkcs8;
using tests::RsaForm;
using tests::secret;
using tests::Succeeds;

template <class Private>
Bytes pkcs8_of(const Result<Private>& key) {
  const auto der = *key->to_der();
  return {der.reveal().begin(), der.reveal().end()};
}

// The public half of what was brought.
Bytes public_half(KeyAlgorithm algorithm, ByteView pkcs8) {
  const auto pair = imported_pair(algorithm, secret(pkcs8));
  EXPECT_THAT(pair, Succeeds());
  return pair ? pair->public_key : Bytes();
}

void expect_refused(KeyAlgorithm algorithm, ByteView pkcs8, const char* why) {
  const auto pair = imported_pair(algorithm, secret(pkcs8));
  ASSERT_THAT(pair, FailsWith(Reason::kImportRefused)) << why;
  EXPECT_THAT(pair.error().message(), HasSubstr(key_algorithm_name(algorithm)));
  EXPECT_THAT(pair.error().message(), HasSubstr(why));
}

class ImportedEcPair : public testing::Test {
 protected:
  struct Kind {
    KeyAlgorithm algorithm;
    Bytes pkcs8;
    Bytes order;  // Of the curve.
  };
  const std::vector<Kind> kinds_{
      {KeyAlgorithm::kEcP256, pkcs8_of(crypto::EcPrivateKey::generate(EcCurve::kP256)),
       *from_hex("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551")},
      {KeyAlgorithm::kEcP384, pkcs8_of(crypto::EcPrivateKey::generate(EcCurve::kP384)),
       *from_hex("ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf"
                 "581a0db248b0a77aecec196accc52973")},
      {KeyAlgorithm::kSm2, pkcs8_of(crypto::Sm2PrivateKey::generate()),
       *from_hex("fffffffeffffffffffffffffffffffff7203df6b21c6052b53bbf40939d54123")}};

  static Bytes one_below(Bytes odd) {
    odd.back() ^= std::byte{1};
    return odd;
  }
  static Bytes with(const Kind& kind, const EcForm& form) {
    Pkcs8 info = Pkcs8::of(kind.pkcs8);
    info.key = form.written();
    return info.written();
  }
};

TEST_F(ImportedEcPair, IsTheSameHoweverItWasSpelled) {
  for (const auto& kind : kinds_) {
    SCOPED_TRACE(key_algorithm_name(kind.algorithm));
    const EcForm form = EcForm::of(Pkcs8::of(kind.pkcs8).key);
    const auto pair = imported_pair(kind.algorithm, secret(kind.pkcs8));
    ASSERT_THAT(pair, Succeeds());
    EXPECT_EQ(to_hex(ByteView(pair->public_key).last(form.point.size())), to_hex(form.point));
    EcForm other = form;
    other.point = form.compressed_point();
    EXPECT_EQ(public_half(kind.algorithm, with(kind, other)), pair->public_key);
    other.point.clear();
    EXPECT_EQ(public_half(kind.algorithm, with(kind, other)), pair->public_key);
    Pkcs8 named = Pkcs8::of(kind.pkcs8);
    named.behind = tests::some_attribute();
    EXPECT_EQ(public_half(kind.algorithm, named.written()), pair->public_key);
    const auto again = imported_pair(kind.algorithm, secret(with(kind, other)));
    EXPECT_TRUE(equal_constant_time(again->secret.reveal(), pair->secret.reveal()));
  }
}

TEST_F(ImportedEcPair, HasANumberInItsRangeAndItsOwnPoint) {
  for (const auto& kind : kinds_) {
    SCOPED_TRACE(key_algorithm_name(kind.algorithm));
    const EcForm good = EcForm::of(Pkcs8::of(kind.pkcs8).key);
    EcForm bad = good;
    bad.point.back() ^= std::byte{1};
    expect_refused(kind.algorithm, with(kind, bad), "another key's");
    bad.point = good.compressed_point();
    bad.point[5] ^= std::byte{1};
    expect_refused(kind.algorithm, with(kind, bad), "another key's");
    bad.point.clear();
    bad.scalar.assign(good.scalar.size(), std::byte{0});
    expect_refused(kind.algorithm, with(kind, bad), "");
    bad.scalar = kind.order;
    expect_refused(kind.algorithm, with(kind, bad), "");
    // One below the order signs with EC, and not with SM2 (GM/T 0003.1 section 6.1).
    bad.scalar = one_below(kind.order);
    if (kind.algorithm == KeyAlgorithm::kSm2) {
      expect_refused(kind.algorithm, with(kind, bad), "");
    } else {
      EXPECT_FALSE(public_half(kind.algorithm, with(kind, bad)).empty());
    }
  }
}

TEST_F(ImportedEcPair, IsOfTheCurveThatWasAskedFor) {
  for (const auto& kind : kinds_) {
    for (const auto& other : kinds_) {
      if (other.algorithm != kind.algorithm)
        expect_refused(kind.algorithm, other.pkcs8, "another algorithm or curve");
    }
    expect_refused(KeyAlgorithm::kRsa2048, kind.pkcs8, "another algorithm or curve");
    expect_refused(kind.algorithm, ByteView(kind.pkcs8).first(60), "PKCS #8");
    expect_refused(kind.algorithm, {}, "PKCS #8");
  }
}

TEST(ImportedRsaPair, IsOfItsSizeAndSound) {
  const Bytes whole = pkcs8_of(crypto::RsaPrivateKey::generate(2048));
  const auto pair = imported_pair(KeyAlgorithm::kRsa2048, secret(whole));
  ASSERT_THAT(pair, Succeeds());
  const auto half = crypto::RsaPublicKey::parse(pair->public_key);
  ASSERT_THAT(half, Succeeds());
  EXPECT_EQ(half->size_bits(), 2048U);

  const RsaForm form = RsaForm::of(Pkcs8::of(whole).key);
  Pkcs8 other = Pkcs8::of(whole);
  other.key = form.turned().written();
  ASSERT_NE(other.written(), whole);
  EXPECT_EQ(public_half(KeyAlgorithm::kRsa2048, other.written()), pair->public_key);
  RsaForm bad = form;
  bad.numbers[RsaForm::kDq].back() ^= std::byte{2};
  other.key = bad.written();
  expect_refused(KeyAlgorithm::kRsa2048, other.written(), "do not belong together");
  expect_refused(KeyAlgorithm::kRsa3072, whole, "2048 bits");
  expect_refused(KeyAlgorithm::kRsa4096, whole, "2048 bits");
  expect_refused(KeyAlgorithm::kSm2, whole, "another algorithm or curve");
}

}  // namespace
}  // namespace coffer::hsm

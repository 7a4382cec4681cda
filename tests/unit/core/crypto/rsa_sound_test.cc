// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <string>
#include <utility>
#include <vector>

#include "core/base/encoding.h"
#include "core/crypto/rsa.h"
#include "tests/support/pkcs8_forms.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/crypto/crypto_testing.h"

namespace coffer::tests {
namespace {

using testing::HasSubstr;

constexpr auto* kStrangers = "do not belong together";

const Bytes kWhole = plain(*crypto::RsaPrivateKey::generate(2048)->to_der());
const Pkcs8 kInfo = Pkcs8::of(kWhole);
const RsaForm kGood = RsaForm::of(kInfo.key);

Result<void> sound(const RsaForm& form) {
  Pkcs8 info = kInfo;
  info.key = form.written();
  const auto key = crypto::RsaPrivateKey::parse(info.written());
  if (!key) return tl::unexpected(key.error());
  return key->require_sound();
}

void expect_refused(const RsaForm& form, const char* why) {
  const auto done = sound(form);
  ASSERT_THAT(done, FailsWith(Reason::kInvalidArgs)) << why;
  EXPECT_THAT(done.error().message(), HasSubstr(why));
}

RsaForm with(RsaForm::At at, const BigNumber& number) {
  RsaForm out = kGood;
  out.numbers.at(at) = number.bytes();
  return out;
}

// A number of 1024 bits that is none of a prime, with which the rest of a key can be made.
BigNumber composite_for(const RsaForm& form) {
  BigNumber number = form.number(RsaForm::kP);
  const BigNumber one(1);
  do {
    number = number + BigNumber(2);
  } while (number.is_prime() || !(common_divisor(number - one, form.number(RsaForm::kE)) == one) ||
           !(common_divisor(number, form.number(RsaForm::kQ)) == one));
  return number;
}

TEST(SoundRsaKey, IsSoInEachOfItsSpellings) {
  EXPECT_THAT(sound(kGood), Succeeds());
  EXPECT_THAT(sound(kGood.turned()), Succeeds());
  EXPECT_THAT(sound(kGood.of_factors(kGood.number(RsaForm::kP), kGood.number(RsaForm::kQ))),
              Succeeds())
      << "with an exponent that fits phi(n)";
  EXPECT_THAT(sound(with(RsaForm::kD, kGood.number(RsaForm::kD) % kGood.lambda() + kGood.lambda())),
              Succeeds())
      << "with an exponent above lambda(n)";
}

TEST(SoundRsaKey, HasNoNumberThatIsAnother) {
  for (std::size_t at = 0; at < kGood.numbers.size(); ++at) {
    if (at == RsaForm::kE) continue;
    RsaForm bad = kGood;
    bad.numbers[at].back() ^= std::byte{2};
    EXPECT_THAT(sound(bad), FailsWith(Reason::kInvalidArgs)) << at;
  }
  const auto with_exponent = [&](const char* exponent) {
    RsaForm bad = kGood;
    bad.numbers[RsaForm::kE] = *from_hex(exponent);
    return sound(bad);
  };
  EXPECT_THAT(with_exponent("03"), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(with_exponent("010000"), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(with_exponent("010003"), FailsWith(Reason::kInvalidArgs)) << "not the key's";
  EXPECT_THAT(with_exponent("010000000000000001"), FailsWith(Reason::kInvalidArgs));
  RsaForm longer = kGood;
  longer.numbers[RsaForm::kD] = Bytes(257, std::byte{0x55});
  EXPECT_THAT(sound(longer), FailsWith(Reason::kInvalidArgs));
  RsaForm uneven = kGood;
  uneven.numbers[RsaForm::kP] = Bytes(100, std::byte{0x71});
  EXPECT_THAT(sound(uneven), FailsWith(Reason::kInvalidArgs));
}

// Each of these is wrong in one number alone.
TEST(SoundRsaKey, HasTheExponentsOfItsFactors) {
  const BigNumber one(1);
  for (const auto& [exponent, factor] :
       {std::pair(RsaForm::kDp, RsaForm::kP), std::pair(RsaForm::kDq, RsaForm::kQ)}) {
    const BigNumber right = kGood.number(exponent);
    expect_refused(with(exponent, right + one), kStrangers);
    expect_refused(with(exponent, right - one), kStrangers);
    expect_refused(with(exponent, BigNumber(0)), kStrangers);
    const BigNumber longer = right + kGood.number(factor) - one;
    EXPECT_THAT(sound(with(exponent, longer)), FailsWith(Reason::kInvalidArgs))
        << "the same, modulo the factor less 1";
  }
  expect_refused(with(RsaForm::kDp, kGood.number(RsaForm::kDq)), kStrangers);
}

TEST(SoundRsaKey, HasTheInverseOfItsSecondFactor) {
  const BigNumber right = kGood.number(RsaForm::kQinv);
  expect_refused(with(RsaForm::kQinv, right + BigNumber(1)), kStrangers);
  expect_refused(with(RsaForm::kQinv, BigNumber(0)), kStrangers);
  expect_refused(
      with(RsaForm::kQinv, inverse(kGood.number(RsaForm::kP), kGood.number(RsaForm::kQ))),
      kStrangers);
  EXPECT_THAT(sound(with(RsaForm::kQinv, right + kGood.number(RsaForm::kP))),
              FailsWith(Reason::kInvalidArgs))
      << "the same, modulo the first";
}

TEST(SoundRsaKey, HasAPrivateExponentThatUndoesThePublicOne) {
  const BigNumber right = kGood.number(RsaForm::kD);
  expect_refused(with(RsaForm::kD, right + BigNumber(2)), kStrangers);
  expect_refused(kGood.with_exponent(right + BigNumber(2)), kStrangers);
  expect_refused(kGood.with_exponent(BigNumber(1)), kStrangers);
  expect_refused(kGood.with_exponent(BigNumber(0)), kStrangers);
  // Undoes it of the first factor, not of the second.
  const BigNumber step = kGood.number(RsaForm::kP) - BigNumber(1);
  expect_refused(kGood.with_exponent(right % step + step), kStrangers);
  BigNumber above = right + kGood.lambda();
  while (above < kGood.number(RsaForm::kN)) above = above + kGood.lambda();
  EXPECT_THAT(sound(with(RsaForm::kD, above)), FailsWith(Reason::kInvalidArgs))
      << "not below the modulus";
}

TEST(SoundRsaKey, HasTwoPrimesThatDiffer) {
  const BigNumber p = kGood.number(RsaForm::kP);
  const BigNumber q = kGood.number(RsaForm::kQ);
  const BigNumber composite = composite_for(kGood);
  expect_refused(kGood.of_factors(composite, q), "no prime");
  expect_refused(kGood.of_factors(composite, q).turned(), "no prime");
  expect_refused(kGood.of_factors(p, p), kStrangers);
  RsaForm other = kGood;
  other.numbers[RsaForm::kN] = (p * q + BigNumber(2)).bytes();
  expect_refused(other, kStrangers);
}

}  // namespace
}  // namespace coffer::tests

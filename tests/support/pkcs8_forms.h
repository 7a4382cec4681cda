// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/secret_bytes.h"
#include "core/crypto/der.h"
#include "tests/support/big_number.h"

// The same private key in the several ways that PKCS #8 lets it be written, and in some that it
// does not. Keys here are a test's: nothing is wiped.
namespace coffer::tests {

inline Bytes der(std::uint8_t tag, ByteView content) {
  ByteWriter out;
  crypto::write_der_head(out, tag, content.size());
  return out.raw(content).take();
}
inline Bytes joined(std::initializer_list<ByteView> parts) {
  ByteWriter out;
  for (const auto& part : parts) out.raw(part);
  return out.take();
}
inline Bytes der_integer(ByteView number) {
  while (number.size() > 1 && number.front() == std::byte{0}) number = number.subspan(1);
  ByteWriter out;
  if (number.empty() || number.front() >= std::byte{0x80}) out.u8(0);
  return der(crypto::kDerInteger, out.raw(number).view());
}

// The parts of one, and it from its parts. `behind` stands after the key: attributes.
struct Pkcs8 {
  Bytes version = Bytes(1);
  Bytes algorithm;  // Without its head.
  Bytes key;
  Bytes behind{};

  static Pkcs8 of(ByteView whole) {
    ByteReader outer(whole);
    ByteReader in(crypto::read_der(outer, crypto::kDerSequence));
    Pkcs8 out;
    const auto copy = [](ByteView view) { return Bytes(view.begin(), view.end()); };
    out.version = copy(crypto::read_der(in, crypto::kDerInteger));
    out.algorithm = copy(crypto::read_der(in, crypto::kDerSequence));
    out.key = copy(crypto::read_der(in, crypto::kDerOctetString));
    return out;
  }
  Bytes written() const {
    return der(crypto::kDerSequence,
               joined({der(crypto::kDerInteger, version), der(crypto::kDerSequence, algorithm),
                       der(crypto::kDerOctetString, key), behind}));
  }
};

// A friendlyName (RFC 2985 section 5.5.1), as PKCS #12 tools leave one behind.
inline Bytes some_attribute() {
  const std::array name{std::byte{0x06}, std::byte{0x09}, std::byte{0x2A}, std::byte{0x86},
                        std::byte{0x48}, std::byte{0x86}, std::byte{0xF7}, std::byte{0x0D},
                        std::byte{0x01}, std::byte{0x09}, std::byte{0x14}};
  const Bytes value = der(0x31, der(0x1E, Bytes(2, std::byte{'a'})));
  return der(crypto::der_context(0), der(crypto::kDerSequence, joined({name, value})));
}

// ECPrivateKey.
struct EcForm {
  Bytes curve;  // The OID, with its head; empty: not told again.
  Bytes scalar;
  Bytes point;  // Empty: not there.

  // As OpenSSL writes it: without the curve.
  static EcForm of(ByteView key) {
    ByteReader outer(key);
    ByteReader in(crypto::read_der(outer, crypto::kDerSequence));
    crypto::read_der_number(in);
    const auto scalar = crypto::read_der(in, crypto::kDerOctetString);
    ByteReader tagged(crypto::read_der(in, crypto::der_context(1)));
    const auto bits = crypto::read_der(tagged, crypto::kDerBitString).subspan(1);
    return {{}, {scalar.begin(), scalar.end()}, {bits.begin(), bits.end()}};
  }
  Bytes written() const {
    ByteWriter out;
    out.raw(der_integer(Bytes(1, std::byte{1}))).raw(der(crypto::kDerOctetString, scalar));
    if (!curve.empty()) out.raw(der(crypto::der_context(0), curve));
    if (!point.empty()) {
      const Bytes bits = der(crypto::kDerBitString, ByteWriter().u8(0).raw(point).view());
      out.raw(der(crypto::der_context(1), bits));
    }
    return der(crypto::kDerSequence, out.view());
  }
  Bytes compressed_point() const {
    Bytes out(point.begin(), point.begin() + static_cast<std::ptrdiff_t>(1 + point.size() / 2));
    out.front() = (point.back() & std::byte{1}) == std::byte{0} ? std::byte{2} : std::byte{3};
    return out;
  }
};

// RSAPrivateKey.
struct RsaForm {
  enum At : std::uint8_t { kN, kE, kD, kP, kQ, kDp, kDq, kQinv };
  Bytes version = Bytes(1);
  std::array<Bytes, 8> numbers;  // Big-endian.
  Bytes behind{};

  static RsaForm of(ByteView key) {
    ByteReader outer(key);
    ByteReader in(crypto::read_der(outer, crypto::kDerSequence));
    crypto::read_der_number(in);
    RsaForm out;
    for (auto& number : out.numbers) {
      const auto view = crypto::read_der_number(in);
      number.assign(view.begin(), view.end());
    }
    return out;
  }
  Bytes written() const {
    ByteWriter out;
    out.raw(der_integer(version));
    for (const auto& number : numbers) out.raw(der_integer(number));
    return der(crypto::kDerSequence, out.raw(behind).view());
  }
  BigNumber number(At at) const { return BigNumber(numbers.at(at)); }
  // (p - 1) * (q - 1), and the same divided by what both have in common.
  BigNumber phi() const { return (number(kP) - BigNumber(1)) * (number(kQ) - BigNumber(1)); }
  BigNumber lambda() const {
    return phi() / common_divisor(number(kP) - BigNumber(1), number(kQ) - BigNumber(1));
  }
  // What follows from two factors, prime or not, and the exponent of this one.
  RsaForm of_factors(const BigNumber& p, const BigNumber& q) const {
    RsaForm out = *this;
    out.numbers[kP] = p.bytes();
    out.numbers[kQ] = q.bytes();
    out.numbers[kN] = (p * q).bytes();
    out.numbers[kQinv] = inverse(q, p).bytes();
    return out.with_exponent(inverse(number(kE), out.phi()));
  }
  // The private exponent and what follows from it.
  RsaForm with_exponent(const BigNumber& d) const {
    RsaForm out = *this;
    out.numbers[kD] = d.bytes();
    out.numbers[kDp] = (d % (number(kP) - BigNumber(1))).bytes();
    out.numbers[kDq] = (d % (number(kQ) - BigNumber(1))).bytes();
    return out;
  }
  // The same key with its factors the other way round.
  RsaForm turned() const {
    RsaForm out = *this;
    std::swap(out.numbers[kP], out.numbers[kQ]);
    std::swap(out.numbers[kDp], out.numbers[kDq]);
    out.numbers[kQinv] = inverse(number(kP), number(kQ)).bytes();
    return out;
  }
};

inline SecretBytes secret(ByteView bytes) {
  return *SecretBytes::copy_of(bytes);
}

}  // namespace coffer::tests

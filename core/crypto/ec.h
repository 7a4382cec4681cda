// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::crypto {

struct KeyHandle;

// ECDSA (FIPS 186-5) over P-256 and P-384. Digests have 32, 48 or 64 bytes; a longer one than the
// curve's order is cut as the standard says. Signatures are DER, SEQUENCE { r, s }.
enum class EcCurve : std::uint8_t { kP256, kP384 };

// The size of r and of s in the other form of a signature, r || s, which tokens speak.
constexpr std::size_t scalar_bytes(EcCurve curve) noexcept {
  return curve == EcCurve::kP256 ? 32 : 48;
}

// From r || s (IEEE P1363, PKCS #11; GM/T 0018 for SM2) to DER and back. Neither looks at the
// values: verifying does. `size_bytes` is that of each of the two numbers, 1 to 66.
//   kInvalidArgs  r || s of another size than twice that.
Result<Bytes> signature_to_der(ByteView r_and_s, std::size_t size_bytes);
//   kBlobInvalid  not the one DER form of two numbers that fit.
Result<Bytes> signature_from_der(ByteView der, std::size_t size_bytes);

// EcPublicKey and EcPrivateKey are values to read: all const calls may come from many threads.
class EcPublicKey {
 public:
  // SubjectPublicKeyInfo as PEM or DER, with a curve by name.
  //   kInvalidArgs  not that, another curve, parameters spelled out, or no point of the curve.
  static Result<EcPublicKey> parse(ByteView pem_or_der);

  Result<Bytes> to_der() const;
  Result<std::string> to_pem() const;
  EcCurve curve() const noexcept { return curve_; }

  //   kBlobInvalid  the signature is not one of this key and digest, or not strict DER.
  //   kInvalidArgs  the size of the digest.
  Result<void> verify(ByteView digest, ByteView signature) const;

 private:
  EcPublicKey(std::shared_ptr<const KeyHandle> key, EcCurve curve) noexcept
      : key_(std::move(key)), curve_(curve) {}
  std::shared_ptr<const KeyHandle> key_;
  EcCurve curve_;
};

class EcPrivateKey {
 public:
  static Result<EcPrivateKey> generate(EcCurve curve);
  // PKCS#8 as PEM or DER, not encrypted.   kInvalidArgs as above, or halves that do not belong
  // together.
  static Result<EcPrivateKey> parse(ByteView pem_or_der);

  // PKCS#8 DER, in locked memory.
  Result<SecretBytes> to_der() const;
  Result<EcPublicKey> public_key() const;
  EcCurve curve() const noexcept { return curve_; }

  //   kInvalidArgs  the size of the digest.
  Result<Bytes> sign(ByteView digest) const;

 private:
  EcPrivateKey(std::shared_ptr<const KeyHandle> key, EcCurve curve) noexcept
      : key_(std::move(key)), curve_(curve) {}
  std::shared_ptr<const KeyHandle> key_;
  EcCurve curve_;
};

}  // namespace coffer::crypto

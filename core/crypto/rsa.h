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

// RSA (RFC 8017) with moduli of 2048 to 8192 bits: OAEP (section 7.1) and PKCS #1 v1.5 (7.2) for
// key material that someone wraps to a public key, PSS (8.1) and PKCS #1 v1.5 (8.2) signatures.
enum class OaepHash : std::uint8_t { kSha1, kSha256, kSha384, kSha512 };

struct OaepParams {
  OaepHash hash = OaepHash::kSha256;
  OaepHash mgf_hash = OaepHash::kSha256;
  ByteView label;
};
inline constexpr OaepParams kOaepSha1{OaepHash::kSha1, OaepHash::kSha1, {}};
inline constexpr OaepParams kOaepSha256{OaepHash::kSha256, OaepHash::kSha256, {}};

// Both sign a SHA-256 digest. PSS uses MGF1 with SHA-256 and a salt as long as the digest, and
// takes no other.
enum class RsaScheme : std::uint8_t { kPssSha256, kPkcs1Sha256 };

// RsaPublicKey and RsaPrivateKey are values to read: all const calls may come from many threads.
class RsaPublicKey {
 public:
  // SubjectPublicKeyInfo as PEM or DER; which of the two is found out.
  //   kInvalidArgs  not that, not RSA, or a modulus of another size.
  static Result<RsaPublicKey> parse(ByteView pem_or_der);

  Result<Bytes> to_der() const;
  Result<std::string> to_pem() const;
  std::size_t size_bits() const noexcept;

  //   kInvalidArgs  the text is too long for modulus and hash.
  Result<Bytes> encrypt(const OaepParams& params, ByteView plaintext) const;
  // At most 11 bytes less than the modulus.   kInvalidArgs: longer.
  Result<Bytes> encrypt_pkcs1(ByteView plaintext) const;

  //   kBlobInvalid  the signature is not one of this key, scheme and digest, whatever the cause.
  //   kInvalidArgs  a digest of other than 32 bytes.
  Result<void> verify(RsaScheme scheme, ByteView digest, ByteView signature) const;

 private:
  friend class RsaPrivateKey;
  explicit RsaPublicKey(std::shared_ptr<const KeyHandle> key) noexcept : key_(std::move(key)) {}
  std::shared_ptr<const KeyHandle> key_;
};

class RsaPrivateKey {
 public:
  // Takes about a second for 4096 bits.   kInvalidArgs: size.
  static Result<RsaPrivateKey> generate(unsigned size_bits);
  // PKCS#8 as PEM or DER, not encrypted.   kInvalidArgs as above.
  static Result<RsaPrivateKey> parse(ByteView pem_or_der);

  // Of a key that somebody else made: two primes of half the modulus each, an odd public exponent
  // from 65537 to 2^64 (FIPS 186-5 section 5.4 takes longer ones, OpenSSL above 3072 bits does
  // not), a private one below the modulus, and all its numbers belong together. Takes about a
  // second for 4096 bits, and leaves nothing of the key in memory that it has freed.
  //   kInvalidArgs  not so.
  //   kInternal     OpenSSL cannot calculate.
  //   kNoMemory     as SecretBytes.
  Result<void> require_sound() const;

  // PKCS#8 DER, in locked memory.
  Result<SecretBytes> to_der() const;
  Result<RsaPublicKey> public_key() const;
  std::size_t size_bits() const noexcept;

  //   kBlobInvalid  not made for this key and these parameters. The one reason for every cause and
  //                 the same time for each, so that it is no oracle.
  Result<SecretBytes> decrypt(const OaepParams& params, ByteView ciphertext) const;

  // PKCS #1 v1.5 with implicit rejection: a ciphertext with wrong padding gives another text, the
  // same one each time, of a length that tells nothing, and takes as long (pkcs1_padding.h). The
  // caller finds out by what it does with the text: a key of the wrong length, a tag that does not
  // match.
  //   kBlobInvalid  not as long as the modulus, or not below it; anybody can see that.
  Result<SecretBytes> decrypt_pkcs1(ByteView ciphertext) const;

  // As long as the modulus.   kInvalidArgs: a digest of other than 32 bytes.
  Result<Bytes> sign(RsaScheme scheme, ByteView digest) const;

 private:
  explicit RsaPrivateKey(std::shared_ptr<const KeyHandle> key) noexcept : key_(std::move(key)) {}
  std::shared_ptr<const KeyHandle> key_;
};

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/crypto/sm3.h"

namespace coffer::crypto {

struct KeyHandle;

// SM2 (GM/T 0003-2012) on the recommended curve, with SM3.
//
// Signatures are DER, SEQUENCE { r, s }; ec.h turns them into r || s and back. What is signed is
// not the digest of the message alone but SM3(ZA || message), where ZA covers the signer's id and
// public key: message_digest() makes it. Libraries do not agree on an id if none is named: this is
// the one of GM/T 0009 section 10, and OpenSSL's own default is an empty one.
inline constexpr std::string_view kSm2DefaultId = "1234567812345678";
inline constexpr std::size_t kSm2IdBytesMax = 8191;  // Its length in bits has two bytes.
inline constexpr std::size_t kSm2TextBytesMax = 4096;
inline constexpr std::size_t kSm2ScalarBytes = 32;

// A ciphertext in its parts, in the order C1 C3 C2: the other forms of it are these one after
// another.
struct Sm2Ciphertext {
  std::array<std::byte, kSm2ScalarBytes> x{};  // C1
  std::array<std::byte, kSm2ScalarBytes> y{};
  Sm3Digest hash{};  // C3
  Bytes text;        // C2, as long as the plaintext.
};

// The ASN.1 form of GM/T 0009: SEQUENCE { INTEGER x, INTEGER y, OCTET STRING hash, OCTET STRING
// text }.
Bytes encode_sm2_ciphertext(const Sm2Ciphertext& ciphertext);
//   kBlobInvalid  not that, not DER in the one way it can be, or a text of 0 or more than 4096
//   bytes.
Result<Sm2Ciphertext> parse_sm2_ciphertext(ByteView der);

// Sm2PublicKey and Sm2PrivateKey are values to read: all const calls may come from many threads.
class Sm2PublicKey {
 public:
  // SubjectPublicKeyInfo as PEM or DER, with the curve by name.
  //   kInvalidArgs  not that, another curve, or no point of it.
  static Result<Sm2PublicKey> parse(ByteView pem_or_der);

  Result<Bytes> to_der() const;
  Result<std::string> to_pem() const;
  // x || y, 32 bytes each.
  Result<Bytes> point() const;

  // SM3(ZA || message), for sign() and verify().
  //   kInvalidArgs  an id above 8191 bytes.
  Result<Sm3Digest> message_digest(ByteView message, std::string_view id = kSm2DefaultId) const;

  // The ASN.1 form of the ciphertext.   kInvalidArgs: a text of 0 or more than 4096 bytes.
  Result<Bytes> encrypt(ByteView plaintext) const;

  //   kBlobInvalid  the signature is not one of this key and digest, or not strict DER.
  //   kInvalidArgs  a digest of other than 32 bytes.
  Result<void> verify(ByteView digest, ByteView signature) const;

 private:
  explicit Sm2PublicKey(std::shared_ptr<const KeyHandle> key) noexcept : key_(std::move(key)) {}
  std::shared_ptr<const KeyHandle> key_;
};

class Sm2PrivateKey {
 public:
  static Result<Sm2PrivateKey> generate();
  // PKCS#8 as PEM or DER, not encrypted.   kInvalidArgs as above, or halves that do not belong
  // together.
  static Result<Sm2PrivateKey> parse(ByteView pem_or_der);

  // PKCS#8 DER, in locked memory.
  Result<SecretBytes> to_der() const;
  Result<Sm2PublicKey> public_key() const;

  // Takes the ASN.1 form.
  //   kBlobInvalid  not made for this key, or changed; the one reason for every cause.
  Result<SecretBytes> decrypt(ByteView ciphertext) const;

  //   kInvalidArgs  a digest of other than 32 bytes.
  Result<Bytes> sign(ByteView digest) const;

 private:
  explicit Sm2PrivateKey(std::shared_ptr<const KeyHandle> key) noexcept : key_(std::move(key)) {}
  std::shared_ptr<const KeyHandle> key_;
};

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::crypto {

// RSA-OAEP (RFC 8017 section 7.1), for key material that someone wraps to a public key. Moduli of
// 2048 to 8192 bits.
enum class OaepHash : std::uint8_t { kSha1, kSha256, kSha384, kSha512 };

struct OaepParams {
  OaepHash hash = OaepHash::kSha256;
  OaepHash mgf_hash = OaepHash::kSha256;
  ByteView label;
};
inline constexpr OaepParams kOaepSha1{OaepHash::kSha1, OaepHash::kSha1, {}};
inline constexpr OaepParams kOaepSha256{OaepHash::kSha256, OaepHash::kSha256, {}};

// RsaPublicKey and RsaPrivateKey are values to read: all const calls may come from many threads.
class RsaPublicKey {
 public:
  // SubjectPublicKeyInfo as PEM or DER; which of the two is found out.
  //   kInvalidArgs  not that, not RSA, or a modulus of another size.
  static Result<RsaPublicKey> parse(ByteView pem_or_der);

  Result<Bytes> to_der() const;
  std::size_t size_bits() const noexcept;

  //   kInvalidArgs  the text is too long for modulus and hash.
  Result<Bytes> encrypt(const OaepParams& params, ByteView plaintext) const;

 private:
  friend class RsaPrivateKey;
  struct Key;
  explicit RsaPublicKey(std::shared_ptr<const Key> key) noexcept : key_(std::move(key)) {}
  std::shared_ptr<const Key> key_;
};

class RsaPrivateKey {
 public:
  // Takes about a second for 4096 bits.   kInvalidArgs: size.
  static Result<RsaPrivateKey> generate(unsigned size_bits);
  // PKCS#8 as PEM or DER, not encrypted.   kInvalidArgs as above.
  static Result<RsaPrivateKey> parse(ByteView pem_or_der);

  // PKCS#8 DER, in locked memory.
  Result<SecretBytes> to_der() const;
  Result<RsaPublicKey> public_key() const;
  std::size_t size_bits() const noexcept;

  //   kBlobInvalid  not made for this key and these parameters. The one reason for every cause and
  //   the
  //                 same time for each, so that it is no oracle.
  Result<SecretBytes> decrypt(const OaepParams& params, ByteView ciphertext) const;

 private:
  using Key = RsaPublicKey::Key;
  explicit RsaPrivateKey(std::shared_ptr<const Key> key) noexcept : key_(std::move(key)) {}
  std::shared_ptr<const Key> key_;
};

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/sm2.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>

#include <algorithm>

#include "core/base/encoding.h"
#include "core/crypto/ec_key.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

// a, b, x and y of the generator: GM/T 0003.5-2012.
constexpr std::string_view kCurve =
    "fffffffeffffffffffffffffffffffffffffffff00000000fffffffffffffffc"
    "28e9fa9e9d9f5e344d5a9e4bcf6509a7f39789f515ab8f92ddbcbd414d940e93"
    "32c4ae2c1f1981195f9904466a39c9948fe30bbff2660be1715a4589334c74c7"
    "bc3736a2f4f6779c59bdcee36b692153d0a9877cc62a474002df32e52139f0a0";

Result<std::shared_ptr<const KeyHandle>> parse_sm2(ByteView pem_or_der, KeyHalf half) {
  auto key = parse_ec_key(pem_or_der, "SM2", half);
  if (!key) return tl::unexpected(key.error());
  if (key->group != "SM2") return fail(Reason::kInvalidArgs, "SM2 key on the curve " + key->group);
  return std::make_shared<const KeyHandle>(KeyHandle{std::move(key->pkey)});
}

Result<void> check_digest(ByteView digest) {
  if (digest.size() == kSm3Bytes) return {};
  return fail(Reason::kInvalidArgs,
              "SM2 signature of a digest of " + std::to_string(digest.size()) + " bytes");
}

bool read_coordinate(EVP_PKEY* key, const char* name, std::span<std::byte> out) {
  BIGNUM* number = nullptr;
  const bool read = ::EVP_PKEY_get_bn_param(key, name, &number) == 1;
  const CHandle<BIGNUM, ::BN_free> owned(number);
  const int size = static_cast<int>(out.size());
  return read && ::BN_bn2binpad(number, out_uchars(out), size) == size;
}

}  // namespace

Result<Sm2PublicKey> Sm2PublicKey::parse(ByteView pem_or_der) {
  auto key = parse_sm2(pem_or_der, KeyHalf::kPublic);
  if (!key) return tl::unexpected(key.error());
  return Sm2PublicKey(std::move(*key));
}

Result<Bytes> Sm2PublicKey::to_der() const {
  return public_to_der(key_->pkey.get());
}

Result<std::string> Sm2PublicKey::to_pem() const {
  return public_to_pem(key_->pkey.get());
}

Result<Bytes> Sm2PublicKey::point() const {
  Bytes out(2 * kSm2ScalarBytes);
  const std::span<std::byte> bytes(out);
  EVP_PKEY* const key = key_->pkey.get();
  if (!read_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, bytes.first(kSm2ScalarBytes)) ||
      !read_coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, bytes.last(kSm2ScalarBytes))) {
    return openssl_failure(Reason::kInternal, "read the point of an SM2 key");
  }
  return out;
}

Result<Sm3Digest> Sm2PublicKey::message_digest(ByteView message, std::string_view id) const {
  if (id.size() > kSm2IdBytesMax)
    return fail(Reason::kInvalidArgs, "SM2 id of " + std::to_string(id.size()) + " bytes");
  static const Bytes kCurveBytes = from_hex(kCurve).value();
  const auto own = point();
  if (!own) return tl::unexpected(own.error());
  const auto id_bits = ByteWriter().u16(static_cast<std::uint16_t>(id.size() * 8)).take();
  const auto za =
      Sm3().update(id_bits).update(as_bytes(id)).update(kCurveBytes).update(*own).finish();
  return Sm3().update(za).update(message).finish();
}

Result<Bytes> Sm2PublicKey::encrypt(ByteView plaintext) const {
  if (plaintext.empty() || plaintext.size() > kSm2TextBytesMax)
    return fail(Reason::kInvalidArgs,
                "SM2 encryption of " + std::to_string(plaintext.size()) + " bytes");
  // A mask of zeros alone would leave the text as it is, and a text of one byte meets one every 256
  // times. The standard wants another try then (GM/T 0003.4 section 6.1, A5).
  for (;;) {
    auto der = pkey_encrypt(key_->pkey.get(), plaintext, "SM2", nothing_to_set);
    if (!der) return der;
    const auto parts = parse_sm2_ciphertext(*der);
    if (!parts) return pass(parts.error(), "read what was just encrypted");
    if (!std::ranges::equal(parts->text, plaintext)) return der;
  }
}

Result<void> Sm2PublicKey::verify(ByteView digest, ByteView signature) const {
  if (const auto good = check_digest(digest); !good) return good;
  return pkey_verify(key_->pkey.get(), digest, signature, "SM2", nothing_to_set);
}

Result<Sm2PrivateKey> Sm2PrivateKey::generate() {
  Pkey key(::EVP_PKEY_Q_keygen(nullptr, nullptr, "SM2"));
  if (key == nullptr) return openssl_failure(Reason::kInternal, "make an SM2 key");
  return Sm2PrivateKey(std::make_shared<const KeyHandle>(KeyHandle{std::move(key)}));
}

Result<Sm2PrivateKey> Sm2PrivateKey::parse(ByteView pem_or_der) {
  auto key = parse_sm2(pem_or_der, KeyHalf::kPrivate);
  if (!key) return tl::unexpected(key.error());
  return Sm2PrivateKey(std::move(*key));
}

Result<SecretBytes> Sm2PrivateKey::to_der() const {
  return private_to_der(key_->pkey.get());
}

Result<Sm2PublicKey> Sm2PrivateKey::public_key() const {
  const auto der = public_to_der(key_->pkey.get());
  if (!der) return tl::unexpected(der.error());
  // Read back, so that what is handed out holds the public half alone.
  return Sm2PublicKey::parse(*der);
}

Result<SecretBytes> Sm2PrivateKey::decrypt(ByteView ciphertext) const {
  // OpenSSL reads forms that are not DER; here there is one ciphertext for one text.
  if (const auto parts = parse_sm2_ciphertext(ciphertext); !parts)
    return tl::unexpected(parts.error());
  return pkey_decrypt(key_->pkey.get(), ciphertext, "SM2", nothing_to_set);
}

Result<Bytes> Sm2PrivateKey::sign(ByteView digest) const {
  if (const auto good = check_digest(digest); !good) return tl::unexpected(good.error());
  return pkey_sign(key_->pkey.get(), digest, "SM2", nothing_to_set);
}

}  // namespace coffer::crypto

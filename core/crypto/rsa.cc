// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/rsa.h"

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/rsa.h>

#include "core/crypto/digest.h"
#include "core/crypto/openssl_error.h"
#include "core/crypto/pkcs1_padding.h"
#include "core/crypto/pkey.h"
#include "core/crypto/rsa_numbers.h"

namespace coffer::crypto {
namespace {

constexpr int kModulusBitsMin = 2048;
constexpr int kModulusBitsMax = 8192;

const EVP_MD* digest_for(OaepHash hash) {
  switch (hash) {
    case OaepHash::kSha1:
      return ::EVP_sha1();
    case OaepHash::kSha256:
      return ::EVP_sha256();
    case OaepHash::kSha384:
      return ::EVP_sha384();
    case OaepHash::kSha512:
      return ::EVP_sha512();
  }
  return nullptr;
}

Result<std::shared_ptr<const KeyHandle>> parse_rsa(ByteView pem_or_der, KeyHalf half) {
  auto key = parse_pkey(pem_or_der, "RSA", half);
  if (!key) return tl::unexpected(key.error());
  const int bits = ::EVP_PKEY_get_bits(key->get());
  if (bits < kModulusBitsMin || bits > kModulusBitsMax)
    return fail(Reason::kInvalidArgs, "RSA key of " + std::to_string(bits) + " bits");
  return std::make_shared<const KeyHandle>(KeyHandle{std::move(*key)});
}

// Readies `context` for OAEP; the label is copied because OpenSSL takes it over.
bool set_oaep(EVP_PKEY_CTX* context, const OaepParams& params) {
  const bool set = ::EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1 &&
                   ::EVP_PKEY_CTX_set_rsa_oaep_md(context, digest_for(params.hash)) == 1 &&
                   ::EVP_PKEY_CTX_set_rsa_mgf1_md(context, digest_for(params.mgf_hash)) == 1;
  if (!set || params.label.empty()) return set;
  void* label = ::OPENSSL_memdup(params.label.data(), params.label.size());
  if (label == nullptr) return false;
  if (::EVP_PKEY_CTX_set0_rsa_oaep_label(context, label, static_cast<int>(params.label.size())) ==
      1) {
    return true;
  }
  ::OPENSSL_free(label);
  return false;
}

bool set_scheme(EVP_PKEY_CTX* context, RsaScheme scheme) {
  const bool pss = scheme == RsaScheme::kPssSha256;
  return ::EVP_PKEY_CTX_set_rsa_padding(context, pss ? RSA_PKCS1_PSS_PADDING : RSA_PKCS1_PADDING) ==
             1 &&
         ::EVP_PKEY_CTX_set_signature_md(context, ::EVP_sha256()) == 1 &&
         (!pss || (::EVP_PKEY_CTX_set_rsa_mgf1_md(context, ::EVP_sha256()) == 1 &&
                   ::EVP_PKEY_CTX_set_rsa_pss_saltlen(context, RSA_PSS_SALTLEN_DIGEST) == 1));
}

Result<void> check_digest(ByteView digest) {
  if (digest.size() == kSha256Bytes) return {};
  return fail(Reason::kInvalidArgs,
              "RSA signature of a digest of " + std::to_string(digest.size()) + " bytes");
}

}  // namespace

Result<RsaPublicKey> RsaPublicKey::parse(ByteView pem_or_der) {
  auto key = parse_rsa(pem_or_der, KeyHalf::kPublic);
  if (!key) return tl::unexpected(key.error());
  return RsaPublicKey(std::move(*key));
}

Result<Bytes> RsaPublicKey::to_der() const {
  return public_to_der(key_->pkey.get());
}

Result<std::string> RsaPublicKey::to_pem() const {
  return public_to_pem(key_->pkey.get());
}

std::size_t RsaPublicKey::size_bits() const noexcept {
  return static_cast<std::size_t>(::EVP_PKEY_get_bits(key_->pkey.get()));
}

Result<Bytes> RsaPublicKey::encrypt(const OaepParams& params, ByteView plaintext) const {
  return pkey_encrypt(key_->pkey.get(), plaintext, "RSA-OAEP",
                      [&](EVP_PKEY_CTX* context) { return set_oaep(context, params); });
}

Result<Bytes> RsaPublicKey::encrypt_pkcs1(ByteView plaintext) const {
  return pkey_encrypt(key_->pkey.get(), plaintext, "RSA PKCS #1", [](EVP_PKEY_CTX* context) {
    return ::EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_PADDING) == 1;
  });
}

Result<void> RsaPublicKey::verify(RsaScheme scheme, ByteView digest, ByteView signature) const {
  if (const auto good = check_digest(digest); !good) return good;
  return pkey_verify(key_->pkey.get(), digest, signature, "RSA",
                     [&](EVP_PKEY_CTX* context) { return set_scheme(context, scheme); });
}

Result<RsaPrivateKey> RsaPrivateKey::generate(unsigned size_bits) {
  if (size_bits < kModulusBitsMin || size_bits > kModulusBitsMax) {
    return fail(Reason::kInvalidArgs, "RSA key of " + std::to_string(size_bits) + " bits");
  }
  Pkey pkey(::EVP_RSA_gen(size_bits));
  if (pkey == nullptr) return openssl_failure(Reason::kInternal, "make an RSA key");
  return RsaPrivateKey(std::make_shared<const KeyHandle>(KeyHandle{std::move(pkey)}));
}

Result<RsaPrivateKey> RsaPrivateKey::parse(ByteView pem_or_der) {
  auto key = parse_rsa(pem_or_der, KeyHalf::kPrivate);
  if (!key) return tl::unexpected(key.error());
  return RsaPrivateKey(std::move(*key));
}

Result<void> RsaPrivateKey::require_sound() const {
  return require_sound_rsa(key_->pkey.get());
}

Result<SecretBytes> RsaPrivateKey::to_der() const {
  return private_to_der(key_->pkey.get());
}

Result<RsaPublicKey> RsaPrivateKey::public_key() const {
  auto der = public_to_der(key_->pkey.get());
  if (!der) return tl::unexpected(der.error());
  // Read back, so that what is handed out holds the public half alone.
  return RsaPublicKey::parse(*der);
}

std::size_t RsaPrivateKey::size_bits() const noexcept {
  return static_cast<std::size_t>(::EVP_PKEY_get_bits(key_->pkey.get()));
}

Result<SecretBytes> RsaPrivateKey::decrypt(const OaepParams& params, ByteView ciphertext) const {
  return pkey_decrypt(key_->pkey.get(), ciphertext, "RSA-OAEP",
                      [&](EVP_PKEY_CTX* context) { return set_oaep(context, params); });
}

Result<SecretBytes> RsaPrivateKey::decrypt_pkcs1(ByteView ciphertext) const {
  const std::size_t modulus_bytes = (size_bits() + 7) / 8;
  if (ciphertext.size() != modulus_bytes) {
    return fail(Reason::kBlobInvalid,
                "RSA PKCS #1 ciphertext of " + std::to_string(ciphertext.size()) + " bytes");
  }
  const auto exponent = rsa_number(key_->pkey.get(), OSSL_PKEY_PARAM_RSA_D, modulus_bytes);
  if (!exponent) return tl::unexpected(exponent.error());
  const auto key = replacement_key(exponent->reveal(), ciphertext);
  if (!key) return tl::unexpected(key.error());
  const auto encoded =
      pkey_decrypt(key_->pkey.get(), ciphertext, "RSA PKCS #1", [](EVP_PKEY_CTX* context) {
        return ::EVP_PKEY_CTX_set_rsa_padding(context, RSA_NO_PADDING) == 1;
      });
  if (!encoded) return tl::unexpected(encoded.error());
  return unpad_or_replace(*encoded, *key);
}

Result<Bytes> RsaPrivateKey::sign(RsaScheme scheme, ByteView digest) const {
  if (const auto good = check_digest(digest); !good) return tl::unexpected(good.error());
  return pkey_sign(key_->pkey.get(), digest, "RSA",
                   [&](EVP_PKEY_CTX* context) { return set_scheme(context, scheme); });
}

}  // namespace coffer::crypto

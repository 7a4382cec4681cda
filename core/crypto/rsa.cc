// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/rsa.h"

#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/encoder.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include "core/base/unique_fd.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using Pkey = CHandle<EVP_PKEY, ::EVP_PKEY_free>;
using PkeyContext = CHandle<EVP_PKEY_CTX, ::EVP_PKEY_CTX_free>;
using Decoder = CHandle<OSSL_DECODER_CTX, ::OSSL_DECODER_CTX_free>;
using Encoder = CHandle<OSSL_ENCODER_CTX, ::OSSL_ENCODER_CTX_free>;

constexpr int kModulusBitsMin = 2048;
constexpr int kModulusBitsMax = 8192;
constexpr std::size_t kDerBytesMax = std::size_t{32} * 1024;

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

Result<Pkey> parse_key(ByteView pem_or_der, int selection, const char* structure) {
  if (pem_or_der.size() > kDerBytesMax) return fail(Reason::kInvalidArgs, "RSA key is too long");
  EVP_PKEY* key = nullptr;
  const Decoder decoder(::OSSL_DECODER_CTX_new_for_pkey(&key, nullptr, structure, "RSA", selection,
                                                        nullptr, nullptr));
  const unsigned char* data = uchars(pem_or_der);
  std::size_t size = pem_or_der.size();
  const bool read =
      decoder != nullptr && ::OSSL_DECODER_from_data(decoder.get(), &data, &size) == 1;
  Pkey owned(key);
  if (!read || owned == nullptr) return openssl_failure(Reason::kInvalidArgs, "read an RSA key");
  const int bits = ::EVP_PKEY_get_bits(owned.get());
  if (bits < kModulusBitsMin || bits > kModulusBitsMax) {
    return fail(Reason::kInvalidArgs, "RSA key of " + std::to_string(bits) + " bits");
  }
  return owned;
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

}  // namespace

struct RsaPublicKey::Key {
  Pkey pkey;
};

Result<RsaPublicKey> RsaPublicKey::parse(ByteView pem_or_der) {
  auto key = parse_key(pem_or_der, EVP_PKEY_PUBLIC_KEY, "SubjectPublicKeyInfo");
  if (!key) return tl::unexpected(key.error());
  return RsaPublicKey(std::make_shared<const Key>(Key{std::move(*key)}));
}

Result<Bytes> RsaPublicKey::to_der() const {
  const Encoder encoder(::OSSL_ENCODER_CTX_new_for_pkey(key_->pkey.get(), EVP_PKEY_PUBLIC_KEY,
                                                        "DER", "SubjectPublicKeyInfo", nullptr));
  Bytes der(kDerBytesMax);
  unsigned char* at = out_uchars(der);
  std::size_t left = der.size();
  if (encoder == nullptr || ::OSSL_ENCODER_to_data(encoder.get(), &at, &left) != 1) {
    return openssl_failure(Reason::kInternal, "write an RSA public key");
  }
  der.resize(der.size() - left);
  return der;
}

std::size_t RsaPublicKey::size_bits() const noexcept {
  return static_cast<std::size_t>(::EVP_PKEY_get_bits(key_->pkey.get()));
}

Result<Bytes> RsaPublicKey::encrypt(const OaepParams& params, ByteView plaintext) const {
  const PkeyContext context(::EVP_PKEY_CTX_new_from_pkey(nullptr, key_->pkey.get(), nullptr));
  if (context == nullptr || ::EVP_PKEY_encrypt_init(context.get()) != 1 ||
      !set_oaep(context.get(), params)) {
    return openssl_failure(Reason::kInternal, "set up RSA-OAEP");
  }
  Bytes out(size_bits() / 8 + 1);
  std::size_t size = out.size();
  if (::EVP_PKEY_encrypt(context.get(), out_uchars(out), &size, uchars(plaintext),
                         plaintext.size()) != 1) {
    return openssl_failure(Reason::kInvalidArgs,
                           "RSA-OAEP of " + std::to_string(plaintext.size()) + " bytes");
  }
  out.resize(size);
  return out;
}

Result<RsaPrivateKey> RsaPrivateKey::generate(unsigned size_bits) {
  if (size_bits < kModulusBitsMin || size_bits > kModulusBitsMax) {
    return fail(Reason::kInvalidArgs, "RSA key of " + std::to_string(size_bits) + " bits");
  }
  Pkey pkey(::EVP_RSA_gen(size_bits));
  if (pkey == nullptr) return openssl_failure(Reason::kInternal, "make an RSA key");
  return RsaPrivateKey(std::make_shared<const Key>(Key{std::move(pkey)}));
}

Result<RsaPrivateKey> RsaPrivateKey::parse(ByteView pem_or_der) {
  auto key = parse_key(pem_or_der, EVP_PKEY_KEYPAIR, "PrivateKeyInfo");
  if (!key) return tl::unexpected(key.error());
  return RsaPrivateKey(std::make_shared<const Key>(Key{std::move(*key)}));
}

Result<SecretBytes> RsaPrivateKey::to_der() const {
  const Encoder encoder(::OSSL_ENCODER_CTX_new_for_pkey(key_->pkey.get(), EVP_PKEY_KEYPAIR, "DER",
                                                        "PrivateKeyInfo", nullptr));
  auto der = SecretBytes::zeroed(kDerBytesMax);
  if (!der) return der;
  unsigned char* at = out_uchars(der->reveal_mutable());
  std::size_t left = der->size();
  if (encoder == nullptr || ::OSSL_ENCODER_to_data(encoder.get(), &at, &left) != 1) {
    return openssl_failure(Reason::kInternal, "write an RSA private key");
  }
  der->shrink(der->size() - left);
  return der;
}

Result<RsaPublicKey> RsaPrivateKey::public_key() const {
  auto der = RsaPublicKey(key_).to_der();
  if (!der) return tl::unexpected(der.error());
  // Read back, so that what is handed out holds the public half alone.
  return RsaPublicKey::parse(*der);
}

std::size_t RsaPrivateKey::size_bits() const noexcept {
  return static_cast<std::size_t>(::EVP_PKEY_get_bits(key_->pkey.get()));
}

Result<SecretBytes> RsaPrivateKey::decrypt(const OaepParams& params, ByteView ciphertext) const {
  const PkeyContext context(::EVP_PKEY_CTX_new_from_pkey(nullptr, key_->pkey.get(), nullptr));
  if (context == nullptr || ::EVP_PKEY_decrypt_init(context.get()) != 1 ||
      !set_oaep(context.get(), params)) {
    return openssl_failure(Reason::kInternal, "set up RSA-OAEP");
  }
  auto plaintext = SecretBytes::zeroed(size_bits() / 8 + 1);
  if (!plaintext) return plaintext;
  std::size_t size = plaintext->size();
  const int done = ::EVP_PKEY_decrypt(context.get(), out_uchars(plaintext->reveal_mutable()), &size,
                                      uchars(ciphertext), ciphertext.size());
  if (done != 1) {
    static_cast<void>(
        openssl_failure(Reason::kBlobInvalid, ""));  // Clears the queue, says nothing.
    return fail(Reason::kBlobInvalid, "RSA-OAEP ciphertext is not for this key");
  }
  plaintext->shrink(size);
  return plaintext;
}

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/pkey.h"

#include <openssl/decoder.h>
#include <openssl/encoder.h>

#include <string>

#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using PkeyContext = CHandle<EVP_PKEY_CTX, ::EVP_PKEY_CTX_free>;
using Decoder = CHandle<OSSL_DECODER_CTX, ::OSSL_DECODER_CTX_free>;
using Encoder = CHandle<OSSL_ENCODER_CTX, ::OSSL_ENCODER_CTX_free>;

constexpr std::size_t kKeyBytesMax = std::size_t{32} * 1024;

struct Form {
  KeyHalf half;
  const char* encoding;  // "DER" or "PEM"
};

int selection_of(KeyHalf half) {
  return half == KeyHalf::kPublic ? EVP_PKEY_PUBLIC_KEY : EVP_PKEY_KEYPAIR;
}
const char* structure_of(KeyHalf half) {
  return half == KeyHalf::kPublic ? "SubjectPublicKeyInfo" : "PrivateKeyInfo";
}

// How many bytes of `out` the key takes in that form.
Result<std::size_t> write_key(EVP_PKEY* key, Form form, std::span<std::byte> out) {
  const Encoder encoder(::OSSL_ENCODER_CTX_new_for_pkey(key, selection_of(form.half), form.encoding,
                                                        structure_of(form.half), nullptr));
  unsigned char* at = out_uchars(out);
  std::size_t left = out.size();
  if (encoder == nullptr || ::OSSL_ENCODER_to_data(encoder.get(), &at, &left) != 1)
    return openssl_failure(Reason::kInternal, "write a key");
  return out.size() - left;
}

PkeyContext new_context(EVP_PKEY* key) {
  return PkeyContext(::EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
}

tl::unexpected<Error> cannot_set_up(std::string_view what) {
  return openssl_failure(Reason::kInternal, "set up " + std::string(what));
}

// Drops what OpenSSL has to say: it would tell one cause from another.
tl::unexpected<Error> refused(std::string message) {
  static_cast<void>(openssl_failure(Reason::kBlobInvalid, ""));
  return fail(Reason::kBlobInvalid, std::move(message));
}

}  // namespace

Result<Pkey> parse_pkey(ByteView pem_or_der, const char* type, KeyHalf half) {
  const std::string name = std::string("read an ") + type + " key";
  if (pem_or_der.size() > kKeyBytesMax) return fail(Reason::kInvalidArgs, name + ": too long");
  EVP_PKEY* key = nullptr;
  const Decoder decoder(::OSSL_DECODER_CTX_new_for_pkey(&key, nullptr, structure_of(half), type,
                                                        selection_of(half), nullptr, nullptr));
  const unsigned char* data = uchars(pem_or_der);
  std::size_t rest_bytes = pem_or_der.size();
  const bool read =
      decoder != nullptr && ::OSSL_DECODER_from_data(decoder.get(), &data, &rest_bytes) == 1;
  Pkey owned(key);
  if (!read || owned == nullptr) return openssl_failure(Reason::kInvalidArgs, name);
  const bool der = as_text(pem_or_der).starts_with('\x30');
  if (der && rest_bytes != 0) return fail(Reason::kInvalidArgs, name + ": bytes follow it");
  return owned;
}

bool is_consistent(EVP_PKEY* key, KeyHalf half) {
  const auto context = new_context(key);
  if (context == nullptr) return false;
  if (half == KeyHalf::kPublic) return ::EVP_PKEY_public_check(context.get()) == 1;
  return ::EVP_PKEY_check(context.get()) == 1;
}

Result<Bytes> public_to_der(EVP_PKEY* key) {
  Bytes der(kKeyBytesMax);
  const auto size = write_key(key, {KeyHalf::kPublic, "DER"}, der);
  if (!size) return tl::unexpected(size.error());
  der.resize(*size);
  return der;
}

Result<std::string> public_to_pem(EVP_PKEY* key) {
  Bytes pem(kKeyBytesMax);
  const auto size = write_key(key, {KeyHalf::kPublic, "PEM"}, pem);
  if (!size) return tl::unexpected(size.error());
  return std::string(as_text(ByteView(pem).first(*size)));
}

Result<SecretBytes> private_to_der(EVP_PKEY* key) {
  auto der = SecretBytes::zeroed(kKeyBytesMax);
  if (!der) return der;
  const auto size = write_key(key, {KeyHalf::kPrivate, "DER"}, der->reveal_mutable());
  if (!size) return tl::unexpected(size.error());
  der->shrink(*size);
  return der;
}

Result<Bytes> pkey_encrypt(EVP_PKEY* key, ByteView plaintext, std::string_view what,
                           const Setup& setup) {
  const auto context = new_context(key);
  std::size_t size = 0;
  const bool ready =
      context != nullptr && ::EVP_PKEY_encrypt_init(context.get()) == 1 && setup(context.get()) &&
      ::EVP_PKEY_encrypt(context.get(), nullptr, &size, uchars(plaintext), plaintext.size()) == 1;
  if (!ready) return cannot_set_up(what);
  Bytes out(size);
  if (::EVP_PKEY_encrypt(context.get(), out_uchars(out), &size, uchars(plaintext),
                         plaintext.size()) != 1) {
    return openssl_failure(Reason::kInvalidArgs, std::string(what) + " of " +
                                                     std::to_string(plaintext.size()) + " bytes");
  }
  out.resize(size);
  return out;
}

Result<SecretBytes> pkey_decrypt(EVP_PKEY* key, ByteView ciphertext, std::string_view what,
                                 const Setup& setup) {
  const auto context = new_context(key);
  if (context == nullptr || ::EVP_PKEY_decrypt_init(context.get()) != 1 || !setup(context.get()))
    return cannot_set_up(what);
  // No text is longer than its ciphertext; RSA wants room for a modulus whatever comes.
  const auto key_bytes = static_cast<std::size_t>(::EVP_PKEY_get_size(key));
  auto plaintext = SecretBytes::zeroed(std::max(ciphertext.size(), key_bytes) + 1);
  if (!plaintext) return plaintext;
  std::size_t size = plaintext->size();
  if (::EVP_PKEY_decrypt(context.get(), out_uchars(plaintext->reveal_mutable()), &size,
                         uchars(ciphertext), ciphertext.size()) != 1) {
    return refused(std::string(what) + " ciphertext is not for this key");
  }
  plaintext->shrink(size);
  return plaintext;
}

Result<Bytes> pkey_sign(EVP_PKEY* key, ByteView digest, std::string_view what, const Setup& setup) {
  const auto context = new_context(key);
  Bytes signature(static_cast<std::size_t>(::EVP_PKEY_get_size(key)));
  std::size_t size = signature.size();
  const bool done =
      context != nullptr && ::EVP_PKEY_sign_init(context.get()) == 1 && setup(context.get()) &&
      ::EVP_PKEY_sign(context.get(), out_uchars(signature), &size, uchars(digest), digest.size()) ==
          1;
  if (!done) return openssl_failure(Reason::kInternal, "sign with " + std::string(what));
  signature.resize(size);
  return signature;
}

Result<void> pkey_verify(EVP_PKEY* key, ByteView digest, ByteView signature, std::string_view what,
                         const Setup& setup) {
  const auto context = new_context(key);
  if (context == nullptr || ::EVP_PKEY_verify_init(context.get()) != 1 || !setup(context.get()))
    return cannot_set_up(what);
  if (::EVP_PKEY_verify(context.get(), uchars(signature), signature.size(), uchars(digest),
                        digest.size()) != 1) {
    return refused("the signature is not of this " + std::string(what) + " key and digest");
  }
  return {};
}

}  // namespace coffer::crypto

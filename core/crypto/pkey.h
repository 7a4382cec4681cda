// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"

// Private to the .cc files of this folder: what RSA, EC and SM2 keys have in common in OpenSSL.
namespace coffer::crypto {

using Pkey = CHandle<EVP_PKEY, ::EVP_PKEY_free>;

// What the key classes point to; they declare it and leave it at that.
struct KeyHandle {
  Pkey pkey;
};

enum class KeyHalf : std::uint8_t { kPublic, kPrivate };

// A SubjectPublicKeyInfo or a PKCS #8 that is not encrypted, as PEM or DER, of at most 32 KiB;
// `type` is OpenSSL's name: RSA, EC, SM2.   kInvalidArgs: not that, or bytes behind the DER.
Result<Pkey> parse_pkey(ByteView pem_or_der, const char* type, KeyHalf half);

// Whether the numbers of that half are ones that a key may have; of kPrivate also, whether the
// halves belong together. For EC and SM2 alone: of RSA see rsa_numbers.h.
bool is_consistent(EVP_PKEY* key, KeyHalf half);

//   kInternal  OpenSSL cannot write it.
Result<Bytes> public_to_der(EVP_PKEY* key);
Result<std::string> public_to_pem(EVP_PKEY* key);
Result<SecretBytes> private_to_der(EVP_PKEY* key);  // kNoMemory as SecretBytes.

// Readies a context for an operation: padding, hashes. False when OpenSSL refuses.
using Setup = std::function<bool(EVP_PKEY_CTX*)>;
inline bool nothing_to_set(EVP_PKEY_CTX* /*context*/) {
  return true;
}

// `what` names the algorithm in messages.
//   kInvalidArgs  encrypt: the text is too long for the key.
//   kBlobInvalid  decrypt, verify: not made for this key; one answer for every cause.
//   kInternal     the algorithm cannot be set up.
Result<Bytes> pkey_encrypt(EVP_PKEY* key, ByteView plaintext, std::string_view what,
                           const Setup& setup);
Result<SecretBytes> pkey_decrypt(EVP_PKEY* key, ByteView ciphertext, std::string_view what,
                                 const Setup& setup);
Result<Bytes> pkey_sign(EVP_PKEY* key, ByteView digest, std::string_view what, const Setup& setup);
Result<void> pkey_verify(EVP_PKEY* key, ByteView digest, ByteView signature, std::string_view what,
                         const Setup& setup);

}  // namespace coffer::crypto

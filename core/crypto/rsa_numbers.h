// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <openssl/evp.h>

#include <cstddef>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"

// Private to the .cc files of this folder: the numbers of an RSA private key, RFC 8017 section 3.2.
namespace coffer::crypto {

// One of them by OpenSSL's name, big-endian, filled up with zeros to `size_bytes`.
//   kInvalidArgs  it is longer, or the key has none.
//   kNoMemory     as SecretBytes.
Result<SecretBytes> rsa_number(EVP_PKEY* key, const char* name, std::size_t size_bytes);

// What RsaPrivateKey::require_sound() promises, with its errors. OpenSSL's own check of a pair
// (EVP_PKEY_check) is not asked: it leaves phi(n), lambda(n), dq and qinv in memory that it has
// freed, and each of them gives the key away. Here every number that is made is wiped.
Result<void> require_sound_rsa(EVP_PKEY* key);

}  // namespace coffer::crypto

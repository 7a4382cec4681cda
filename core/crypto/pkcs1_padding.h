// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

// Private to rsa.cc: what stands in for RSAES-PKCS1-v1_5's error. An answer that tells good padding
// from bad lets an attacker decrypt (Bleichenbacher 1998), so bad padding gives a plaintext too:
// one that depends on key and ciphertext alone and looks like any other. This is the implicit
// rejection of draft-irtf-cfrg-rsa-guidance, bit for bit what OpenSSL does since 3.2; Debian
// 12's 3.0 has none.
namespace coffer::crypto {

// The key of the replacements for one ciphertext. `private_exponent` (big-endian) and `ciphertext`
// are both as long as the modulus.   kNoMemory: as SecretBytes.
Result<SecretBytes> replacement_key(ByteView private_exponent, ByteView ciphertext);

// The text in `encoded`, which is what the private key made of the ciphertext, or the replacement.
// Which of the two, is chosen without a branch or an address that depends on it.
//   kNoMemory  as SecretBytes.
Result<SecretBytes> unpad_or_replace(const SecretBytes& encoded, const SecretBytes& key);

}  // namespace coffer::crypto

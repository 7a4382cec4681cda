// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::crypto {

// AES-GCM (NIST SP 800-38D) with a 128-bit tag. Coffer itself uses 256-bit keys and 96-bit nonces
// alone; the other key sizes (16, 24 bytes) and nonces (1 to 128 bytes) are there for the vectors.
//
// A nonce must never be used twice with one key: whoever calls seal() sees to that.
inline constexpr std::size_t kGcmKeyBytes = 32;
inline constexpr std::size_t kGcmNonceBytes = 12;
inline constexpr std::size_t kGcmTagBytes = 16;

// What goes into the tag beside key and text.
struct GcmContext {
  ByteView nonce;
  ByteView aad;  // Authenticated, not encrypted; may be empty.
};

// The ciphertext with the tag behind it: plaintext.size() + kGcmTagBytes.
//   kInvalidArgs  the size of key or nonce, or more than 1 GiB of text.
Result<Bytes> aes_gcm_seal(ByteView key, const GcmContext& context, ByteView plaintext);

// Undoes seal(). The plaintext is written straight into locked memory and wiped when the tag is
// wrong.
//   kBlobInvalid  key, context or bytes are not those of seal(), or `sealed` is shorter than a tag.
//   kInvalidArgs  as above.
//   kNoMemory     as SecretBytes.
Result<SecretBytes> aes_gcm_open(ByteView key, const GcmContext& context, ByteView sealed);

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "core/crypto/aead.h"

namespace coffer::crypto {

// SM4 (GB/T 32907-2016) from libgcrypt, which is several times as fast as OpenSSL 3.0 and, unlike
// that, has GCM. The first call of a process readies libgcrypt, unless somebody has done so; the
// functions may be called from any thread. What libgcrypt makes of a key is wiped before the call
// ends.
//
// All of them:
//   kInvalidArgs  a key of other than 16 bytes, or more than 1 GiB of text.
//   kUnsupported  the library refuses SM4, as it does in FIPS mode.
inline constexpr std::size_t kSm4KeyBytes = 16;
inline constexpr std::size_t kSm4BlockBytes = 16;
using Sm4Block = std::array<std::byte, kSm4BlockBytes>;

// GCM (RFC 8998) with a 128-bit tag; as aes_gcm_seal() and aes_gcm_open(), nonces of 1 to 128
// bytes.
//   kBlobInvalid  as there.
//   kNoMemory     as SecretBytes.
Result<Bytes> sm4_gcm_seal(ByteView key, const GcmContext& context, ByteView plaintext);
Result<SecretBytes> sm4_gcm_open(ByteView key, const GcmContext& context, ByteView sealed);

// CTR with a counter of 128 bits, big-endian, that starts at `counter`; the same for both
// directions. `out` has the size of `in` and may be the same memory. It authenticates nothing, and
// a counter must never be used twice with one key.
//   kInvalidArgs  also `out` of another size.
Result<void> sm4_ctr(ByteView key, const Sm4Block& counter, ByteView in, std::span<std::byte> out);

// CBC with the padding of PKCS #7 (RFC 5652 section 6.3): 1 to 16 bytes more.
//   kBlobInvalid  not whole blocks, or the padding is wrong. That answer tells an attacker about
//   the
//                 plaintext, so whoever opens what others may have changed checks a MAC first.
//   kNoMemory     as SecretBytes.
Result<Bytes> sm4_cbc_encrypt(ByteView key, const Sm4Block& iv, ByteView plaintext);
Result<SecretBytes> sm4_cbc_decrypt(ByteView key, const Sm4Block& iv, ByteView ciphertext);

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/cmk_record.h"
#include "hsm/vault_token.h"

namespace coffer::hsm {

// GCM by a key in this process's memory, for rooted keys and the development token: AES-256 or SM4,
// a random nonce of 12 bytes, a tag of 16.
//   kInvalidArgs   the key is not one of `algorithm`.
Result<Ciphertext> gcm_encrypt(keyring::KeyAlgorithm algorithm, ByteView key,
                               const EncryptJob& job);
//   kBlobInvalid   not what gcm_encrypt() made with this key and AAD.
Result<SecretBytes> gcm_decrypt(keyring::KeyAlgorithm algorithm, ByteView key,
                                const DecryptJob& job);

}  // namespace coffer::hsm

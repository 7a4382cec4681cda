// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"

// What makes a wrapped key commit to the key it was wrapped under: 32 zero bytes before what is
// encrypted, looked for when it is decrypted (Albertini et al., "How to Abuse and Fix Authenticated
// Encryption Without Key Commitment", USENIX Security 2022). AES-GCM and SM4-GCM alone
// do not commit: who knows two keys can make one ciphertext that opens under both. With the zeros
// the two keys would have to agree in 256 bits of what they make of one nonce. It asks nothing of a
// token but that it encrypts 32 bytes more. Decision 0190.
namespace coffer::hsm {

inline constexpr std::size_t kCommitmentBytes = 32;

// The zeros, and `plain` behind them.
Result<SecretBytes> with_commitment(std::span<const std::byte> plain);

// Takes the zeros off again; false, and nothing is changed, when `text` does not begin with them.
// Takes as long whichever byte is wrong.
bool take_commitment(SecretBytes& text);

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"

// The padding of PKCS #7 (RFC 5652 section 6.3) for ciphers of 16-byte blocks, made here where a
// token makes none: SDF devices do not pad, and tpm2-pkcs11 1.9 does not take its padding off again
// (docs/tpm.md). Only what was authenticated before is unpadded, so nothing is told by its failing.
namespace coffer::hsm {

inline constexpr std::size_t kPaddedBlockBytes = 16;

// 1 to 16 bytes longer, in whole blocks.
Result<SecretBytes> pad_blocks(std::span<const std::byte> plain);

// Cuts the padding off; false, and nothing is cut, when there is none.
bool unpad_blocks(SecretBytes& text);

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::crypto {

// The two inputs of HKDF beside the key. Salt may be empty; `info` says what the output is for, so
// that outputs for different uses are independent.
struct HkdfContext {
  ByteView salt;
  ByteView info;
};

// HKDF-SHA256 (RFC 5869), extract and expand.   kInvalidArgs: size 0 or above 255 * 32 bytes.
Result<SecretBytes> hkdf_sha256(ByteView key, const HkdfContext& context, std::size_t size_bytes);

enum class PbkdfHash : std::uint8_t { kSha1, kSha256, kSha384, kSha512 };

struct PbkdfParams {
  PbkdfHash hash = PbkdfHash::kSha256;
  ByteView salt;
  std::uint32_t iterations = 0;
};

// PBKDF2-HMAC (RFC 8018).
//   kInvalidArgs  no iterations or more than 100 million, size 0 or above 1 KiB, salt above 1 KiB.
Result<SecretBytes> pbkdf2(ByteView password, const PbkdfParams& params, std::size_t size_bytes);

inline Result<SecretBytes> pbkdf2_hmac_sha256(ByteView password, ByteView salt,
                                              std::uint32_t iterations, std::size_t size_bytes) {
  return pbkdf2(password, {PbkdfHash::kSha256, salt, iterations}, size_bytes);
}

}  // namespace coffer::crypto

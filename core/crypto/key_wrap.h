// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::crypto {

// AES key wrap (RFC 3394, KW) and with padding (RFC 5649, KWP), under a `kek` of 16, 24 or 32
// bytes.
//
// Both authenticate the key bytes and nothing else: what a wrapped key is for must be bound by a
// MAC around it.
inline constexpr std::size_t kWrapOverheadBytes = 8;
inline constexpr std::size_t kWrappableBytesMax = 4096 + 32;  // A caller's data, committed.

// KW takes 16 bytes or more in multiples of 8.   kInvalidArgs: sizes.
Result<Bytes> aes_kw_wrap(ByteView kek, ByteView key);
// KWP takes 1 byte or more.                      kInvalidArgs: sizes.
Result<Bytes> aes_kwp_wrap(ByteView kek, ByteView key);

// The wrapped key, in locked memory.
//   kBlobInvalid  `wrapped` was not made under `kek`, was changed, or has a length no wrap has.
//   kInvalidArgs  the size of `kek`.
Result<SecretBytes> aes_kw_unwrap(ByteView kek, ByteView wrapped);
Result<SecretBytes> aes_kwp_unwrap(ByteView kek, ByteView wrapped);

}  // namespace coffer::crypto

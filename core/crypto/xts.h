// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::crypto {

// AES-XTS (IEEE 1619) as dm-crypt's aes-xts-plain64 does it, for tests and self-tests: what a
// volume holds can be checked without a kernel. The key is both halves: 32 or 64 bytes, halves not
// equal.
using XtsTweak = std::array<std::byte, 16>;

// The tweak of plain64: the sector's number, 64 bits little-endian, then zeros.
XtsTweak plain64_tweak(std::uint64_t sector) noexcept;

// One data unit of 16 bytes to 16 MiB; `out` has the size of `in` and may be the same memory.
//   kInvalidArgs  sizes, or both halves of the key equal.
Result<void> aes_xts_encrypt(ByteView key, const XtsTweak& tweak, ByteView in,
                             std::span<std::byte> out);
Result<void> aes_xts_decrypt(ByteView key, const XtsTweak& tweak, ByteView in,
                             std::span<std::byte> out);

// Where a run of sectors lies and how its tweaks count.
struct XtsSectors {
  std::uint64_t first_tweak = 0;   // Tweak of the first sector, in units of 512 bytes.
  std::size_t sector_bytes = 512;  // Encryption sector: 512 to 4096. The tweak grows by this / 512,
                                   // as LUKS2 does it (no iv_large_sectors).
};

// A whole number of sectors, one after another.   kInvalidArgs as above.
Result<void> aes_xts_encrypt_sectors(ByteView key, const XtsSectors& where, ByteView in,
                                     std::span<std::byte> out);
Result<void> aes_xts_decrypt_sectors(ByteView key, const XtsSectors& where, ByteView in,
                                     std::span<std::byte> out);

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::cli {

// What dm-crypt would read out of `ciphertext`, for vectors: ciphers that Coffer does not use for
// its own volumes are among them.
struct SectorParams {
  std::string_view cipher;  // aes-xts-plain64, aes-xts-plain, aes-cbc-essiv:sha256
  std::uint32_t sector_bytes = 512;
  std::uint64_t first_sector = 0;  // In units of 512 bytes.
  bool iv_large_sectors = false;   // The IV counts sectors, not units of 512 bytes.
};

// kUnsupported: another cipher. kInvalidArgs: sizes.
Result<Bytes> decrypt_sectors(const SectorParams& params, ByteView key, ByteView ciphertext);

}  // namespace coffer::cli

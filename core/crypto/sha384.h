// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "core/base/bytes.h"

namespace coffer::crypto {

// SHA-384 (FIPS 180-4): what is signed of a message on the curve P-384. Fails for want of memory
// alone, by std::bad_alloc.
inline constexpr std::size_t kSha384Bytes = 48;
using Sha384Digest = std::array<std::byte, kSha384Bytes>;

Sha384Digest sha384(ByteView bytes);

}  // namespace coffer::crypto

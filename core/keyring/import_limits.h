// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

namespace coffer::keyring {

// How long wrapped material may be, at every door that it comes through. The longest that is taken
// in is a private key of 4096 bytes (docs/formats/private-key.md) under RSA-AES key wrap to
// RSA-4096: 512 + 4104 bytes.
inline constexpr std::size_t kImportWrappedBytesMax = 8192;

}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"

namespace coffer {

// Lower-case hexadecimal. from_hex takes lower case alone and an even number of digits.
std::string to_hex(ByteView bytes);
std::optional<Bytes> from_hex(std::string_view text);

// Base64 of RFC 4648 section 4, padded. from_base64 takes the canonical form alone: no white space,
// padding complete, unused bits zero. Neither is for key material: the results are ordinary memory.
std::string to_base64(ByteView bytes);
std::optional<Bytes> from_base64(std::string_view text);

}  // namespace coffer

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"

namespace coffer::luks2 {

inline constexpr std::string_view kTokenType = "coffer";  // Also the subsystem label.
inline constexpr std::size_t kTokenWrapsMax = 8;
inline constexpr std::size_t kTokenRecordsMax = 8;
inline constexpr std::size_t kTokenContextBytesMax = 2048;
inline constexpr std::size_t kTokenWrapBytesMax = 4096;
inline constexpr std::size_t kTokenRecordBytesMax = 8192;
inline constexpr std::size_t kTokenJsonBytesMax = std::size_t{40}
                                                  << 10;  // Of the 60 KiB JSON area.

// Token is the LUKS2 token of type `coffer`: with the HSM (or the recovery shares) and this alone,
// the volume opens. Nothing in it is secret, and nothing in it is believed before the wrap it
// carries has been unwrapped under that context. docs/formats/token.md.
struct Token {
  std::uint64_t generation = 1;  // Of the volume key; also in the context, which is authenticated.
  std::uint8_t threshold = 1;  // How many wraps open the volume: 1, or M of the shares in `wraps`.
  Bytes context;               // Canonical binary context: core/keyring owns its form.
  std::vector<Bytes> wraps;    // CiphertextBlobs, at least one: core/keyring owns their form.
  std::vector<Bytes> records;  // Sealed CMK records of those wraps: core/keyring owns their form.
  std::vector<std::uint32_t> keyslots;  // Keyslots that the token opens; mostly none.

  friend bool operator==(const Token&, const Token&) = default;
};

// JSON without spaces, members in the order of docs/formats/token.md: what goes into the header.
// kTokenInvalid: outside the limits. kTokenSpace: the text would exceed kTokenJsonBytesMax.
Result<std::string> print_token(const Token& token);

// kTokenInvalid: not of this type and version, a member missing, unknown or against its limits.
Result<Token> parse_token(std::string_view json);

}  // namespace coffer::luks2

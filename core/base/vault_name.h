// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string_view>

namespace coffer {

// The name of a vault stands in file names, in an instance of its unit, and behind "coffer " in the
// label of a token that coffer makes, which has 32 bytes.
inline constexpr std::size_t kVaultNameBytesMax = 24;
inline constexpr const char* kVaultNameRule = "1 to 24 of a-z 0-9 _ -";

constexpr bool is_vault_name(std::string_view text) noexcept {
  return !text.empty() && text.size() <= kVaultNameBytesMax &&
         text.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789_-") == std::string_view::npos;
}

}  // namespace coffer

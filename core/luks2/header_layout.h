// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "core/base/bytes.h"
#include "core/luks2/header.h"

namespace coffer::luks2 {

inline constexpr std::uint64_t kSectorBytes = 512;
inline constexpr std::uint64_t kKeyslotsBytesMax = std::uint64_t{128} << 20;

// The offsets at which a second copy may stand: also the only sizes of a metadata area.
inline constexpr std::array<std::uint64_t, 9> kMetadataSizes = {
    std::uint64_t{16} << 10,  std::uint64_t{32} << 10,  std::uint64_t{64} << 10,
    std::uint64_t{128} << 10, std::uint64_t{256} << 10, std::uint64_t{512} << 10,
    std::uint64_t{1} << 20,   std::uint64_t{2} << 20,   std::uint64_t{4} << 20};

// How the entries of a header that was read fit together: areas and segments do not overlap and lie
// where they may, each crypt segment has a digest and each keyslot of type luks2 exactly one,
// reencryption is either all there or not at all. Internal to core/luks2.
std::optional<Refusal> check_layout(const Header& header);

}  // namespace coffer::luks2

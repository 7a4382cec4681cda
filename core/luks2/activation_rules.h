// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>

#include "core/luks2/header.h"
#include "core/luks2/profile.h"

namespace coffer::luks2 {

// Costs that a header may ask for before a key derivation runs: they are attacker input.
inline constexpr std::uint32_t kKdfIterationsMax = 10'000'000;
inline constexpr std::uint32_t kKdfMemoryKibMax = 1U << 20;  // 1 GiB
inline constexpr std::uint32_t kKdfThreadsMax = 4;
inline constexpr std::uint64_t kDataAlignmentBytes = std::uint64_t{1} << 20;

// Whether Coffer may ever activate a well-formed header: the first rule that it breaks, or nothing.
// With `profile`, that decides on data segment, key size and flags, and a difference is
// kProfileMismatch; without, a header must look like the volumes that Coffer makes: one crypt
// segment from a MiB boundary to the end of the device, a cipher of the list, 4096-byte sectors, no
// flags.
//   kHeaderUnusual    an in-place job under way: left alone, not wrong
//   kHeaderInvalid    a rule of docs/formats/luks2.md
//   kProfileMismatch  a field that `profile` pins
//   kTokenInvalid     tokens that contradict the volume or each other
// A header without a token of type coffer can pass: whoever needs the token asks for it.
std::optional<Refusal> activation_refusal(const Header& header, const Profile* profile = nullptr);

// Whether `cipher` is of the literal list, and the key length that goes with it (0: not listed).
std::uint32_t cipher_key_bytes(std::string_view cipher) noexcept;
bool cipher_takes_key(std::string_view cipher, std::uint32_t key_bytes) noexcept;

}  // namespace coffer::luks2

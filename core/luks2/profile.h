// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/luks2/header.h"

namespace coffer::luks2 {

// Persistent activation flags of LUKS2 that a profile may enrol. A header flag outside this list is
// never activated.
enum class ConfigFlags : std::uint32_t {
  kNone = 0,
  kAllowDiscards = 1U << 0,
  kSameCpuCrypt = 1U << 1,
  kSubmitFromCryptCpus = 1U << 2,
  kNoJournal = 1U << 3,
  kNoReadWorkqueue = 1U << 4,
  kNoWriteWorkqueue = 1U << 5,
};

// Profile pins what decides where a volume's bytes go and how they are encrypted: LUKS2 metadata
// are not authenticated, so a header that differs is refused, naming the field. It is fixed before
// the volume key exists and its digest is in the authenticated context of every wrapped key. It
// says nothing about digest, keyslots and tokens: the key proves the first, others may add the
// rest.
//
// By its format a profile has one data segment of type crypt, no integrity, no segment flags and no
// requirements. docs/formats/profile.md.
struct Profile {
  Uuid uuid;
  std::uint64_t metadata_bytes = std::uint64_t{64} << 10;  // Of one copy.
  std::uint64_t keyslots_bytes = 0;
  std::uint64_t data_offset_bytes = 0;           // 0: the header is detached.
  std::optional<std::uint64_t> data_size_bytes;  // None: to the end of the device.
  std::uint64_t iv_tweak = 0;
  std::string cipher = "aes-xts-plain64";
  std::uint32_t key_bytes = 64;
  std::uint32_t sector_bytes = 4096;
  ConfigFlags flags = ConfigFlags::kNone;

  bool detached() const noexcept { return data_offset_bytes == 0; }

  friend bool operator==(const Profile&, const Profile&) = default;
};

inline constexpr std::size_t kProfileBytesMax = 256;       // Binary form.
inline constexpr std::size_t kProfileTextBytesMax = 4096;  // JSON form.

// The profile that `header` has. kHeaderUnusual: it has something that no profile can hold; the
// message starts with the field.
Result<Profile> profile_of(const Header& header);

// The field in which `seen` differs from `pinned`, in the order of the binary form; none: equal.
// Names are paths in the header: "uuid", "segments.0.offset", "config.flags".
std::optional<std::string> first_difference(const Profile& pinned, const Profile& seen);

// The same for a header: also fields that no profile can hold.
std::optional<std::string> first_difference(const Profile& pinned, const Header& seen);

// Canonical binary form and its SHA-256. decode_profile: kProfileMismatch never, kMessageInvalid
// unless `bytes` is exactly what encode_profile() makes of some profile.
Bytes encode_profile(const Profile& profile);
Result<Profile> decode_profile(ByteView bytes);
Sha256 profile_digest(const Profile& profile);

// JSON form, one member per line, for files and people. kInvalidArgs: not a profile; members may
// stand in any order, none may be missing or unknown.
std::string print_profile(const Profile& profile);
Result<Profile> parse_profile(std::string_view text);

}  // namespace coffer::luks2

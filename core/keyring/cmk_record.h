// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/id.h"
#include "core/base/result.h"
#include "core/keyring/wrapped_key.h"

namespace coffer::keyring {

enum class KeyState : std::uint8_t {
  kEnabled = 1,
  kDisabled = 2,
  kArchived = 3,  // Unwraps, does not wrap.
  kPendingImport = 4,
  kPendingDelete = 5,
};
enum class KeyOwner : std::uint8_t { kUser = 1, kService = 2 };
enum class KeyOrigin : std::uint8_t { kGenerated = 1, kImported = 2 };
enum class KeyAlgorithm : std::uint8_t { kAes256 = 1 };
// Where the key lives; docs/glossary.md.
enum class Protection : std::uint8_t { kResident = 1, kWrapped = 2, kRooted = 3 };
enum class TokenKind : std::uint8_t { kHardware = 1, kSoftware = 2 };
enum class VersionState : std::uint8_t { kCurrent = 1, kDecryptOnly = 2, kDestroyed = 3 };

// The names that D-Bus, JSON and tables show: "Enabled", "wrapped", "software", …
std::string_view key_state_name(KeyState state) noexcept;
std::string_view protection_name(Protection protection) noexcept;
std::string_view token_kind_name(TokenKind kind) noexcept;
std::string_view key_algorithm_name(KeyAlgorithm algorithm) noexcept;
std::string_view key_origin_name(KeyOrigin origin) noexcept;

struct KeyVersion {
  std::uint32_t number = 1;
  VersionState state = VersionState::kCurrent;
  KekProfile profile = KekProfile::kAesGcm;
  WallTime created{};
  Bytes material{};                // Under the token's root key; at most 4096 bytes.
  std::uint64_t wraps_leased = 0;  // Uses handed out in blocks; refused at 2^32.

  friend bool operator==(const KeyVersion&, const KeyVersion&) = default;
};

// CmkRecord is a CMK as the store keeps it: sealed by the vault with an HMAC whose key is in the
// token, so that neither the store nor a caller can use a disabled key, swap two keys or edit a
// counter. Callers read records; only a vault makes them. Format: docs/formats/cmk-record.md.
struct CmkRecord {
  CmkId id;
  std::uint64_t revision = 1;  // +1 with every change.
  KeyState state = KeyState::kEnabled;
  KeyOwner owner = KeyOwner::kUser;
  KeyOrigin origin = KeyOrigin::kGenerated;
  KeyAlgorithm algorithm = KeyAlgorithm::kAes256;
  Protection protection = Protection::kWrapped;
  TokenKind token_kind = TokenKind::kSoftware;
  std::string root_id{};      // Key check value of the root key that wraps it; at most 64 bytes.
  std::string alias{};        // 1 to 60 of [A-Za-z0-9_-], starting with a letter.
  std::string description{};  // At most 1024 bytes.
  WallTime created{};
  WallTime changed{};
  std::vector<KeyVersion> versions{};  // 1 to 128, ascending, the last one current.

  static constexpr std::size_t kSealBytes = 32;
  static constexpr std::size_t kVersionsMax = 128;
  // With its seal a record fits a volume's token (luks2::kTokenRecordBytesMax): one that did not
  // could not wrap a volume's key.
  static constexpr std::size_t kEncodedBytesMax = 8192 - kSealBytes;

  const KeyVersion& current() const { return versions.back(); }
  const KeyVersion* find_version(std::uint32_t number) const noexcept;

  // The sealed part.
  Bytes encode() const;
  // The sealed part of `sealed`, and the record in it. The seal itself is not checked: only a vault
  // can. kRecordInvalid: malformed, over a limit, or of an unknown version.
  static Result<CmkRecord> decode(ByteView sealed);

  friend bool operator==(const CmkRecord&, const CmkRecord&) = default;
};

// encode() with its seal behind it: what stores and tokens hold, opaque to both.
using SealedRecord = Bytes;

// kInvalidArgs: not an alias as described above.
Result<void> require_alias(std::string_view alias);
// kInvalidArgs: longer than 1024 bytes, or not UTF-8.
Result<void> require_description(std::string_view description);

}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
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
  kArchived = 3,       // Unwraps, does not wrap.
  kPendingImport = 4,  // Its material is not there: not yet, or deleted, or expired.
  kPendingDelete = 5,
  // Gone for good: its versions are destroyed. The record stays behind, so that a copy of an older
  // one, from a volume's token or a backup, does not bring the key back. Nobody is shown it.
  kDestroyed = 6,
};
enum class KeyOwner : std::uint8_t { kUser = 1, kService = 2 };
enum class KeyOrigin : std::uint8_t { kGenerated = 1, kImported = 2 };
enum class KeyAlgorithm : std::uint8_t {
  kAes256 = 1,
  kSm4 = 2,
  kRsa2048 = 3,
  kRsa3072 = 4,
  kRsa4096 = 5,
  kSm2 = 6,
  kEcP256 = 7,
  kEcP384 = 8,
};
// What a key may be asked to do; one thing for its whole life.
enum class KeyUsage : std::uint8_t {
  kEncryptDecrypt = 1,     // AES-256, SM4: wraps and unwraps.
  kAsymmetricDecrypt = 2,  // RSA, SM2: decrypts what was encrypted to its public key.
  kSignVerify = 3,         // RSA, SM2, EC: signs.
};
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
std::string_view key_owner_name(KeyOwner owner) noexcept;
std::string_view key_usage_name(KeyUsage usage) noexcept;

bool is_symmetric(KeyAlgorithm algorithm) noexcept;
// Whether a key of `algorithm` can have `usage` at all.
bool fits(KeyAlgorithm algorithm, KeyUsage usage) noexcept;

// A kind of keys: what a token says that it can make.
struct KeySupport {
  KeyAlgorithm algorithm = KeyAlgorithm::kAes256;
  KeyUsage usage = KeyUsage::kEncryptDecrypt;
  Protection protection = Protection::kWrapped;

  friend auto operator<=>(const KeySupport&, const KeySupport&) = default;
};

struct KeyVersion {
  std::uint32_t number = 1;
  VersionState state = VersionState::kCurrent;
  KekProfile profile = KekProfile::kAesGcm;  // kNone exactly for asymmetric keys.
  WallTime created{};
  Bytes material{};  // Under the token's root key; at most 4096 bytes.
  // SubjectPublicKeyInfo, DER, at most 1024: exactly of asymmetric keys, of an imported one from
  // the first import on, whether its material is there or not.
  Bytes public_key{};
  std::uint64_t wraps_leased = 0;  // Uses handed out in blocks; refused at 2^32.

  friend bool operator==(const KeyVersion&, const KeyVersion&) = default;
};

// How the owner of imported material may wrap it on its way here (BYOK). RSA-OAEP with an empty
// label, MGF1 over the same hash; RSA-AES key wrap is PKCS#11 3.0 section 2.1.21 (an ephemeral AES
// key under OAEP, then the key under AES-KWP); SM2 is the ASN.1 form of GM/T 0009.
enum class ImportWrapping : std::uint8_t {
  kRsaPkcs1 = 1,
  kRsaOaepSha1 = 2,
  kRsaOaepSha256 = 3,
  kRsaAesSha1 = 4,
  kRsaAesSha256 = 5,
  kSm2 = 6,
};
std::string_view import_wrapping_name(ImportWrapping wrapping) noexcept;

// An import that was prepared: the newest one alone is valid.
struct ImportOffer {
  static constexpr std::size_t kNonceBytes = 16;
  Bytes nonce{};  // kNonceBytes, in the import token too.
  ImportWrapping wrapping = ImportWrapping::kRsaOaepSha256;
  WallTime valid_to{};
  Bytes private_key{};  // As KeyVersion::material of a rooted key.
  Bytes public_key{};   // SubjectPublicKeyInfo, DER.

  friend bool operator==(const ImportOffer&, const ImportOffer&) = default;
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
  KeyUsage usage = KeyUsage::kEncryptDecrypt;
  Protection protection = Protection::kWrapped;
  TokenKind token_kind = TokenKind::kSoftware;
  std::string root_id{};      // Key check value of the root key that wraps it; at most 64 bytes.
  std::string alias{};        // 1 to 60 of [A-Za-z0-9_-], the first one of [A-Za-z0-9].
  std::string description{};  // At most 1024 bytes.
  WallTime created{};
  WallTime changed{};
  std::uint32_t rotation_days = 0;          // Rotates by itself after so many; 0: does not.
  std::optional<WallTime> next_rotation{};  // Set exactly when rotation_days is.
  std::optional<WallTime> delete_at{};      // Set exactly in PendingDelete.
  // Of what was first imported, keyed by the token: 32 bytes, or none. Of a private key the same
  // however it was spelled.
  Bytes material_digest{};
  std::optional<WallTime> material_valid_to{};  // Of imported material that is there and expires.
  std::optional<ImportOffer> offer{};
  std::vector<KeyVersion> versions{};  // 1 to 128, ascending, the last one current.

  static constexpr std::size_t kSealBytes = 32;
  static constexpr std::uint32_t kRotationDaysMin = 7;
  static constexpr std::uint32_t kRotationDaysMax = 365;
  static constexpr std::size_t kVersionsMax = 128;
  // With its seal a record fits a volume's token (luks2::kTokenRecordBytesMax): one that did not
  // could not wrap a volume's key.
  static constexpr std::size_t kEncodedBytesMax = 8192 - kSealBytes;

  const KeyVersion& current() const { return versions.back(); }
  bool has_material() const { return !versions.back().material.empty(); }
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

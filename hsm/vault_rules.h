// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/keyring/cmk_record.h"
#include "core/keyring/key_context.h"
#include "core/keyring/key_vault.h"
#include "core/keyring/wrapped_key.h"
#include "hsm/revision_floors.h"

namespace coffer::hsm {

// The rules every vault enforces, as functions of values: what a record may become, what it may be
// used for, what a wrap is bound to. No token, no store, no clock of their own.

// Uses are handed out in blocks, so that a crash loses at most one block and never counts too few.
struct UseLimits {
  std::uint64_t lease_block = std::uint64_t{1} << 16U;
  std::uint64_t wraps_max = std::uint64_t{1}
                            << 32U;  // Per version (NIST SP 800-38D, random nonces).
  // Keys whose uses a vault counts at a time (some 100 bytes each). Of more, the one with the
  // fewest uses is counted anew when it comes back: whoever has many keys sets back no higher
  // count.
  std::size_t counted_max = 65'536;
};

// The first record of a key, whose protection was chosen; its first version's material is still to
// be filled in.
//   kInvalidArgs  alias or description, or the algorithm does not have that usage.
//   kUnsupported  imported, and of a service.
Result<keyring::CmkRecord> first_record(const keyring::CmkParameters& parameters, const CmkId& id,
                                        std::string_view root_id, keyring::TokenKind kind,
                                        keyring::KekProfile profile, WallTime now,
                                        const UseLimits& limits);

// The next revision of `record`; for kRotate its new version's material is still to be filled in.
// `floor` is what was presented of the key: kAdopt goes above its revision and counts every
// revision that the adopted record has not seen as a lease of its current version, and leaves out
// what is gone; kRotate goes above its version.
//   As KeyVault::change_cmk().
Result<keyring::CmkRecord> next_record(const keyring::CmkRecord& record,
                                       const keyring::CmkChange& change,
                                       keyring::KekProfile profile, const KeyFloor& floor,
                                       WallTime now, const UseLimits& limits);

// Whether the state lets the key wrap at `now`: kEnabled alone, and of symmetric keys. Material
// that has expired counts as gone, whether the record says so yet or not. The error names key and
// state; kKeyUsage.
Result<void> require_may_wrap(const keyring::CmkRecord& record, WallTime now);
// kEnabled and kArchived.
Result<void> require_may_unwrap(const keyring::CmkRecord& record, WallTime now);
// An asymmetric key serves while it is kEnabled, and for what it was made.
Result<void> require_may_use(const keyring::CmkRecord& record, keyring::KeyUsage usage,
                             WallTime now);

// How a version of such a key wraps, on a token that wraps by `token_profile` itself.
keyring::KekProfile profile_for(const keyring::KeySupport& kind,
                                keyring::KekProfile token_profile) noexcept;

// Whether an import may be prepared, or material taken in, now.
//   kKeyNotImported, kServiceKey, kKeyDisabled, …
Result<void> require_may_prepare_import(const keyring::CmkRecord& record);
Result<void> require_may_import(const keyring::CmkRecord& record);

// Until when material may be kept: a time that is to come, within what callers may give, or none.
//   kInvalidArgs
Result<void> require_valid_to(const std::optional<WallTime>& time, WallTime now);

// The context is within its limits, and of a volume, or not, as the call needs.
//   kWrongPurpose, kInvalidArgs
enum class PurposeRule : std::uint8_t { kVolumeOnly, kNoVolume };
Result<void> require_context(const keyring::KeyContext& context, PurposeRule rule);

// The version of `record` that made `blob`.
//   kBlobInvalid  of another CMK, of a version the record does not have or has destroyed, or of
//                 another profile than that version's.
Result<const keyring::KeyVersion*> version_of(const keyring::CmkRecord& record,
                                              const keyring::WrappedKey& blob);

// What a wrap is bound to: the blob's header and the canonical context.
Bytes wrap_aad(const keyring::WrappedKey& blob, const keyring::KeyContext& context);

// What the HMAC of the profiles without an AAD covers: the AAD, nonce and ciphertext, each behind
// its length, so that no byte can move from one to the next.
Bytes wrap_mac_message(ByteView aad, ByteView nonce, ByteView ciphertext);

// Whether the halves of an AES-XTS key differ (FIPS 140-3 IG C.I), as a volume's DEK must.
bool xts_halves_differ(std::span<const std::byte> key) noexcept;

}  // namespace coffer::hsm

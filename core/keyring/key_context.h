// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include "core/base/bytes.h"
#include "core/base/id.h"
#include "core/base/result.h"

namespace coffer::keyring {

using Digest = std::array<std::byte, 32>;  // SHA-256

// What a wrapped key is for. The vault reads it: a key of purpose kVolumeKey is only ever delivered
// to the worker, never returned to a caller.
enum class Purpose : std::uint8_t {
  kVolumeKey = 1,     // The volume key of a LUKS2 device.
  kEnvelopeData = 2,  // A data key of the SDK.
  kAuditSeal = 3,
  kHeaderMac = 4,
  kData = 5,  // Up to 4096 bytes that a caller has encrypted directly.
};
std::string_view purpose_name(Purpose purpose) noexcept;

// Bits of KeyContext::flags.
inline constexpr std::uint32_t kForeignOpenAllowed = 1U << 0U;  // Key socket, token plugin.

// A volume's key that no single CMK gives away: each of its wraps holds one share of it
// (core/crypto/shamir.h), and `needed` of them together are the key.
struct KeyShares {
  std::uint8_t needed = 2;  // 2 to total.
  std::uint8_t total = 2;   // Up to kTotalMax.
  std::uint8_t index = 0;   // 1 to total: this share. 0: all of them, as the volume's token has it.
  Digest commitment{};      // To the key, the same in all of them: share_commitment().

  static constexpr std::uint8_t kTotalMax = 8;

  bool valid() const noexcept {
    return needed >= 2 && needed <= total && total <= kTotalMax && index <= total;
  }
  friend bool operator==(const KeyShares&, const KeyShares&) = default;
};

// KeyContext is everything a wrapped key is bound to. Its canonical binary form is the AAD of the
// wrap, and stands in the clear in the volume's token; docs/formats/key-context.md.
struct KeyContext {
  std::string tenant;  // At most 64 bytes; "" is the host's own.
  Purpose purpose = Purpose::kVolumeKey;
  std::optional<VolumeId> volume;  // Set exactly when purpose is kVolumeKey.
  std::string host_scope;          // Host id, or "" for any host; at most 64 bytes.
  std::string device_binding;      // WWN or serial, "" where policy asks for none; at most 128.
  std::string cipher;              // "aes-xts-plain64"; at most 32 bytes.
  std::uint32_t key_bytes = 0;     // 16 to 4096; of kData 1 to 4096.
  Digest profile_digest{};         // Of the pinned profile's binary form; zeros when none.
  std::uint64_t generation = 0;    // Changes only with the key.
  std::uint32_t flags = 0;
  // The caller's own context, as it must be given again: canonical JSON, or nothing. At most 1024
  // bytes of UTF-8; only with kData and kEnvelopeData.
  std::string application;
  std::optional<KeyShares> shares{};  // Only with kVolumeKey.

  static constexpr std::size_t kEncodedBytesMax = 2048;

  Bytes encode() const;
  // kTokenInvalid: not the canonical form of a context within the limits above.
  static Result<KeyContext> decode(ByteView bytes);
  // The same limits before encode(). kInvalidArgs: names the field that breaks one.
  Result<void> require_valid() const;

  friend bool operator==(const KeyContext&, const KeyContext&) = default;
};

// The first thing in which `found` is not what `expected` says, as the error that names it:
// kWrongVolume, kWrongHost, kWrongTenant, kWrongPurpose, kWrongGeneration, kProfileMismatch, or
// kBlobInvalid for the rest.
Result<void> require_same(const KeyContext& expected, const KeyContext& found);

// What the wrap at `place` (from 0) among a volume's wraps is bound to, when `of_volume` is the
// context that stands in its token: the same for all of them, but that of shares each has its
// index.
KeyContext wrap_context(const KeyContext& of_volume, std::size_t place);

// Whether a token with that context, threshold and number of wraps says one thing: with shares
// their numbers, without them the threshold 1.   kTokenInvalid
Result<void> require_threshold(const KeyContext& of_volume, std::size_t threshold,
                               std::size_t wraps);

}  // namespace coffer::keyring

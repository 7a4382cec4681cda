// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "core/base/bytes.h"
#include "core/base/id.h"
#include "core/base/result.h"

namespace coffer::keyring {

// How a token wraps a key, chosen by probing its mechanisms and written into every blob. All but
// kAesGcm and kSm4Gcm add an HMAC by a token key over header, context and ciphertext.
enum class KekProfile : std::uint8_t {
  kAesGcm = 1,
  kAesKeyWrapHmac = 2,
  kRsaOaepHmac = 3,
  kAesCbcHmac = 4,
  kSm4Gcm = 5,
  kSm4CbcHmac = 6,
  kNone = 7,  // Of a version of an asymmetric key: it wraps nothing, and no blob has it.
};
std::string_view kek_profile_name(KekProfile profile) noexcept;
// Whether the mechanism itself authenticates; the others have the HMAC.
bool is_gcm(KekProfile profile) noexcept;

// WrappedKey is a key under a CMK: the blob that a store or a token keeps. Its AAD is header()
// followed by the canonical form of its KeyContext. Format: docs/formats/wrapped-key.md.
struct WrappedKey {
  KekProfile profile = KekProfile::kAesGcm;
  CmkId cmk;
  std::uint32_t cmk_version = 0;
  Bytes nonce;       // 12 bytes (GCM), 16 (CBC) or none.
  Bytes ciphertext;  // Of the commitment and the key; without the tag.
  Bytes tag;         // 16 bytes (GCM) or 32 (HMAC).

  static constexpr std::size_t kEncodedBytesMax = 8192;

  // Magic, format version, profile, CMK id and version: the authenticated start of the blob.
  Bytes header() const;
  Bytes encode() const;
  // kBlobInvalid: malformed, of an unknown version or profile, or over the limit.
  static Result<WrappedKey> decode(ByteView bytes);

  friend bool operator==(const WrappedKey&, const WrappedKey&) = default;
};

}  // namespace coffer::keyring

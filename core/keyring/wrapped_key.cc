// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/wrapped_key.h"

#include "core/keyring/enum_codec.h"

namespace coffer::keyring {
namespace {

constexpr char kMagic[] = "CFWK";
constexpr std::uint8_t kFormatVersion = 2;
constexpr std::size_t kCiphertextBytesMax = 8000;

struct Sizes {
  std::size_t nonce;
  std::size_t tag;
};
Sizes sizes_of(KekProfile profile) {
  switch (profile) {
    case KekProfile::kAesGcm:
    case KekProfile::kSm4Gcm:
      return {12, 16};
    case KekProfile::kAesKeyWrapHmac:
    case KekProfile::kRsaOaepHmac:
      return {0, 32};
    case KekProfile::kAesCbcHmac:
    case KekProfile::kSm4CbcHmac:
      return {16, 32};
    case KekProfile::kNone:
      break;
  }
  return {0, 0};
}

}  // namespace

std::string_view kek_profile_name(KekProfile profile) noexcept {
  switch (profile) {
    case KekProfile::kAesGcm:
      return "aes-gcm";
    case KekProfile::kAesKeyWrapHmac:
      return "aes-kw-hmac";
    case KekProfile::kRsaOaepHmac:
      return "rsa-oaep-hmac";
    case KekProfile::kAesCbcHmac:
      return "aes-cbc-hmac";
    case KekProfile::kSm4Gcm:
      return "sm4-gcm";
    case KekProfile::kSm4CbcHmac:
      return "sm4-cbc-hmac";
    case KekProfile::kNone:
      return "none";
  }
  return "unknown";
}

bool is_gcm(KekProfile profile) noexcept {
  return profile == KekProfile::kAesGcm || profile == KekProfile::kSm4Gcm;
}

Bytes WrappedKey::header() const {
  ByteWriter out;
  out.raw(as_bytes(kMagic)).u8(kFormatVersion);
  write_enum(out, profile);
  out.raw(cmk.bytes()).u32(cmk_version);
  return out.take();
}

Bytes WrappedKey::encode() const {
  ByteWriter out;
  out.raw(header()).bytes(nonce).bytes(ciphertext).bytes(tag);
  return out.take();
}

Result<WrappedKey> WrappedKey::decode(ByteView bytes) {
  if (bytes.size() > kEncodedBytesMax) {
    return fail(Reason::kBlobInvalid, "wrapped key is longer than its limit");
  }
  ByteReader in(bytes);
  read_magic(in, kMagic);
  if (in.u8() != kFormatVersion) in.reject();
  const auto profile = read_enum(in, KekProfile::kSm4CbcHmac);
  const ByteView cmk_bytes = in.raw(16);
  const std::uint32_t cmk_version = in.u32();
  if (cmk_version == 0) in.reject();
  const ByteView nonce = in.bytes(sizes_of(profile).nonce);
  const ByteView ciphertext = in.bytes(kCiphertextBytesMax);
  const ByteView tag = in.bytes(sizes_of(profile).tag);
  // Each profile has one length of nonce and tag, and every one has a ciphertext.
  const bool sized = nonce.size() == sizes_of(profile).nonce &&
                     tag.size() == sizes_of(profile).tag && !ciphertext.empty();
  if (!sized) in.reject();
  if (auto done = in.finish(Reason::kBlobInvalid, "wrapped key"); !done) {
    return tl::unexpected(done.error());
  }
  const auto cmk = CmkId::from_bytes(cmk_bytes);
  if (!cmk) return fail(Reason::kBlobInvalid, "wrapped key: " + cmk.error().message());
  return WrappedKey{profile,
                    *cmk,
                    cmk_version,
                    Bytes(nonce.begin(), nonce.end()),
                    Bytes(ciphertext.begin(), ciphertext.end()),
                    Bytes(tag.begin(), tag.end())};
}

}  // namespace coffer::keyring

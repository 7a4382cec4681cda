// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/key_context.h"

#include <algorithm>
#include <utility>

#include "core/keyring/enum_codec.h"

namespace coffer::keyring {
namespace {

constexpr char kMagic[] = "CFKC";
constexpr std::uint8_t kFormatVersion = 2;
constexpr std::uint8_t kFormatVersionShares = 3;  // The same with shares behind it.
constexpr std::size_t kTenantBytesMax = 64;
constexpr std::size_t kHostScopeBytesMax = 64;
constexpr std::size_t kDeviceBindingBytesMax = 128;
constexpr std::size_t kCipherBytesMax = 32;
constexpr std::size_t kApplicationBytesMax = 1024;
constexpr std::uint32_t kKeyBytesMin = 16;
constexpr std::uint32_t kKeyBytesMax = 4096;
constexpr std::uint32_t kKnownFlags = kForeignOpenAllowed;

bool text_fits(std::string_view text, std::size_t size_max) {
  return text.size() <= size_max && is_utf8(text) && text.find('\0') == std::string_view::npos;
}

// What is wrong with the values, whichever way they came in; empty when nothing.
std::string_view flaw_of(const KeyContext& context) {
  if (!text_fits(context.tenant, kTenantBytesMax)) return "tenant";
  if (context.purpose < Purpose::kVolumeKey || context.purpose > Purpose::kData) {
    return "purpose";
  }
  if ((context.purpose == Purpose::kVolumeKey) != context.volume.has_value()) return "volume";
  if (!text_fits(context.host_scope, kHostScopeBytesMax)) return "host scope";
  if (!text_fits(context.device_binding, kDeviceBindingBytesMax)) return "device binding";
  if (!text_fits(context.cipher, kCipherBytesMax)) return "cipher";
  const bool is_data = context.purpose == Purpose::kData;
  const std::uint32_t bytes_min = is_data ? 1 : kKeyBytesMin;
  if (context.key_bytes < bytes_min || context.key_bytes > kKeyBytesMax) return "key length";
  if ((context.flags & ~kKnownFlags) != 0) return "flags";
  const bool may_have = is_data || context.purpose == Purpose::kEnvelopeData;
  if (!context.application.empty() && !may_have) return "application context";
  if (!text_fits(context.application, kApplicationBytesMax)) return "application context";
  const bool is_volume = context.purpose == Purpose::kVolumeKey;
  if (context.shares && (!is_volume || !context.shares->valid())) return "set of shares";
  return {};
}

KeyShares read_shares(ByteReader& in) {
  KeyShares shares;
  shares.needed = in.u8();
  shares.total = in.u8();
  shares.index = in.u8();
  const ByteView commitment = in.raw(shares.commitment.size());
  std::ranges::copy(commitment, shares.commitment.begin());
  return shares;
}

std::string or_none(const std::optional<VolumeId>& volume) {
  return volume ? volume->str() : "no volume";
}

std::string differs(std::string_view what, std::string_view expected, std::string_view found) {
  return "the wrapped key is bound to " + std::string(what) + " '" + printable(found, 128) +
         "', expected '" + printable(expected, 128) + "'";
}

}  // namespace

std::string_view purpose_name(Purpose purpose) noexcept {
  switch (purpose) {
    case Purpose::kVolumeKey:
      return "volume-key";
    case Purpose::kEnvelopeData:
      return "envelope-data";
    case Purpose::kAuditSeal:
      return "audit-seal";
    case Purpose::kHeaderMac:
      return "header-mac";
    case Purpose::kData:
      return "data";
  }
  return "unknown";
}

Bytes KeyContext::encode() const {
  ByteWriter out;
  out.raw(as_bytes(kMagic)).u8(shares ? kFormatVersionShares : kFormatVersion);
  out.text(tenant);
  write_enum(out, purpose);
  out.boolean(volume.has_value());
  if (volume) out.raw(volume->bytes());
  out.text(host_scope).text(device_binding).text(cipher).u32(key_bytes);
  out.raw(profile_digest).u64(generation).u32(flags).text(application);
  if (shares) out.u8(shares->needed).u8(shares->total).u8(shares->index).raw(shares->commitment);
  return out.take();
}

Result<KeyContext> KeyContext::decode(ByteView bytes) {
  if (bytes.size() > kEncodedBytesMax) {
    return fail(Reason::kTokenInvalid, "key context is longer than its limit");
  }
  ByteReader in(bytes);
  read_magic(in, kMagic);
  const auto version = in.u8();
  if (version != kFormatVersion && version != kFormatVersionShares) in.reject();
  KeyContext context;
  context.tenant = in.text(kTenantBytesMax);
  context.purpose = read_enum(in, Purpose::kData);
  if (in.boolean()) {
    const auto volume = VolumeId::from_bytes(in.raw(16));
    if (volume) context.volume = *volume;
  }
  context.host_scope = in.text(kHostScopeBytesMax);
  context.device_binding = in.text(kDeviceBindingBytesMax);
  context.cipher = in.text(kCipherBytesMax);
  context.key_bytes = in.u32();
  const ByteView digest = in.raw(context.profile_digest.size());
  std::ranges::copy(digest, context.profile_digest.begin());
  context.generation = in.u64();
  context.flags = in.u32();
  context.application = in.text(kApplicationBytesMax);
  if (version == kFormatVersionShares) context.shares = read_shares(in);
  if (auto done = in.finish(Reason::kTokenInvalid, "key context"); !done) {
    return tl::unexpected(done.error());
  }
  const auto flaw = flaw_of(context);
  if (!flaw.empty()) {
    return fail(Reason::kTokenInvalid, "key context has a bad " + std::string(flaw));
  }
  return context;
}

Result<void> KeyContext::require_valid() const {
  const auto flaw = flaw_of(*this);
  if (flaw.empty()) return {};
  return fail(Reason::kInvalidArgs, "key context has a bad " + std::string(flaw));
}

Result<void> require_same(const KeyContext& expected, const KeyContext& found) {
  if (found.tenant != expected.tenant) {
    return fail(Reason::kWrongTenant, differs("tenant", expected.tenant, found.tenant));
  }
  if (found.purpose != expected.purpose) {
    return fail(Reason::kWrongPurpose,
                differs("purpose", purpose_name(expected.purpose), purpose_name(found.purpose)));
  }
  if (found.volume != expected.volume) {
    return fail(Reason::kWrongVolume,
                differs("volume", or_none(expected.volume), or_none(found.volume)));
  }
  if (found.host_scope != expected.host_scope) {
    return fail(Reason::kWrongHost, differs("host", expected.host_scope, found.host_scope));
  }
  if (found.generation != expected.generation) {
    return fail(Reason::kWrongGeneration, differs("generation", std::to_string(expected.generation),
                                                  std::to_string(found.generation)));
  }
  if (found.profile_digest != expected.profile_digest) {
    return fail(Reason::kProfileMismatch, "the wrapped key is bound to another pinned profile");
  }
  if (found.device_binding != expected.device_binding) {
    return fail(Reason::kBlobInvalid,
                differs("device", expected.device_binding, found.device_binding));
  }
  if (found.cipher != expected.cipher) {
    return fail(Reason::kBlobInvalid, differs("cipher", expected.cipher, found.cipher));
  }
  if (found.key_bytes != expected.key_bytes) {
    return fail(Reason::kBlobInvalid, differs("key length", std::to_string(expected.key_bytes),
                                              std::to_string(found.key_bytes)));
  }
  if (found.flags != expected.flags) {
    return fail(Reason::kBlobInvalid,
                differs("flags", std::to_string(expected.flags), std::to_string(found.flags)));
  }
  if (found.application != expected.application) {
    return fail(Reason::kBlobInvalid, "the wrapped key is bound to another context of its caller");
  }
  if (found.shares != expected.shares) {
    return fail(Reason::kBlobInvalid, "the wrapped key is bound to another set of shares");
  }
  return {};
}

KeyContext wrap_context(const KeyContext& of_volume, std::size_t place) {
  KeyContext context = of_volume;
  if (context.shares) context.shares->index = static_cast<std::uint8_t>(place + 1);
  return context;
}

Result<void> require_threshold(const KeyContext& of_volume, std::size_t threshold,
                               std::size_t wraps) {
  const auto& shares = of_volume.shares;
  if (!shares && threshold == 1) return {};
  if (shares && shares->index == 0 && shares->needed == threshold && shares->total == wraps)
    return {};
  const std::string told = std::to_string(threshold) + " of " + std::to_string(wraps);
  return fail(Reason::kTokenInvalid,
              "the token wants " + told + " keys, and its context says otherwise");
}

}  // namespace coffer::keyring

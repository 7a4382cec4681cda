// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/activation_rules.h"

#include <algorithm>
#include <array>

#include "core/luks2/token.h"

namespace coffer::luks2 {
namespace {

constexpr std::string_view kAesXts = "aes-xts-plain64";
constexpr std::string_view kSm4Xts = "sm4-xts-plain64";
constexpr std::uint32_t kAfStripes = 4000;

using Verdict = std::optional<Refusal>;

Verdict refuse(std::string field, std::string message, Reason reason = Reason::kHeaderInvalid) {
  return Refusal{reason, std::move(field), std::move(message)};
}

std::string path(std::string_view section, std::uint32_t id, std::string_view member) {
  return std::string(section) + "." + std::to_string(id) + "." + std::string(member);
}

bool is_known_hash(std::string_view hash) {
  return hash == "sha256" || hash == "sha512";
}

// A job in place, or the leftovers of one: no rule says what to do with it, so it is left alone.
Verdict check_reencryption(const Header& header) {
  const auto unusual = [](std::string field, std::string message) {
    return refuse(std::move(field), std::move(message), Reason::kHeaderUnusual);
  };
  for (const auto& requirement : header.requirements) {
    if (requirement.find("reencrypt") != std::string::npos) {
      return unusual("config.requirements", "an in-place encryption is under way");
    }
  }
  for (const auto& slot : header.keyslots) {
    if (slot.type == "reencrypt")
      return unusual(path("keyslots", slot.id, "type"), "of an in-place encryption");
  }
  for (const auto& segment : header.segments) {
    if (!segment.flags.empty()) {
      return unusual(path("segments", segment.id, "flags"), "of an in-place encryption");
    }
  }
  return std::nullopt;
}

// One segment of type crypt, with nothing that changes what is written where.
Verdict check_segment(const Header& header) {
  if (header.segments.size() != 1) return refuse("segments", "not exactly one");
  const Segment& segment = header.segments.front();
  if (segment.type != "crypt") return refuse("segments.0.type", "not crypt");
  if (segment.integrity) return refuse("segments.0.integrity", "not enrolled");
  if (cipher_key_bytes(segment.encryption) == 0) {
    return refuse("segments.0.encryption", "not a cipher of the list");
  }
  if (!header.requirements.empty()) return refuse("config.requirements", "unknown");
  return std::nullopt;
}

// What a profile would pin, as Coffer makes it.
Verdict check_shape(const Header& header) {
  const Segment& segment = header.segments.front();
  if (segment.sector_bytes != 4096) return refuse("segments.0.sector_size", "not 4096");
  if (segment.size_bytes) return refuse("segments.0.size", "not dynamic");
  if (segment.iv_tweak != 0) return refuse("segments.0.iv_tweak", "not 0");
  if (segment.offset_bytes % kDataAlignmentBytes != 0) {
    return refuse("segments.0.offset", "not at a whole MiB");
  }
  if (!header.flags.empty()) return refuse("config.flags", "not enrolled");
  return std::nullopt;
}

// A header may stand alone (a backup, a detached one): then the device ends where the data start.
Verdict check_device(const Header& header) {
  const Segment& segment = header.segments.front();
  if (segment.offset_bytes == 0) return std::nullopt;
  const bool short_of_start = header.device_bytes < segment.offset_bytes;
  const bool has_data = header.device_bytes > segment.offset_bytes;
  const bool short_of_end =
      has_data && header.device_bytes - segment.offset_bytes < segment.size_bytes.value_or(0);
  if (short_of_start)
    return refuse("segments.0.offset", "behind the end of the device", Reason::kDeviceTooSmall);
  if (short_of_end)
    return refuse("segments.0.size", "behind the end of the device", Reason::kDeviceTooSmall);
  return std::nullopt;
}

Verdict check_kdf(const Keyslot& slot) {
  const Kdf& kdf = slot.kdf;
  const bool argon = kdf.type == "argon2i" || kdf.type == "argon2id";
  if (!argon && kdf.type != "pbkdf2")
    return refuse(path("keyslots", slot.id, "kdf.type"), "unknown");
  if (!argon && !is_known_hash(kdf.hash))
    return refuse(path("keyslots", slot.id, "kdf.hash"), "not of the list");
  if (kdf.iterations == 0 || kdf.iterations > kKdfIterationsMax) {
    return refuse(path("keyslots", slot.id, argon ? "kdf.time" : "kdf.iterations"),
                  "above the limit");
  }
  if (kdf.memory_kib > kKdfMemoryKibMax)
    return refuse(path("keyslots", slot.id, "kdf.memory"), "above the limit");
  if (kdf.threads > kKdfThreadsMax)
    return refuse(path("keyslots", slot.id, "kdf.cpus"), "above the limit");
  return std::nullopt;
}

// Keyslots are not ours, but libcryptsetup will read them: none may cost too much, hold the key in
// the clear, or be for a key of another length.
Verdict check_keyslots(const Header& header, const Digest& digest, std::uint32_t key_bytes) {
  for (const auto& slot : header.keyslots) {
    if (slot.type != "luks2") continue;
    if (auto refusal = check_kdf(slot)) return refusal;
    if (cipher_key_bytes(slot.area.encryption) == 0) {
      return refuse(path("keyslots", slot.id, "area.encryption"), "not a cipher of the list");
    }
    if (slot.af_stripes != kAfStripes)
      return refuse(path("keyslots", slot.id, "af.stripes"), "not 4000");
    if (!is_known_hash(slot.af_hash))
      return refuse(path("keyslots", slot.id, "af.hash"), "not of the list");
    const bool bound = std::ranges::find(digest.keyslots, slot.id) != digest.keyslots.end();
    if (bound && slot.key_size_bytes != key_bytes) {
      return refuse(path("keyslots", slot.id, "key_size"), "not that of the volume key");
    }
  }
  return std::nullopt;
}

Verdict check_digest(const Digest& digest) {
  if (digest.type != "pbkdf2") return refuse(path("digests", digest.id, "type"), "unknown");
  if (!is_known_hash(digest.hash))
    return refuse(path("digests", digest.id, "hash"), "not of the list");
  if (digest.iterations == 0 || digest.iterations > kKdfIterationsMax) {
    return refuse(path("digests", digest.id, "iterations"), "above the limit");
  }
  const std::size_t size = digest.hash == "sha512" ? 64 : 32;
  if (digest.digest.size() != size)
    return refuse(path("digests", digest.id, "digest"), "not of the hash's length");
  if (digest.salt.empty() || digest.salt.size() > 128)
    return refuse(path("digests", digest.id, "salt"), "size");
  return std::nullopt;
}

Verdict refuse_token(const TokenEntry& token, std::string_view member, std::string message) {
  return refuse(path("tokens", token.id, member), std::move(message), Reason::kTokenInvalid);
}

// Which token opens the volume must be plain: at most one of our type. Tokens of others do not
// concern us beside ours. In a header without ours they are all there is to open it, so there they
// must be bound to a keyslot, one of their kind, and not say that they belong to another volume.
Verdict check_tokens(const Header& header) {
  const auto is_ours = [](const TokenEntry& token) { return token.type == kTokenType; };
  const bool ours = std::ranges::any_of(header.tokens, is_ours);
  std::vector<std::string_view> types;
  for (const auto& token : header.tokens) {
    if (ours && !is_ours(token)) continue;
    if (token.volume && *token.volume != header.uuid_text) {
      return refuse_token(token, "volume", "names another volume");
    }
    if (std::ranges::find(types, token.type) != types.end()) {
      return refuse_token(token, "type", "the second of its kind");
    }
    types.push_back(token.type);
    if (!ours && token.keyslots.empty()) return refuse_token(token, "keyslots", "bound to none");
  }
  return std::nullopt;
}

}  // namespace

std::uint32_t cipher_key_bytes(std::string_view cipher) noexcept {
  if (cipher == kAesXts) return 64;
  if (cipher == kSm4Xts) return 32;
  return 0;
}

bool cipher_takes_key(std::string_view cipher, std::uint32_t key_bytes) noexcept {
  if (cipher == kAesXts) return key_bytes == 64 || key_bytes == 32;
  return cipher == kSm4Xts && key_bytes == 32;
}

std::optional<Refusal> activation_refusal(const Header& header, const Profile* profile) {
  if (!header.uuid) return refuse("hdr.uuid", "not a UUID in lower case");
  if (header.checksum_alg != "sha256") return refuse("hdr.checksum_alg", "not sha256");
  if (auto refusal = check_reencryption(header)) return refusal;
  if (profile != nullptr) {
    if (auto field = first_difference(*profile, header)) {
      return refuse(std::move(*field), "differs from the profile", Reason::kProfileMismatch);
    }
  }
  if (auto refusal = check_segment(header)) return refusal;
  if (profile == nullptr) {
    if (auto refusal = check_shape(header)) return refusal;
  }
  if (auto refusal = check_device(header)) return refusal;

  const Segment& segment = header.segments.front();
  const Digest* const digest = header.digest_of(segment.id);
  if (digest == nullptr) return refuse("digests", "none for the data segment");
  if (auto refusal = check_digest(*digest)) return refusal;
  const std::uint32_t key_bytes =
      profile != nullptr ? profile->key_bytes : cipher_key_bytes(segment.encryption);
  if (auto refusal = check_keyslots(header, *digest, key_bytes)) return refusal;
  return check_tokens(header);
}

}  // namespace coffer::luks2

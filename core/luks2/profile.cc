// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/profile.h"

#include <algorithm>
#include <array>
#include <bit>
#include <charconv>

#include "core/crypto/digest.h"
#include "core/luks2/activation_rules.h"
#include "core/luks2/header_layout.h"
#include "core/luks2/json.h"

namespace coffer::luks2 {
namespace {

constexpr std::uint32_t kMagic = 0x43505246;  // "CPRF"
constexpr std::uint8_t kVersion = 1;
constexpr std::size_t kCipherBytesMax = 64;

// In the order of the bits of ConfigFlags.
constexpr std::array<std::string_view, 6> kFlagNames = {
    "allow-discards", "same-cpu-crypt",    "submit-from-crypt-cpus",
    "no-journal",     "no-read-workqueue", "no-write-workqueue"};

std::optional<ConfigFlags> flags_by_names(const std::vector<std::string>& names) {
  std::uint32_t bits = 0;
  for (const auto& name : names) {
    const auto found = std::ranges::find(kFlagNames, name);
    if (found == kFlagNames.end()) return std::nullopt;
    bits |= 1U << static_cast<unsigned>(found - kFlagNames.begin());
  }
  return static_cast<ConfigFlags>(bits);
}

// What no profile may hold, whoever made it.
std::optional<std::string> fault(const Profile& profile) {
  if (std::ranges::find(kMetadataSizes, profile.metadata_bytes) == kMetadataSizes.end()) {
    return "metadata_size";
  }
  if (profile.keyslots_bytes > kKeyslotsBytesMax || profile.keyslots_bytes % 4096 != 0) {
    return "keyslots_size";
  }
  const bool aligned = profile.data_offset_bytes % kSectorBytes == 0;
  const std::uint64_t metadata_end = 2 * profile.metadata_bytes + profile.keyslots_bytes;
  if (!aligned || (!profile.detached() && profile.data_offset_bytes < metadata_end))
    return "offset";
  const std::uint32_t sector = profile.sector_bytes;
  if (sector < 512 || sector > 4096 || !std::has_single_bit(sector)) return "sector_size";
  if (profile.data_size_bytes &&
      (*profile.data_size_bytes == 0 || *profile.data_size_bytes % sector != 0)) {
    return "size";
  }
  if (!cipher_takes_key(profile.cipher, profile.key_bytes)) return "encryption";
  if (static_cast<std::uint32_t>(profile.flags) >= 1U << kFlagNames.size()) return "flags";
  return std::nullopt;
}

// The key length that the keyslots of the data segment name; 0: there are none.
std::uint32_t keyslot_key_bytes(const Header& header, const Digest& digest) {
  for (const auto& slot : header.keyslots) {
    const bool bound = std::ranges::find(digest.keyslots, slot.id) != digest.keyslots.end();
    if (bound && slot.type == "luks2") return slot.key_size_bytes;
  }
  return 0;
}

std::variant<Profile, Refusal> refuse(std::string field, std::string message) {
  return Refusal{Reason::kHeaderUnusual, std::move(field), std::move(message)};
}

// `key_bytes` stands in where the header has no keyslot to tell it.
std::variant<Profile, Refusal> observe(const Header& header, std::uint32_t key_bytes) {
  if (!header.uuid) return refuse("uuid", "not a UUID in lower case");
  if (header.segments.size() != 1) return refuse("segments", "not exactly one");
  const Segment& segment = header.segments.front();
  if (segment.type != "crypt") return refuse("segments.0.type", "not crypt");
  if (!segment.flags.empty()) return refuse("segments.0.flags", "there are some");
  if (segment.integrity) return refuse("segments.0.integrity", "there is some");
  if (!header.requirements.empty()) return refuse("config.requirements", "there are some");
  const auto flags = flags_by_names(header.flags);
  if (!flags) return refuse("config.flags", "an unknown flag");
  const std::uint32_t usual_key_bytes = cipher_key_bytes(segment.encryption);
  if (usual_key_bytes == 0) return refuse("segments.0.encryption", "not a cipher that Coffer uses");

  Profile profile;
  profile.uuid = *header.uuid;
  profile.metadata_bytes = header.metadata_bytes;
  profile.keyslots_bytes = header.keyslots_bytes;
  profile.data_offset_bytes = segment.offset_bytes;
  profile.data_size_bytes = segment.size_bytes;
  profile.iv_tweak = segment.iv_tweak;
  profile.cipher = segment.encryption;
  profile.sector_bytes = segment.sector_bytes;
  profile.flags = *flags;
  const Digest* const digest = header.digest_of(segment.id);
  const std::uint32_t told = digest == nullptr ? 0 : keyslot_key_bytes(header, *digest);
  profile.key_bytes = told != 0 ? told : key_bytes != 0 ? key_bytes : usual_key_bytes;
  if (const auto field = fault(profile)) {
    const bool is_key = *field == "encryption";
    return refuse(is_key ? "keyslots.key_size" : "segments.0." + *field,
                  "not one that Coffer uses");
  }
  return profile;
}

}  // namespace

Result<Profile> profile_of(const Header& header) {
  auto observed = observe(header, 0);
  if (auto* const profile = std::get_if<Profile>(&observed)) return std::move(*profile);
  const auto& refusal = std::get<Refusal>(observed);
  return fail(refusal.reason, refusal.error().message());
}

std::optional<std::string> first_difference(const Profile& pinned, const Profile& seen) {
  if (pinned.uuid != seen.uuid) return "uuid";
  if (pinned.metadata_bytes != seen.metadata_bytes) return "config.json_size";
  if (pinned.keyslots_bytes != seen.keyslots_bytes) return "config.keyslots_size";
  if (pinned.data_offset_bytes != seen.data_offset_bytes) return "segments.0.offset";
  if (pinned.data_size_bytes != seen.data_size_bytes) return "segments.0.size";
  if (pinned.iv_tweak != seen.iv_tweak) return "segments.0.iv_tweak";
  if (pinned.cipher != seen.cipher) return "segments.0.encryption";
  if (pinned.key_bytes != seen.key_bytes) return "keyslots.key_size";
  if (pinned.sector_bytes != seen.sector_bytes) return "segments.0.sector_size";
  if (pinned.flags != seen.flags) return "config.flags";
  return std::nullopt;
}

std::optional<std::string> first_difference(const Profile& pinned, const Header& seen) {
  auto observed = observe(seen, pinned.key_bytes);
  if (const auto* const profile = std::get_if<Profile>(&observed)) {
    return first_difference(pinned, *profile);
  }
  return std::get<Refusal>(observed).field;
}

Bytes encode_profile(const Profile& profile) {
  ByteWriter out;
  out.u32(kMagic).u8(kVersion).raw(profile.uuid.bytes());
  out.u64(profile.metadata_bytes).u64(profile.keyslots_bytes);
  out.u64(profile.data_offset_bytes).u64(profile.data_size_bytes.value_or(0)).u64(profile.iv_tweak);
  out.text(profile.cipher).u32(profile.key_bytes).u32(profile.sector_bytes);
  out.u32(static_cast<std::uint32_t>(profile.flags));
  return out.take();
}

Result<Profile> decode_profile(ByteView bytes) {
  ByteReader in(bytes);
  if (in.u32() != kMagic || in.u8() != kVersion) in.reject();
  Profile profile;
  if (const auto uuid = Uuid::from_bytes(in.raw(16)); uuid) profile.uuid = *uuid;
  profile.metadata_bytes = in.u64();
  profile.keyslots_bytes = in.u64();
  profile.data_offset_bytes = in.u64();
  const std::uint64_t size = in.u64();
  if (size != 0) profile.data_size_bytes = size;
  profile.iv_tweak = in.u64();
  profile.cipher = in.text(kCipherBytesMax);
  profile.key_bytes = in.u32();
  profile.sector_bytes = in.u32();
  profile.flags = static_cast<ConfigFlags>(in.u32());
  if (in.good() && fault(profile)) in.reject();
  if (const auto done = in.finish(Reason::kMessageInvalid, "profile"); !done)
    return tl::unexpected(done.error());
  return profile;
}

Sha256 profile_digest(const Profile& profile) {
  return crypto::sha256(encode_profile(profile));
}

std::string print_profile(const Profile& profile) {
  std::string flags;
  for (std::size_t i = 0; i < kFlagNames.size(); ++i) {
    if ((static_cast<std::uint32_t>(profile.flags) >> i & 1U) == 0) continue;
    flags += (flags.empty() ? "\"" : ", \"") + std::string(kFlagNames[i]) + "\"";
  }
  const auto number = [](std::uint64_t value) { return std::to_string(value); };
  const auto wide = [](std::uint64_t value) { return "\"" + std::to_string(value) + "\""; };
  std::string out = "{\n";
  out += "  \"coffer_profile\": 1,\n";
  out += "  \"uuid\": \"" + profile.uuid.str() + "\",\n";
  out += "  \"metadata_size\": " + wide(profile.metadata_bytes) + ",\n";
  out += "  \"keyslots_size\": " + wide(profile.keyslots_bytes) + ",\n";
  out += "  \"offset\": " + wide(profile.data_offset_bytes) + ",\n";
  out +=
      "  \"size\": " + (profile.data_size_bytes ? wide(*profile.data_size_bytes) : "\"dynamic\"") +
      ",\n";
  out += "  \"iv_tweak\": " + wide(profile.iv_tweak) + ",\n";
  out += "  \"encryption\": \"" + profile.cipher + "\",\n";
  out += "  \"key_size\": " + number(profile.key_bytes) + ",\n";
  out += "  \"sector_size\": " + number(profile.sector_bytes) + ",\n";
  out += "  \"flags\": [" + flags + "]\n}\n";
  return out;
}

namespace {

// TextReader takes the JSON form apart; the first member that is wrong makes all of it wrong.
class TextReader {
 public:
  explicit TextReader(const JsonValue& root) : root_(root) {}

  std::string text(std::string_view name) {
    const JsonValue* const value = root_.find(name, JsonValue::Kind::kString);
    if (value != nullptr) return value->string();
    wrong(name);
    return {};
  }

  std::uint64_t wide(std::string_view name, std::string_view digits) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
    if (error != std::errc() || end != digits.data() + digits.size()) wrong(name);
    return value;
  }
  std::uint64_t wide(std::string_view name) { return wide(name, text(name)); }

  std::uint32_t narrow(std::string_view name) {
    const JsonValue* const value = root_.find(name);
    const auto number = value == nullptr ? std::nullopt : value->as_uint32();
    if (!number) wrong(name);
    return number.value_or(0);
  }

  ConfigFlags flags(std::string_view name) {
    const JsonValue* const array = root_.find(name, JsonValue::Kind::kArray);
    std::vector<std::string> names;
    if (array != nullptr) {
      for (const auto& item : array->items()) names.push_back(item.string());
    }
    const auto flags = flags_by_names(names);
    if (array == nullptr || !flags) wrong(name);
    return flags.value_or(ConfigFlags::kNone);
  }

  void wrong(std::string_view name) {
    if (wrong_.empty()) wrong_ = name;
  }
  const std::string& first_wrong() const { return wrong_; }

 private:
  const JsonValue& root_;
  std::string wrong_;
};

}  // namespace

Result<Profile> parse_profile(std::string_view text) {
  if (text.size() > kProfileTextBytesMax) return fail(Reason::kInvalidArgs, "profile: too long");
  auto root = JsonValue::parse(text, 2);
  if (!root) return pass(root.error(), "profile");
  if (root->keep_only({"coffer_profile", "uuid", "metadata_size", "keyslots_size", "offset", "size",
                       "iv_tweak", "encryption", "key_size", "sector_size", "flags"})) {
    return fail(Reason::kInvalidArgs, "profile: an unknown member");
  }
  TextReader in(*root);
  if (in.narrow("coffer_profile") != kVersion) in.wrong("coffer_profile");
  Profile profile;
  if (const auto uuid = Uuid::parse(in.text("uuid")); uuid) {
    profile.uuid = *uuid;
  } else {
    in.wrong("uuid");
  }
  profile.metadata_bytes = in.wide("metadata_size");
  profile.keyslots_bytes = in.wide("keyslots_size");
  profile.data_offset_bytes = in.wide("offset");
  if (const std::string size = in.text("size"); size != "dynamic")
    profile.data_size_bytes = in.wide("size", size);
  profile.iv_tweak = in.wide("iv_tweak");
  profile.cipher = in.text("encryption");
  profile.key_bytes = in.narrow("key_size");
  profile.sector_bytes = in.narrow("sector_size");
  profile.flags = in.flags("flags");
  if (const auto field = fault(profile)) in.wrong(*field);
  if (!in.first_wrong().empty()) {
    return fail(Reason::kInvalidArgs, "profile: " + in.first_wrong() + " is missing or cannot be");
  }
  return profile;
}

}  // namespace coffer::luks2

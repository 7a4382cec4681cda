// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/header_json.h"

#include <algorithm>
#include <charconv>
#include <string>

#include "core/base/encoding.h"
#include "core/crypto/digest.h"
#include "core/luks2/header_layout.h"
#include "core/luks2/json.h"

namespace coffer::luks2 {
namespace {

using Kind = JsonValue::Kind;

// A path in the header and the object at its end.
struct Place {
  const JsonValue& json;
  std::string path;

  std::string of(std::string_view member) const { return path + "." + std::string(member); }
};

std::optional<std::uint64_t> parse_uint64(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Ids are written in one way: decimal, no leading zeros, below kObjectsMax.
std::optional<std::uint32_t> parse_id(std::string_view text) {
  const auto id = parse_uint64(text);
  if (!id || *id >= kObjectsMax || std::to_string(*id) != text) return std::nullopt;
  return static_cast<std::uint32_t>(*id);
}

// AreaReader fills a Header from the parsed JSON. Every step returns whether to go on; the first
// that does not leaves the refusal.
class AreaReader {
 public:
  explicit AreaReader(Header& header) : header_(header) {}

  bool read(const JsonValue& root) {
    if (!root.is_object()) return bad("json", "not an object");
    for (const std::string_view section : {"keyslots", "tokens", "segments", "digests", "config"}) {
      if (root.find(section, Kind::kObject) == nullptr)
        return bad(section, "missing or not an object");
    }
    if (!each(root, "keyslots", &AreaReader::keyslot) ||
        !each(root, "segments", &AreaReader::segment) ||
        !each(root, "digests", &AreaReader::digest) || !each(root, "tokens", &AreaReader::token)) {
      return false;
    }
    sort_entries();
    return config({*root.find("config"), "config"});
  }

  Refusal refusal() && { return std::move(refusal_); }

 private:
  bool bad(std::string_view field, std::string message) {
    refusal_ = {Reason::kHeaderInvalid, printable(field, 200), std::move(message)};
    return false;
  }

  using EntryReader = bool (AreaReader::*)(const Place&, std::uint32_t);

  bool each(const JsonValue& root, std::string_view section, EntryReader entry) {
    const auto& members = root.find(section)->members();
    if (members.size() > kObjectsMax) return bad(section, "more than 32 entries");
    for (const auto& [name, value] : members) {
      const Place place{value, std::string(section) + "." + name};
      const auto id = parse_id(name);
      if (!id) return bad(place.path, "not the number of an entry");
      if (!value.is_object()) return bad(place.path, "not an object");
      if (!(this->*entry)(place, *id)) return false;
    }
    return true;
  }

  bool text(const Place& at, std::string_view name, std::string& out) {
    const JsonValue* const value = at.json.find(name, Kind::kString);
    if (value == nullptr) return bad(at.of(name), "missing or not a string");
    if (value->string().empty()) return bad(at.of(name), "empty");
    out = value->string();
    return true;
  }

  bool uint32(const Place& at, std::string_view name, std::uint32_t& out) {
    const JsonValue* const value = at.json.find(name, Kind::kInteger);
    if (value == nullptr) return bad(at.of(name), "missing or not an integer");
    const auto number = value->as_uint32();
    if (!number) return bad(at.of(name), "out of range");
    out = *number;
    return true;
  }

  // 64-bit numbers are strings of digits in LUKS2.
  bool uint64(const Place& at, std::string_view name, std::uint64_t& out) {
    std::string digits;
    if (!text(at, name, digits)) return false;
    const auto value = parse_uint64(digits);
    if (!value) return bad(at.of(name), "not a 64-bit number");
    out = *value;
    return true;
  }

  bool base64(const Place& at, std::string_view name, Bytes& out) {
    std::string encoded;
    if (!text(at, name, encoded)) return false;
    auto decoded = from_base64(encoded);
    if (!decoded) return bad(at.of(name), "not base64");
    out = std::move(*decoded);
    return true;
  }

  bool strings(const Place& at, std::string_view name, std::vector<std::string>& out) {
    const JsonValue* const array = at.json.find(name, Kind::kArray);
    if (array == nullptr) return bad(at.of(name), "missing or not an array");
    if (array->items().size() > kObjectsMax) return bad(at.of(name), "more than 32 items");
    for (const auto& item : array->items()) {
      if (!item.is_string()) return bad(at.of(name), "an item is not a string");
      out.push_back(item.string());
    }
    return true;
  }

  bool optional_strings(const Place& at, std::string_view name, std::vector<std::string>& out) {
    return at.json.find(name) == nullptr || strings(at, name, out);
  }

  // The JSON has them in the order of their names as texts.
  void sort_entries() {
    std::ranges::sort(header_.keyslots, {}, &Keyslot::id);
    std::ranges::sort(header_.segments, {}, &Segment::id);
    std::ranges::sort(header_.digests, {}, &Digest::id);
    std::ranges::sort(header_.tokens, {}, &TokenEntry::id);
  }

  // An array of ids, each that of an entry of `known`.
  template <class Entry>
  bool references(const Place& at, std::string_view name, const std::vector<Entry>& known,
                  std::vector<std::uint32_t>& out) {
    std::vector<std::string> names;
    if (!strings(at, name, names)) return false;
    for (const auto& text : names) {
      const auto id = parse_id(text);
      if (!id || std::ranges::find(known, *id, &Entry::id) == known.end()) {
        return bad(at.of(name), "names an entry that is not there");
      }
      out.push_back(*id);
    }
    return true;
  }

  bool keyslot(const Place& at, std::uint32_t id) {
    Keyslot slot;
    slot.id = id;
    const JsonValue* const area = at.json.find("area", Kind::kObject);
    if (!text(at, "type", slot.type) || !uint32(at, "key_size", slot.key_size_bytes)) return false;
    if (area == nullptr) return bad(at.of("area"), "missing or not an object");
    const Place area_at{*area, at.of("area")};
    if (!text(area_at, "type", slot.area.type) ||
        !uint64(area_at, "offset", slot.area.offset_bytes) ||
        !uint64(area_at, "size", slot.area.size_bytes)) {
      return false;
    }
    if (const JsonValue* const priority = at.json.find("priority"); priority != nullptr) {
      const auto value = priority->as_int64();
      if (!value || *value < -1 || *value > 2) return bad(at.of("priority"), "out of range");
      slot.priority = static_cast<std::int32_t>(*value);
    }
    if (slot.type == "luks2" && !luks2_keyslot(at, area_at, slot)) return false;
    if (slot.type == "reencrypt" && !reencrypt_keyslot(at, area_at, slot)) return false;
    header_.keyslots.push_back(std::move(slot));
    return true;
  }

  bool luks2_keyslot(const Place& at, const Place& area_at, Keyslot& slot) {
    const JsonValue* const kdf_json = at.json.find("kdf", Kind::kObject);
    if (kdf_json == nullptr) return bad(at.of("kdf"), "missing or not an object");
    const JsonValue* const af_json = at.json.find("af", Kind::kObject);
    if (af_json == nullptr) return bad(at.of("af"), "missing or not an object");
    const Place af{*af_json, at.of("af")};
    std::string af_type;
    if (!kdf({*kdf_json, at.of("kdf")}, slot.kdf) || !text(af, "type", af_type)) return false;
    if (af_type != "luks1") return bad(af.of("type"), "unknown");
    if (!text(af, "hash", slot.af_hash) || !uint32(af, "stripes", slot.af_stripes)) return false;
    if (slot.area.type != "raw") return bad(area_at.of("type"), "unknown");
    return text(area_at, "encryption", slot.area.encryption) &&
           uint32(area_at, "key_size", slot.area.key_size_bytes);
  }

  bool kdf(const Place& at, Kdf& out) {
    if (!text(at, "type", out.type)) return false;
    if (out.type == "pbkdf2") {
      return text(at, "hash", out.hash) && uint32(at, "iterations", out.iterations) &&
             base64(at, "salt", out.salt);
    }
    if (out.type == "argon2i" || out.type == "argon2id") {
      return uint32(at, "time", out.iterations) && uint32(at, "memory", out.memory_kib) &&
             uint32(at, "cpus", out.threads) && base64(at, "salt", out.salt);
    }
    return true;
  }

  bool reencrypt_keyslot(const Place& at, const Place& area_at, Keyslot& slot) {
    std::string direction;
    if (slot.key_size_bytes != 1)
      return bad(at.of("key_size"), "of a reencryption keyslot must be 1");
    if (!text(at, "mode", slot.mode) || !text(at, "direction", direction)) return false;
    if (slot.mode != "reencrypt" && slot.mode != "encrypt" && slot.mode != "decrypt") {
      return bad(at.of("mode"), "unknown");
    }
    if (direction != "forward" && direction != "backward")
      return bad(at.of("direction"), "unknown");
    if (slot.area.type.ends_with("checksum")) {
      std::string hash;
      std::uint32_t sector = 0;
      if (!text(area_at, "hash", hash) || !uint32(area_at, "sector_size", sector)) return false;
      if (sector < kSectorBytes || (sector & (sector - 1)) != 0) {
        return bad(area_at.of("sector_size"), "not a power of two from 512 on");
      }
    }
    if (slot.area.type.starts_with("datashift")) {
      std::uint64_t shift = 0;
      if (!uint64(area_at, "shift_size", shift)) return false;
      if (shift == 0 || shift % kSectorBytes != 0)
        return bad(area_at.of("shift_size"), "not whole sectors");
    }
    return true;
  }

  bool segment(const Place& at, std::uint32_t id) {
    Segment segment;
    segment.id = id;
    std::string size;
    if (!text(at, "type", segment.type) || !uint64(at, "offset", segment.offset_bytes) ||
        !text(at, "size", size) || !optional_strings(at, "flags", segment.flags)) {
      return false;
    }
    if (size != "dynamic") {
      segment.size_bytes = parse_uint64(size);
      if (segment.size_bytes.value_or(0) == 0)
        return bad(at.of("size"), "neither dynamic nor a size");
      if (*segment.size_bytes % kSectorBytes != 0) return bad(at.of("size"), "not whole sectors");
    }
    if (segment.offset_bytes % kSectorBytes != 0) return bad(at.of("offset"), "not whole sectors");
    if (segment.type == "crypt" && !crypt_segment(at, segment)) return false;
    header_.segments.push_back(std::move(segment));
    return true;
  }

  bool crypt_segment(const Place& at, Segment& segment) {
    if (!uint64(at, "iv_tweak", segment.iv_tweak) || !text(at, "encryption", segment.encryption) ||
        !uint32(at, "sector_size", segment.sector_bytes)) {
      return false;
    }
    if (segment.sector_bytes == 0 || segment.sector_bytes % kSectorBytes != 0) {
      return bad(at.of("sector_size"), "not a multiple of 512");
    }
    if (segment.size_bytes.value_or(0) % segment.sector_bytes != 0) {
      return bad(at.of("size"), "not whole encryption sectors");
    }
    const JsonValue* const integrity = at.json.find("integrity");
    segment.integrity = integrity != nullptr;
    if (integrity == nullptr) return true;
    const Place place{*integrity, at.of("integrity")};
    std::string ignored;
    return text(place, "type", ignored) && text(place, "journal_encryption", ignored) &&
           text(place, "journal_integrity", ignored);
  }

  bool digest(const Place& at, std::uint32_t id) {
    Digest digest;
    digest.id = id;
    if (!text(at, "type", digest.type) ||
        !references(at, "keyslots", header_.keyslots, digest.keyslots) ||
        !references(at, "segments", header_.segments, digest.segments)) {
      return false;
    }
    if (digest.type == "pbkdf2" &&
        (!text(at, "hash", digest.hash) || !uint32(at, "iterations", digest.iterations) ||
         !base64(at, "salt", digest.salt) || !base64(at, "digest", digest.digest))) {
      return false;
    }
    header_.digests.push_back(std::move(digest));
    return true;
  }

  bool token(const Place& at, std::uint32_t id) {
    TokenEntry token;
    token.id = id;
    if (!text(at, "type", token.type) ||
        !references(at, "keyslots", header_.keyslots, token.keyslots)) {
      return false;
    }
    if (const JsonValue* const volume = at.json.find("volume", Kind::kString); volume != nullptr) {
      token.volume = volume->string();
    }
    token.json = at.json.canonical();
    header_.tokens.push_back(std::move(token));
    return true;
  }

  bool config(const Place& at) {
    std::uint64_t json_size = 0;
    if (!uint64(at, "json_size", json_size) ||
        !uint64(at, "keyslots_size", header_.keyslots_bytes) ||
        !optional_strings(at, "flags", header_.flags)) {
      return false;
    }
    if (json_size != header_.metadata_bytes - kBinaryHeaderBytes) {
      return bad(at.of("json_size"), "is not what the binary header says");
    }
    const JsonValue* const requirements = at.json.find("requirements");
    if (requirements == nullptr) return true;
    if (!requirements->is_object()) return bad(at.of("requirements"), "not an object");
    return optional_strings({*requirements, at.of("requirements")}, "mandatory",
                            header_.requirements);
  }

  Header& header_;
  Refusal refusal_;
};

// The reference takes keyslots with members left over from another key derivation, and drops those.
// It does so before it tells the header's JSON, so its hash is without them as well.
void drop_leftovers(JsonValue& root) {
  JsonValue* const keyslots = root.find_mutable("keyslots");
  if (keyslots == nullptr) return;
  for (auto& [name, slot] : keyslots->members_mutable()) {
    const JsonValue* const type = slot.find("type", Kind::kString);
    JsonValue* const kdf = slot.find_mutable("kdf");
    if (type == nullptr || type->string() != "luks2" || kdf == nullptr) continue;
    const JsonValue* const kdf_type = kdf->find("type", Kind::kString);
    if (kdf_type == nullptr) continue;
    if (kdf_type->string() == "pbkdf2") kdf->keep_only({"type", "salt", "hash", "iterations"});
    if (kdf_type->string().starts_with("argon2")) {
      kdf->keep_only({"type", "salt", "time", "memory", "cpus"});
    }
  }
}

std::optional<Refusal> refuse(std::string field, std::string message) {
  return Refusal{Reason::kHeaderInvalid, std::move(field), std::move(message)};
}

}  // namespace

std::optional<Refusal> read_json_area(ByteView area, Header& header) {
  const std::string_view text = as_text(area);
  if (text.empty() || text.front() != '{') return refuse("json", "does not start with an object");
  auto parsed = JsonValue::parse_prefix(text, kJsonDepthMax);
  if (!parsed) return refuse("json", parsed.error().message());

  // Behind the text there is at least one byte, and nothing but zeros: the first is one, and each
  // equals the one before it.
  const std::string_view padding = text.substr(parsed->size_bytes);
  if (padding.empty()) return refuse("json", "fills its area to the last byte");
  const bool clean =
      padding.front() == '\0' && padding.substr(1) == padding.substr(0, padding.size() - 1);
  if (!clean) return refuse("json", "something stands behind the text");

  drop_leftovers(parsed->value);
  AreaReader reader(header);
  if (!reader.read(parsed->value)) return std::move(reader).refusal();
  if (auto refusal = check_layout(header)) return refusal;

  header.json_used_bytes = parsed->size_bytes;
  const std::string canonical = parsed->value.canonical();
  header.json_sha256 = crypto::sha256(as_bytes(canonical));
  return std::nullopt;
}

}  // namespace coffer::luks2

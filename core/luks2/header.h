// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/id.h"
#include "core/base/result.h"

// The LUKS2 header as values: parsed out of bytes that somebody else read, never from a device.
// Format: LUKS2 On-Disk Format Specification 1.1.1; the judge of what is well-formed is
// libcryptsetup 2.6.1, and nothing that it refuses is taken here (tests/vectors/luks2).
// docs/formats/luks2.md tells where this parser is stricter.
namespace coffer::luks2 {

// Limits. An array that is longer, or a text that is deeper, is refused, never cut.
inline constexpr std::size_t kBinaryHeaderBytes = 4096;
inline constexpr std::size_t kMetadataBytesMin = std::size_t{16} << 10;
inline constexpr std::size_t kMetadataBytesMax = std::size_t{4} << 20;
inline constexpr std::size_t kReaderBytes = std::size_t{128}
                                            << 10;  // What one device contributes to a batch.
inline constexpr std::size_t kJsonDepthMax = 32;
inline constexpr std::size_t kObjectsMax = 32;  // Keyslots, tokens, digests, segments: each.

using Sha256 = std::array<std::byte, 32>;

// Which of the two copies on the device are good.
enum class Copies : std::uint8_t { kBoth, kPrimaryBad, kSecondaryBad };
std::string_view copies_name(Copies copies) noexcept;  // "both", "primary-bad", "secondary-bad"

// Why a header is refused, or not to be activated. `field` is a path in the header ("hdr.checksum",
// "segments.0.encryption"), fit to be shown: printable(), at most 200 bytes.
struct Refusal {
  Reason reason = Reason::kHeaderInvalid;
  std::string field;
  std::string message;

  Error error() const { return {reason, field.empty() ? message : field + ": " + message}; }
  friend bool operator==(const Refusal&, const Refusal&) = default;
};

struct Kdf {
  std::string type;              // "pbkdf2", "argon2i", "argon2id"; empty: the keyslot has none.
  std::string hash;              // pbkdf2 alone.
  std::uint32_t iterations = 0;  // pbkdf2; of argon2 the time cost.
  std::uint32_t memory_kib = 0;  // argon2 alone.
  std::uint32_t threads = 0;     // argon2 alone.
  Bytes salt;
};

struct KeyslotArea {
  std::string type;
  std::uint64_t offset_bytes = 0;
  std::uint64_t size_bytes = 0;
  std::string encryption;            // "raw" areas alone.
  std::uint32_t key_size_bytes = 0;  // The same.
};

struct Keyslot {
  std::uint32_t id = 0;
  std::string type;  // "luks2" or "reencrypt"
  std::uint32_t key_size_bytes = 0;
  std::optional<std::int32_t> priority;
  KeyslotArea area;
  Kdf kdf;
  std::uint32_t af_stripes = 0;
  std::string af_hash;
  std::string mode;  // "reencrypt" alone: reencrypt, encrypt, decrypt.
};

struct Segment {
  std::uint32_t id = 0;
  std::string type;  // "crypt", "linear", or one that we do not know
  std::uint64_t offset_bytes = 0;
  std::optional<std::uint64_t> size_bytes;  // None: "dynamic", to the end of the device.
  std::uint64_t iv_tweak = 0;
  std::string encryption;
  std::uint32_t sector_bytes = 0;
  bool integrity = false;
  std::vector<std::string> flags;

  bool backup() const;  // A note of a reencryption, not where data are.
};

struct Digest {
  std::uint32_t id = 0;
  std::string type;
  std::vector<std::uint32_t> keyslots;
  std::vector<std::uint32_t> segments;
  std::string hash;
  std::uint32_t iterations = 0;
  Bytes salt;
  Bytes digest;
};

struct TokenEntry {
  std::uint32_t id = 0;
  std::string type;  // As on disk: any bytes.
  std::vector<std::uint32_t> keyslots;
  std::string json;                   // The token object, sorted keys, no spaces: for token.h.
  std::optional<std::string> volume;  // A member "volume", if it is a string.
};

// A well-formed header. Strings come from the disk and may hold any byte but NUL: printable()
// before they go to a terminal, a log or the bus.
struct Header {
  Copies copies = Copies::kBoth;
  std::uint64_t epoch = 0;   // Sequence id of the copy that was read: the newer good one.
  std::string uuid_text;     // As on disk.
  std::optional<Uuid> uuid;  // None: not a UUID in its one spelling; never activated.
  std::string label;
  std::string subsystem;
  std::string checksum_alg;
  std::uint64_t device_bytes = 0;     // As given by the caller.
  std::uint64_t metadata_bytes = 0;   // Of one copy: binary header and JSON area.
  std::uint64_t json_used_bytes = 0;  // JSON text without its padding.
  Sha256 json_sha256{};               // Of the JSON with sorted keys and no spaces.
  // Of the copy that was read, all of metadata_bytes, its checksum field taken as zeros: what that
  // field itself holds when the checksum is SHA-256.
  Sha256 copy_sha256{};
  std::vector<Keyslot> keyslots;  // All five lists: ascending ids.
  std::vector<Segment> segments;
  std::vector<Digest> digests;
  std::vector<TokenEntry> tokens;
  std::uint64_t keyslots_bytes = 0;  // Size of the keyslot area, which starts behind both copies.
  std::vector<std::string> flags;
  std::vector<std::string> requirements;

  // An in-place job is or may be under way: a reencryption requirement, keyslot or segment flag.
  bool reencryption() const;
  const Segment* data_segment() const;  // The only regular segment; null when there are more.
  const Digest* digest_of(std::uint32_t segment_id) const;
};

// Parses the first bytes of a device that is `device_bytes` long (of a header file: the file's
// length). `start` may be shorter than the device: kReaderBytes do for metadata areas up to 64 KiB,
// 8 MiB for all. When the first copy is bad, the second is looked for at each offset the format
// allows.
//   kNotLuks2        no copy has the magic bytes
//   kHeaderDamaged   there is magic, but no copy has a right checksum
//   kHeaderInvalid   a checksum is right and what it protects is against the format
//   kHeaderUnusual   the metadata area is larger than `start`
//   kDeviceTooSmall  the device ends before the areas that the header names
std::variant<Header, Refusal> examine_header(ByteView start, std::uint64_t device_bytes);

// The same for those who need no field.
Result<Header> parse_header(ByteView start, std::uint64_t device_bytes);

}  // namespace coffer::luks2

// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/header.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>

#include "core/base/unique_fd.h"
#include "core/luks2/header_json.h"
#include "core/luks2/header_layout.h"

namespace coffer::luks2 {
namespace {

// Where the fields of a binary header lie (specification, figure 1); all integers big-endian.
constexpr std::size_t kVersionAt = 6;
constexpr std::size_t kSizeAt = 8;
constexpr std::size_t kSequenceAt = 16;
constexpr std::size_t kLabelAt = 24;
constexpr std::size_t kChecksumAlgAt = 72;
constexpr std::size_t kUuidAt = 168;
constexpr std::size_t kSubsystemAt = 208;
constexpr std::size_t kOffsetAt = 256;
constexpr std::size_t kChecksumAt = 448;
constexpr std::size_t kLabelBytes = 48;
constexpr std::size_t kChecksumAlgBytes = 32;
constexpr std::size_t kUuidBytes = 40;
constexpr std::size_t kChecksumBytes = 64;
constexpr std::string_view kMagicPrimary = "LUKS\xba\xbe";
constexpr std::string_view kMagicSecondary = "SKUL\xba\xbe";

// What came of one copy, worst first: a refusal is told from the copy that got furthest.
enum class State : std::uint8_t {
  kAbsent,   // No magic bytes, or the device ends before them.
  kUnread,   // On the device, but behind the bytes that were given.
  kDamaged,  // Magic, but binary header or checksum are wrong.
  kInvalid,  // The checksum is right, the content is not.
  kGood,
};

struct Copy {
  State state = State::kAbsent;
  Header header;
  Refusal refusal;
  bool equals_twin = false;  // Its JSON area is that of the first copy; its lists were not read.
};

std::uint64_t read_be(ByteView bytes, std::size_t at, std::size_t size) {
  std::uint64_t value = 0;
  for (const std::byte b : bytes.subspan(at, size))
    value = (value << 8U) | std::to_integer<std::uint64_t>(b);
  return value;
}

// A text field: up to its NUL, and never its last byte, which the reference takes for one.
std::string read_text(ByteView bytes, std::size_t at, std::size_t size) {
  const std::string_view field = as_text(bytes.subspan(at, size - 1));
  return std::string(field.substr(0, field.find('\0')));
}

// The checksums that the reference knows and that appear in its test images. All names but this
// list are refused; only sha256 may be activated (activation_rules.h).
const EVP_MD* checksum_by_name(std::string name) {
  std::ranges::transform(name, name.begin(), [](char c) {
    return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  });
  if (name == "sha256") return ::EVP_sha256();
  if (name == "sha512") return ::EVP_sha512();
  if (name == "sha1") return ::EVP_sha1();
  if (name == "md5") return ::EVP_md5();
  return nullptr;
}

using Checksum = std::array<std::byte, EVP_MAX_MD_SIZE>;

// Over one copy with zeros for its checksum field. 0: the hash failed.
std::size_t checksum(const EVP_MD* md, ByteView copy, Checksum& out) {
  constexpr std::array<std::byte, kChecksumBytes> kZeros{};
  const CHandle<EVP_MD_CTX, ::EVP_MD_CTX_free> context(::EVP_MD_CTX_new());
  const ByteView tail = copy.subspan(kChecksumAt + kChecksumBytes);
  unsigned int size = 0;
  const bool done =
      context != nullptr && ::EVP_DigestInit_ex(context.get(), md, nullptr) == 1 &&
      ::EVP_DigestUpdate(context.get(), copy.data(), kChecksumAt) == 1 &&
      ::EVP_DigestUpdate(context.get(), kZeros.data(), kZeros.size()) == 1 &&
      ::EVP_DigestUpdate(context.get(), tail.data(), tail.size()) == 1 &&
      ::EVP_DigestFinal_ex(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size) == 1;
  return done ? size : 0;
}

// Reads the binary header of one copy; true: its checksum is right and header.metadata_bytes set.
class CopyReader {
 public:
  CopyReader(ByteView start, std::uint64_t device_bytes, std::uint64_t offset, bool secondary)
      : start_(start), device_bytes_(device_bytes), offset_(offset), secondary_(secondary) {}

  // `twin` is a good copy: an equal JSON area need not be parsed again.
  Copy read(const Copy* twin, ByteView twin_area) {
    if (!binary()) return std::move(copy_);
    const ByteView json = area();
    copy_.equals_twin = twin != nullptr && as_text(json) == as_text(twin_area);
    if (copy_.equals_twin) {
      copy_.state = twin->state;
      copy_.refusal = twin->refusal;
    } else if (auto refusal = read_json_area(json, copy_.header)) {
      copy_.state = State::kInvalid;
      copy_.refusal = std::move(*refusal);
    } else {
      copy_.state = State::kGood;
    }
    return std::move(copy_);
  }

  ByteView area() const {
    if (bytes_.empty()) return {};
    return bytes_.subspan(kBinaryHeaderBytes);
  }

 private:
  bool stop(State state, Reason reason, std::string field, std::string message) {
    copy_.state = state;
    copy_.refusal = {reason, std::move(field), std::move(message)};
    return false;
  }

  bool damaged(std::string field, std::string message) {
    return stop(State::kDamaged, Reason::kHeaderDamaged, std::move(field), std::move(message));
  }

  // Whether `size` bytes of this copy are there to be read; `short_of` is what to say if the device
  // ends before them.
  bool available(std::uint64_t size, State state, Reason short_of) {
    if (offset_ + size > device_bytes_) {
      return stop(state, short_of, "hdr.hdr_size", "the device ends before the copy does");
    }
    if (offset_ + size > start_.size()) {
      return stop(State::kUnread, Reason::kHeaderUnusual, "hdr.hdr_size",
                  "the metadata area is larger than what was read");
    }
    return true;
  }

  bool binary() {
    if (!available(kBinaryHeaderBytes, State::kAbsent, Reason::kNotLuks2)) return false;
    const ByteView binary = start_.subspan(offset_, kBinaryHeaderBytes);
    if (!as_text(binary).starts_with(secondary_ ? kMagicSecondary : kMagicPrimary)) {
      return stop(State::kAbsent, Reason::kNotLuks2, "hdr.magic", "no LUKS2 header");
    }
    const std::uint64_t version = read_be(binary, kVersionAt, 2);
    if (version == 1)
      return stop(State::kAbsent, Reason::kNotLuks2, "hdr.version", "a LUKS1 header");
    if (version != 2) return damaged("hdr.version", "unknown version");
    if (read_be(binary, kOffsetAt, 8) != offset_)
      return damaged("hdr.hdr_offset", "not where it stands");
    const std::uint64_t size = read_be(binary, kSizeAt, 8);
    if (size < kMetadataBytesMin || size > kMetadataBytesMax)
      return damaged("hdr.hdr_size", "out of range");
    if (secondary_ && size != offset_)
      return damaged("hdr.hdr_size", "not where the second copy stands");
    return available(size, State::kDamaged, Reason::kDeviceTooSmall) && sum(size);
  }

  bool sum(std::uint64_t size) {
    bytes_ = start_.subspan(offset_, size);
    Header& header = copy_.header;
    header.checksum_alg = read_text(bytes_, kChecksumAlgAt, kChecksumAlgBytes);
    const EVP_MD* const md = checksum_by_name(header.checksum_alg);
    if (md == nullptr) return damaged("hdr.checksum_alg", "unknown");
    Checksum found{};
    const std::size_t found_bytes = checksum(md, bytes_, found);
    const ByteView stored = bytes_.subspan(kChecksumAt, found_bytes);
    if (found_bytes == 0 || !std::ranges::equal(stored, ByteView(found).first(found_bytes))) {
      return damaged("hdr.checksum", "wrong");
    }
    if (md != ::EVP_sha256()) checksum(::EVP_sha256(), bytes_, found);
    std::ranges::copy(ByteView(found).first(header.copy_sha256.size()), header.copy_sha256.begin());
    fields(size);
    return true;
  }

  void fields(std::uint64_t size) {
    Header& header = copy_.header;
    header.device_bytes = device_bytes_;
    header.metadata_bytes = size;
    header.epoch = read_be(bytes_, kSequenceAt, 8);
    header.label = read_text(bytes_, kLabelAt, kLabelBytes);
    header.subsystem = read_text(bytes_, kSubsystemAt, kLabelBytes);
    header.uuid_text = read_text(bytes_, kUuidAt, kUuidBytes);
    if (auto uuid = Uuid::parse(header.uuid_text)) header.uuid = *uuid;
  }

  ByteView start_;
  std::uint64_t device_bytes_;
  std::uint64_t offset_;
  bool secondary_;
  ByteView bytes_;  // Of the whole copy; empty until its size is known.
  Copy copy_;
};

// The lists of a copy whose JSON area equals that of the other.
void take_lists(Header& to, Header& from) {
  to.json_used_bytes = from.json_used_bytes;
  to.json_sha256 = from.json_sha256;
  to.keyslots = std::move(from.keyslots);
  to.segments = std::move(from.segments);
  to.digests = std::move(from.digests);
  to.tokens = std::move(from.tokens);
  to.keyslots_bytes = from.keyslots_bytes;
  to.flags = std::move(from.flags);
  to.requirements = std::move(from.requirements);
}

// With the first copy's size unknown (or claimed to reach behind the bytes given: a good second
// copy at a lower offset would lie inside such a first one, so its size field is what is wrong),
// the second is the first one at its offsets whose checksum is right; of bad ones, the one that got
// furthest is told.
Copy find_secondary(ByteView start, std::uint64_t device_bytes) {
  Copy best;
  for (const std::uint64_t offset : kMetadataSizes) {
    Copy copy = CopyReader(start, device_bytes, offset, true).read(nullptr, {});
    if (copy.state >= State::kInvalid) return copy;
    if (copy.state == State::kDamaged) best = std::move(copy);
  }
  return best;
}

std::variant<Header, Refusal> choose(Copy primary, Copy secondary) {
  const bool first = primary.state == State::kGood;
  const bool second = secondary.state == State::kGood;
  if (!first && !second) {
    return primary.state >= secondary.state ? std::move(primary.refusal)
                                            : std::move(secondary.refusal);
  }
  const bool newer = second && (!first || secondary.header.epoch > primary.header.epoch);
  const bool stale = first && second && primary.header.epoch != secondary.header.epoch;
  Header header = std::move(newer ? secondary.header : primary.header);
  if (newer && secondary.equals_twin) take_lists(header, primary.header);
  header.copies = first && second && !stale ? Copies::kBoth
                  : newer                   ? Copies::kPrimaryBad
                                            : Copies::kSecondaryBad;
  if (2 * header.metadata_bytes + header.keyslots_bytes > header.device_bytes) {
    return Refusal{Reason::kDeviceTooSmall, "config.keyslots_size",
                   "the device ends inside the keyslot area"};
  }
  return header;
}

}  // namespace

std::string_view copies_name(Copies copies) noexcept {
  switch (copies) {
    case Copies::kBoth:
      return "both";
    case Copies::kPrimaryBad:
      return "primary-bad";
    case Copies::kSecondaryBad:
      return "secondary-bad";
  }
  return "unknown";
}

bool Segment::backup() const {
  return std::ranges::any_of(flags,
                             [](const std::string& flag) { return flag.starts_with("backup-"); });
}

bool Header::reencryption() const {
  const auto requires_it = [](const std::string& requirement) {
    return requirement.find("reencrypt") != std::string::npos;
  };
  const auto keyslot_of_it = [](const Keyslot& slot) { return slot.type == "reencrypt"; };
  const auto segment_of_it = [](const Segment& segment) {
    return segment.backup() ||
           std::ranges::find(segment.flags, "in-reencryption") != segment.flags.end();
  };
  return std::ranges::any_of(requirements, requires_it) ||
         std::ranges::any_of(keyslots, keyslot_of_it) ||
         std::ranges::any_of(segments, segment_of_it);
}

const Segment* Header::data_segment() const {
  const auto regular = [](const Segment& segment) { return !segment.backup(); };
  const auto found = std::ranges::find_if(segments, regular);
  return std::ranges::count_if(segments, regular) == 1 ? &*found : nullptr;
}

const Digest* Header::digest_of(std::uint32_t segment_id) const {
  const auto has_segment = [&](const Digest& digest) {
    return std::ranges::find(digest.segments, segment_id) != digest.segments.end();
  };
  const auto found = std::ranges::find_if(digests, has_segment);
  return found == digests.end() ? nullptr : &*found;
}

std::variant<Header, Refusal> examine_header(ByteView start, std::uint64_t device_bytes) {
  if (start.size() > device_bytes) start = start.first(device_bytes);
  CopyReader first(start, device_bytes, 0, false);
  Copy primary = first.read(nullptr, {});
  if (primary.state < State::kInvalid) {
    return choose(std::move(primary), find_secondary(start, device_bytes));
  }
  const std::uint64_t offset = primary.header.metadata_bytes;
  CopyReader second(start, device_bytes, offset, true);
  Copy secondary = second.read(&primary, first.area());
  if (secondary.state == State::kUnread) return std::move(secondary.refusal);
  return choose(std::move(primary), std::move(secondary));
}

Result<Header> parse_header(ByteView start, std::uint64_t device_bytes) {
  auto examined = examine_header(start, device_bytes);
  if (auto* const header = std::get_if<Header>(&examined)) return std::move(*header);
  const auto& refusal = std::get<Refusal>(examined);
  return fail(refusal.reason, refusal.error().message());
}

}  // namespace coffer::luks2

// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/cmk_record.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "core/keyring/enum_codec.h"

namespace coffer::keyring {
namespace {

constexpr char kMagic[] = "CFCR";
constexpr std::uint8_t kFormatVersion = 1;
constexpr std::size_t kRootIdBytesMax = 64;
constexpr std::size_t kAliasBytesMax = 60;
constexpr std::size_t kDescriptionBytesMax = 1024;
constexpr std::size_t kMaterialBytesMax = 4096;
constexpr std::size_t kVersionBytesMin = 4 + 1 + 1 + 8 + 4 + 8;
constexpr std::uint64_t kWrapsMax = std::uint64_t{1} << 32U;

bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
bool is_alias_character(char c) {
  return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-';
}

// Microseconds that fit the clock's signed type, so that one value has one encoding.
WallTime read_time(ByteReader& in) {
  const std::uint64_t value = in.u64();
  if (value > std::uint64_t{std::numeric_limits<std::int64_t>::max()}) {
    in.reject();
    return {};
  }
  return wall_from_usec(value);
}

void write_version(ByteWriter& out, const KeyVersion& version) {
  out.u32(version.number);
  write_enum(out, version.state);
  write_enum(out, version.profile);
  out.u64(usec(version.created)).bytes(version.material).u64(version.wraps_leased);
}

KeyVersion read_version(ByteReader& in) {
  KeyVersion version;
  version.number = in.u32();
  version.state = read_enum(in, VersionState::kDestroyed);
  version.profile = read_enum(in, KekProfile::kAesCbcHmac);
  version.created = read_time(in);
  const ByteView material = in.bytes(kMaterialBytesMax);
  version.material.assign(material.begin(), material.end());
  version.wraps_leased = in.u64();
  if (version.wraps_leased > kWrapsMax) in.reject();
  return version;
}

// Ascending numbers from 1, exactly the last one current, and material wherever it is not gone.
bool versions_hold(const CmkRecord& record) {
  std::uint32_t before = 0;
  for (const auto& version : record.versions) {
    const bool is_last = &version == &record.versions.back();
    if (version.number <= before) return false;
    if ((version.state == VersionState::kCurrent) != is_last) return false;
    const bool may_lack =
        version.state == VersionState::kDestroyed || record.state == KeyState::kPendingImport;
    if (version.material.empty() && !may_lack) return false;
    before = version.number;
  }
  return !record.versions.empty();
}

}  // namespace

std::string_view key_state_name(KeyState state) noexcept {
  switch (state) {
    case KeyState::kEnabled:
      return "Enabled";
    case KeyState::kDisabled:
      return "Disabled";
    case KeyState::kArchived:
      return "Archived";
    case KeyState::kPendingImport:
      return "PendingImport";
    case KeyState::kPendingDelete:
      return "PendingDelete";
  }
  return "unknown";
}

std::string_view protection_name(Protection protection) noexcept {
  switch (protection) {
    case Protection::kResident:
      return "resident";
    case Protection::kWrapped:
      return "wrapped";
    case Protection::kRooted:
      return "rooted";
  }
  return "unknown";
}

std::string_view token_kind_name(TokenKind kind) noexcept {
  switch (kind) {
    case TokenKind::kHardware:
      return "hardware";
    case TokenKind::kSoftware:
      return "software";
  }
  return "unknown";
}

std::string_view key_algorithm_name(KeyAlgorithm algorithm) noexcept {
  switch (algorithm) {
    case KeyAlgorithm::kAes256:
      return "AES-256";
  }
  return "unknown";
}

std::string_view key_origin_name(KeyOrigin origin) noexcept {
  switch (origin) {
    case KeyOrigin::kGenerated:
      return "generated";
    case KeyOrigin::kImported:
      return "imported";
  }
  return "unknown";
}

const KeyVersion* CmkRecord::find_version(std::uint32_t number) const noexcept {
  const auto found = std::ranges::lower_bound(versions, number, {}, &KeyVersion::number);
  return found != versions.end() && found->number == number ? &*found : nullptr;
}

Bytes CmkRecord::encode() const {
  ByteWriter out;
  out.raw(as_bytes(kMagic)).u8(kFormatVersion).raw(id.bytes()).u64(revision);
  write_enum(out, state);
  write_enum(out, owner);
  write_enum(out, origin);
  write_enum(out, algorithm);
  write_enum(out, protection);
  write_enum(out, token_kind);
  out.text(root_id).text(alias).text(description).u64(usec(created)).u64(usec(changed));
  out.u32(static_cast<std::uint32_t>(versions.size()));
  for (const auto& version : versions) write_version(out, version);
  return out.take();
}

Result<CmkRecord> CmkRecord::decode(ByteView sealed) {
  if (sealed.size() > kEncodedBytesMax + kSealBytes || sealed.size() < kSealBytes) {
    return fail(Reason::kRecordInvalid, "key record: its length is not that of a record");
  }
  ByteReader in(sealed.first(sealed.size() - kSealBytes));
  read_magic(in, kMagic);
  if (in.u8() != kFormatVersion) in.reject();
  const auto id = CmkId::from_bytes(in.raw(16));
  if (!id) return fail(Reason::kRecordInvalid, "key record is cut short");
  CmkRecord record{.id = *id};
  record.revision = in.u64();
  record.state = read_enum(in, KeyState::kPendingDelete);
  record.owner = read_enum(in, KeyOwner::kService);
  record.origin = read_enum(in, KeyOrigin::kImported);
  record.algorithm = read_enum(in, KeyAlgorithm::kAes256);
  record.protection = read_enum(in, Protection::kRooted);
  record.token_kind = read_enum(in, TokenKind::kSoftware);
  record.root_id = in.text(kRootIdBytesMax);
  record.alias = in.text(kAliasBytesMax);
  record.description = in.text(kDescriptionBytesMax);
  record.created = read_time(in);
  record.changed = read_time(in);
  record.versions.resize(in.count(CmkRecord::kVersionsMax, kVersionBytesMin));
  for (auto& version : record.versions) version = read_version(in);
  const std::string what = "record of key " + id->str();
  if (auto done = in.finish(Reason::kRecordInvalid, what); !done) {
    return tl::unexpected(done.error());
  }
  if (record.revision == 0 || !require_alias(record.alias) || !versions_hold(record)) {
    return fail(Reason::kRecordInvalid, what + " contradicts itself");
  }
  return record;
}

Result<void> require_alias(std::string_view alias) {
  const bool good = !alias.empty() && alias.size() <= kAliasBytesMax && is_letter(alias.front()) &&
                    std::ranges::all_of(alias, is_alias_character);
  if (good) return {};
  return fail(Reason::kInvalidArgs,
              "'" + printable(alias, 80) +
                  "' is no alias: 1 to 60 letters, digits, '_' and '-', starting with a letter");
}

Result<void> require_description(std::string_view description) {
  const bool good = description.size() <= kDescriptionBytesMax && is_utf8(description) &&
                    description.find('\0') == std::string_view::npos;
  if (good) return {};
  return fail(Reason::kInvalidArgs, "a description is at most 1024 bytes of UTF-8");
}

}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/cmk_record.h"

#include <algorithm>
#include <utility>

#include "core/keyring/enum_codec.h"

namespace coffer::keyring {
namespace {

constexpr char kMagic[] = "CFCR";
constexpr std::uint8_t kFormatVersion = 2;
constexpr std::size_t kRootIdBytesMax = 64;
constexpr std::size_t kAliasBytesMax = 60;
constexpr std::size_t kDescriptionBytesMax = 1024;
constexpr std::size_t kMaterialBytesMax = 4096;
constexpr std::size_t kPublicKeyBytesMax = 1024;
constexpr std::size_t kDigestBytes = 32;
constexpr std::size_t kVersionBytesMin = 4 + 1 + 1 + 8 + 4 + 4 + 8;
constexpr std::uint64_t kWrapsMax = std::uint64_t{1} << 32U;

bool is_letter_or_digit(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}
bool is_alias_character(char c) {
  return is_letter_or_digit(c) || c == '_' || c == '-';
}

void write_time(ByteWriter& out, const std::optional<WallTime>& time) {
  out.boolean(time.has_value());
  if (time) out.u64(usec(*time));
}

std::optional<WallTime> read_optional_time(ByteReader& in) {
  if (!in.boolean()) return std::nullopt;
  return read_time(in);
}

Bytes read_bytes(ByteReader& in, std::size_t size_max) {
  const ByteView bytes = in.bytes(size_max);
  return {bytes.begin(), bytes.end()};
}

void write_version(ByteWriter& out, const KeyVersion& version) {
  out.u32(version.number);
  write_enum(out, version.state);
  write_enum(out, version.profile);
  out.u64(usec(version.created)).bytes(version.material).bytes(version.public_key);
  out.u64(version.wraps_leased);
}

KeyVersion read_version(ByteReader& in) {
  KeyVersion version;
  version.number = in.u32();
  version.state = read_enum(in, VersionState::kDestroyed);
  version.profile = read_enum(in, KekProfile::kNone);
  version.created = read_time(in);
  version.material = read_bytes(in, kMaterialBytesMax);
  version.public_key = read_bytes(in, kPublicKeyBytesMax);
  version.wraps_leased = in.u64();
  if (version.wraps_leased > kWrapsMax) in.reject();
  return version;
}

void write_offer(ByteWriter& out, const std::optional<ImportOffer>& offer) {
  out.boolean(offer.has_value());
  if (!offer) return;
  out.bytes(offer->nonce);
  write_enum(out, offer->wrapping);
  out.u64(usec(offer->valid_to)).bytes(offer->private_key).bytes(offer->public_key);
}

std::optional<ImportOffer> read_offer(ByteReader& in) {
  if (!in.boolean()) return std::nullopt;
  ImportOffer offer;
  offer.nonce = read_bytes(in, ImportOffer::kNonceBytes);
  offer.wrapping = read_enum(in, ImportWrapping::kSm2);
  offer.valid_to = read_time(in);
  offer.private_key = read_bytes(in, kMaterialBytesMax);
  offer.public_key = read_bytes(in, kPublicKeyBytesMax);
  if (offer.nonce.size() != ImportOffer::kNonceBytes || offer.private_key.empty()) in.reject();
  return offer;
}

// Whether a version of that record may be without its material.
bool may_lack_material(const CmkRecord& record, const KeyVersion& version) {
  if (version.state == VersionState::kDestroyed) return true;
  if (record.origin != KeyOrigin::kImported) return false;
  return record.state == KeyState::kPendingImport || record.state == KeyState::kPendingDelete;
}

// Of asymmetric keys alone, and of an imported one once its material was brought: for good, as that
// is the only one that may come back.
bool has_public_key(const CmkRecord& record) {
  const bool was_there = record.origin == KeyOrigin::kGenerated || !record.material_digest.empty();
  return !is_symmetric(record.algorithm) && was_there;
}

// Ascending numbers from 1, exactly the last one current, and material wherever it is not gone. Of
// a destroyed key every version is.
bool versions_hold(const CmkRecord& record) {
  const bool symmetric = is_symmetric(record.algorithm);
  const bool destroyed = record.state == KeyState::kDestroyed;
  std::uint32_t before = 0;
  for (const auto& version : record.versions) {
    const bool is_last = &version == &record.versions.back();
    const auto last_state = destroyed ? VersionState::kDestroyed : VersionState::kCurrent;
    if (version.number <= before) return false;
    if (is_last && version.state != last_state) return false;
    if (!is_last && version.state == VersionState::kCurrent) return false;
    if (destroyed && version.state != VersionState::kDestroyed) return false;
    if (version.state == VersionState::kDestroyed && !version.material.empty()) return false;
    if (version.material.empty() && !may_lack_material(record, version)) return false;
    if (symmetric != (version.profile != KekProfile::kNone)) return false;
    if (has_public_key(record) == version.public_key.empty()) return false;
    // What came in without a trace would be whatever comes next.
    if (!symmetric && version.public_key.empty() && !version.material.empty()) return false;
    before = version.number;
  }
  return !record.versions.empty();
}

// Times and periods stand exactly where the state and origin have them.
bool life_holds(const CmkRecord& record) {
  const bool imported = record.origin == KeyOrigin::kImported;
  const bool rotates = record.rotation_days != 0;
  const bool days_fit = record.rotation_days >= CmkRecord::kRotationDaysMin &&
                        record.rotation_days <= CmkRecord::kRotationDaysMax;
  if (!fits(record.algorithm, record.usage)) return false;
  if (imported && !is_symmetric(record.algorithm) && record.protection != Protection::kRooted)
    return false;
  if (rotates != record.next_rotation.has_value() || (rotates && !days_fit)) return false;
  if (rotates && (imported || !is_symmetric(record.algorithm))) return false;
  if (record.material_valid_to && !record.has_material()) return false;
  if ((record.state == KeyState::kPendingDelete) != record.delete_at.has_value()) return false;
  if (record.state == KeyState::kPendingImport && !imported) return false;
  if (!imported && (record.offer || record.material_valid_to || !record.material_digest.empty())) {
    return false;
  }
  return record.material_digest.empty() || record.material_digest.size() == kDigestBytes;
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
    case KeyState::kDestroyed:
      return "Destroyed";
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
    case KeyAlgorithm::kSm4:
      return "SM4";
    case KeyAlgorithm::kRsa2048:
      return "RSA-2048";
    case KeyAlgorithm::kRsa3072:
      return "RSA-3072";
    case KeyAlgorithm::kRsa4096:
      return "RSA-4096";
    case KeyAlgorithm::kSm2:
      return "SM2";
    case KeyAlgorithm::kEcP256:
      return "EC-P256";
    case KeyAlgorithm::kEcP384:
      return "EC-P384";
  }
  return "unknown";
}

std::string_view key_owner_name(KeyOwner owner) noexcept {
  switch (owner) {
    case KeyOwner::kUser:
      return "user";
    case KeyOwner::kService:
      return "service";
  }
  return "unknown";
}

std::string_view key_usage_name(KeyUsage usage) noexcept {
  switch (usage) {
    case KeyUsage::kEncryptDecrypt:
      return "encrypt-decrypt";
    case KeyUsage::kAsymmetricDecrypt:
      return "asymmetric-decrypt";
    case KeyUsage::kSignVerify:
      return "sign-verify";
  }
  return "unknown";
}

std::string_view import_wrapping_name(ImportWrapping wrapping) noexcept {
  switch (wrapping) {
    case ImportWrapping::kRsaPkcs1:
      return "rsa-pkcs1";
    case ImportWrapping::kRsaOaepSha1:
      return "rsa-oaep-sha1";
    case ImportWrapping::kRsaOaepSha256:
      return "rsa-oaep-sha256";
    case ImportWrapping::kRsaAesSha1:
      return "rsa-aes-key-wrap-sha1";
    case ImportWrapping::kRsaAesSha256:
      return "rsa-aes-key-wrap-sha256";
    case ImportWrapping::kSm2:
      return "sm2";
  }
  return "unknown";
}

bool is_symmetric(KeyAlgorithm algorithm) noexcept {
  return algorithm == KeyAlgorithm::kAes256 || algorithm == KeyAlgorithm::kSm4;
}

bool fits(KeyAlgorithm algorithm, KeyUsage usage) noexcept {
  const bool is_ec = algorithm == KeyAlgorithm::kEcP256 || algorithm == KeyAlgorithm::kEcP384;
  if (is_symmetric(algorithm)) return usage == KeyUsage::kEncryptDecrypt;
  if (is_ec) return usage == KeyUsage::kSignVerify;
  return usage != KeyUsage::kEncryptDecrypt;
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
  write_enum(out, usage);
  write_enum(out, protection);
  write_enum(out, token_kind);
  out.text(root_id).text(alias).text(description).u64(usec(created)).u64(usec(changed));
  out.u32(rotation_days);
  write_time(out, next_rotation);
  write_time(out, delete_at);
  out.bytes(material_digest);
  write_time(out, material_valid_to);
  write_offer(out, offer);
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
  record.state = read_enum(in, KeyState::kDestroyed);
  record.owner = read_enum(in, KeyOwner::kService);
  record.origin = read_enum(in, KeyOrigin::kImported);
  record.algorithm = read_enum(in, KeyAlgorithm::kEcP384);
  record.usage = read_enum(in, KeyUsage::kSignVerify);
  record.protection = read_enum(in, Protection::kRooted);
  record.token_kind = read_enum(in, TokenKind::kSoftware);
  record.root_id = in.text(kRootIdBytesMax);
  record.alias = in.text(kAliasBytesMax);
  record.description = in.text(kDescriptionBytesMax);
  record.created = read_time(in);
  record.changed = read_time(in);
  record.rotation_days = in.u32();
  record.next_rotation = read_optional_time(in);
  record.delete_at = read_optional_time(in);
  record.material_digest = read_bytes(in, kDigestBytes);
  record.material_valid_to = read_optional_time(in);
  record.offer = read_offer(in);
  record.versions.resize(in.count(CmkRecord::kVersionsMax, kVersionBytesMin));
  for (auto& version : record.versions) version = read_version(in);
  const std::string what = "record of key " + id->str();
  if (auto done = in.finish(Reason::kRecordInvalid, what); !done) {
    return tl::unexpected(done.error());
  }
  if (record.revision == 0 || !require_alias(record.alias) || !versions_hold(record) ||
      !life_holds(record)) {
    return fail(Reason::kRecordInvalid, what + " contradicts itself");
  }
  return record;
}

Result<void> require_alias(std::string_view alias) {
  const bool good = !alias.empty() && alias.size() <= kAliasBytesMax &&
                    is_letter_or_digit(alias.front()) &&
                    std::ranges::all_of(alias, is_alias_character);
  if (good) return {};
  return fail(Reason::kInvalidArgs,
              "'" + printable(alias, 80) +
                  "' is no alias: 1 to 60 letters, digits, '_' and '-', starting with a letter or "
                  "digit");
}

Result<void> require_description(std::string_view description) {
  const bool good = description.size() <= kDescriptionBytesMax && is_utf8(description) &&
                    description.find('\0') == std::string_view::npos;
  if (good) return {};
  return fail(Reason::kInvalidArgs, "a description is at most 1024 bytes of UTF-8");
}

}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_rules.h"

#include <algorithm>
#include <chrono>
#include <string>

#include "core/base/secret_bytes.h"
#include "core/keyring/key_states.h"

namespace coffer::hsm {
namespace {

using keyring::CmkChange;
using keyring::CmkRecord;
using keyring::KeyOrigin;
using keyring::KeyOwner;
using keyring::KeyState;
using keyring::KeyVersion;
using keyring::refused_by_state;
using keyring::require_state;
using keyring::VersionState;

std::string named(const CmkRecord& record) {
  return "key " + record.id.str() + " ('" + record.alias + "')";
}

Result<void> require_user_key(const CmkRecord& record, std::string_view doing) {
  if (record.owner == KeyOwner::kUser) return {};
  return fail(Reason::kServiceKey,
              std::string(doing) + " " + named(record) + ": it belongs to a service");
}

Result<void> require_imported(const CmkRecord& record, std::string_view doing) {
  if (record.origin == KeyOrigin::kImported) return {};
  return fail(Reason::kKeyNotImported,
              std::string(doing) + " " + named(record) + ": its material was generated here");
}

// Keys whose versions this host makes: asymmetric and imported ones never rotate.
Result<void> require_rotates(const CmkRecord& record) {
  if (!keyring::is_symmetric(record.algorithm)) {
    return fail(Reason::kKeyUsage, "rotate " + named(record) + ": asymmetric keys do not rotate");
  }
  if (record.origin != KeyOrigin::kImported) return {};
  return fail(Reason::kKeyImported, "rotate " + named(record) + ": its material was imported");
}

std::chrono::days days_of(std::uint32_t days) {
  return std::chrono::days(days);
}

void plan_rotation(CmkRecord& record, WallTime now) {
  record.next_rotation.reset();
  if (record.rotation_days != 0) record.next_rotation = now + days_of(record.rotation_days);
}

Result<void> rotate(CmkRecord& record, keyring::KekProfile profile, const KeyFloor& floor,
                    WallTime now, const UseLimits& limits) {
  if (auto may = require_rotates(record); !may) return may;
  if (auto enabled = require_state(record, KeyState::kEnabled, "rotate"); !enabled) return enabled;
  // What was destroyed at the front needs no room: its numbers lie before the first one.
  record.versions.erase(record.versions.begin(),
                        std::ranges::find_if(record.versions, [](const KeyVersion& version) {
                          return version.state != VersionState::kDestroyed;
                        }));
  if (record.versions.size() >= CmkRecord::kVersionsMax) {
    return fail(Reason::kLimitsExceeded, "rotate key " + record.id.str() + ": it has " +
                                             std::to_string(record.versions.size()) + " versions");
  }
  record.versions.back().state = VersionState::kDecryptOnly;
  record.versions.push_back({.number = std::max(record.versions.back().number, floor.version) + 1,
                             .profile = profile,
                             .created = now,
                             .material = {},
                             .public_key = {},
                             .wraps_leased = std::min(limits.lease_block, limits.wraps_max)});
  plan_rotation(record, now);
  return {};
}

Result<void> archive(CmkRecord& record) {
  if (auto may = require_user_key(record, "archive"); !may) return may;
  if (record.state == KeyState::kArchived) return {};
  if (record.state != KeyState::kEnabled && record.state != KeyState::kDisabled) {
    return refused_by_state(record, "archive");
  }
  record.state = KeyState::kArchived;
  return {};
}

Result<void> cancel_archive(CmkRecord& record) {
  if (auto may = require_user_key(record, "bring back"); !may) return may;
  if (record.state == KeyState::kEnabled || record.state == KeyState::kDisabled) {
    return fail(Reason::kKeyNotArchived, named(record) + " is not archived");
  }
  if (auto from = require_state(record, KeyState::kArchived, "bring back"); !from) return from;
  record.state = KeyState::kEnabled;
  return {};
}

Result<void> schedule_deletion(CmkRecord& record, std::uint32_t days, WallTime now) {
  if (auto may = require_user_key(record, "delete"); !may) return may;
  if (days < CmkChange::kDeletionDaysMin || days > CmkChange::kDeletionDaysMax) {
    return fail(Reason::kInvalidArgs, "a key is deleted in 7 to 30 days");
  }
  if (record.state == KeyState::kEnabled || record.state == KeyState::kArchived) {
    return fail(Reason::kKeyNotDisabled,
                "delete " + named(record) + ": it is " + std::string(key_state_name(record.state)) +
                    (record.state == KeyState::kArchived ? "; bring it back and disable it first"
                                                         : "; disable it first"));
  }
  if (record.state != KeyState::kDisabled && record.state != KeyState::kPendingImport) {
    return refused_by_state(record, "delete");
  }
  record.state = KeyState::kPendingDelete;
  record.delete_at = now + days_of(days);
  return {};
}

Result<void> cancel_deletion(CmkRecord& record, WallTime now) {
  if (record.state == KeyState::kDestroyed) return refused_by_state(record, "rescue");
  if (record.state != KeyState::kPendingDelete) {
    return fail(Reason::kKeyNotPendingDeletion,
                "rescue " + named(record) + ": it is " + std::string(key_state_name(record.state)));
  }
  if (now >= *record.delete_at) {
    return fail(Reason::kKeyPendingDeletion, "rescue " + named(record) + ": its time has come");
  }
  record.state = record.has_material() ? KeyState::kDisabled : KeyState::kPendingImport;
  record.delete_at.reset();
  return {};
}

void destroy(KeyVersion& version) {
  version.state = VersionState::kDestroyed;
  version.material.clear();
}

Result<void> destroy_key(CmkRecord& record, WallTime now) {
  if (auto from = require_state(record, KeyState::kPendingDelete, "destroy"); !from) return from;
  if (now < *record.delete_at) {
    return fail(Reason::kKeyPendingDeletion, "destroy " + named(record) + ": not before its time");
  }
  record.state = KeyState::kDestroyed;
  record.delete_at.reset();
  record.rotation_days = 0;
  record.next_rotation.reset();
  record.material_valid_to.reset();
  record.offer.reset();
  for (KeyVersion& version : record.versions) destroy(version);
  return {};
}

Result<void> destroy_version(CmkRecord& record, std::uint32_t number) {
  if (auto may = require_user_key(record, "destroy a version of"); !may) return may;
  if (record.state == KeyState::kDestroyed) return refused_by_state(record, "destroy a version of");
  const auto found = std::ranges::find(record.versions, number, &KeyVersion::number);
  if (found == record.versions.end() || found->state != VersionState::kDecryptOnly) {
    return fail(Reason::kInvalidArgs, "version " + std::to_string(number) + " of " + named(record) +
                                          " is not one that is there and not the current one");
  }
  destroy(*found);
  return {};
}

Result<void> set_rotation(CmkRecord& record, std::uint32_t days, WallTime now) {
  if (record.state == KeyState::kDestroyed) return refused_by_state(record, "set the rotation of");
  if (days != 0) {
    if (auto may = require_rotates(record); !may) return may;
    if (auto from = require_state(record, KeyState::kEnabled, "rotate"); !from) return from;
    if (days < CmkRecord::kRotationDaysMin || days > CmkRecord::kRotationDaysMax) {
      return fail(Reason::kInvalidArgs, "a key rotates every 7 to 365 days");
    }
  }
  record.rotation_days = days;
  plan_rotation(record, now);
  return {};
}

Result<void> describe(CmkRecord& record, const CmkChange& change) {
  if (auto may = require_user_key(record, "describe"); !may) return may;
  if (record.state == KeyState::kPendingDelete || record.state == KeyState::kDestroyed) {
    return refused_by_state(record, "describe");
  }
  if (auto good = keyring::require_names(change); !good) return good;
  if (change.alias) record.alias = *change.alias;
  if (change.description) record.description = *change.description;
  return {};
}

void drop_material(CmkRecord& record) {
  for (KeyVersion& version : record.versions) version.material.clear();
  record.material_valid_to.reset();
  record.offer.reset();
  if (record.state != KeyState::kPendingDelete) record.state = KeyState::kPendingImport;
}

Result<void> delete_material(CmkRecord& record) {
  if (auto may = require_user_key(record, "delete the material of"); !may) return may;
  if (auto may = require_imported(record, "delete the material of"); !may) return may;
  if (record.state == KeyState::kPendingImport || record.state == KeyState::kPendingDelete ||
      record.state == KeyState::kDestroyed) {
    return refused_by_state(record, "delete the material of");
  }
  drop_material(record);
  return {};
}

bool has_expired_offer(const CmkRecord& record, WallTime now) {
  return record.offer && now >= record.offer->valid_to;
}

// What has expired: the material, or an offer whose private key would lie in the record for good.
Result<void> expire_material(CmkRecord& record, WallTime now) {
  const bool expired = record.material_valid_to && now >= *record.material_valid_to;
  if (!expired && !has_expired_offer(record, now)) {
    return fail(Reason::kInvalidArgs, "the material of " + named(record) + " has not expired");
  }
  if (expired) drop_material(record);
  return {};
}

Result<void> set_valid_to(CmkRecord& record, const std::optional<WallTime>& time, WallTime now) {
  constexpr std::string_view kDoing = "set how long to keep the material of";
  if (auto may = require_user_key(record, kDoing); !may) return may;
  if (auto may = require_imported(record, kDoing); !may) return may;
  if (!record.has_material() || record.state == KeyState::kPendingDelete) {
    return refused_by_state(record, kDoing);
  }
  if (auto good = require_valid_to(time, now); !good) return good;
  record.material_valid_to = time;
  return {};
}

void count_unseen_leases(CmkRecord& record, const KeyFloor& floor, const UseLimits& limits) {
  if (floor.revision <= record.revision || !keyring::is_symmetric(record.algorithm)) return;
  const std::uint64_t leases = floor.revision - record.revision;
  KeyVersion& version = record.versions.back();
  const std::uint64_t left = limits.wraps_max - std::min(version.wraps_leased, limits.wraps_max);
  version.wraps_leased = leases > left / limits.lease_block
                             ? limits.wraps_max
                             : version.wraps_leased + leases * limits.lease_block;
}

// Takes from an older copy what was destroyed since it was made, or was dropped of imported
// material. What is left of a generated key ends with a version that is there: that one is its
// current one.
void take_out_what_is_gone(CmkRecord& record, const KeyFloor& floor) {
  const bool imported = record.origin == KeyOrigin::kImported;
  for (KeyVersion& version : record.versions) {
    const bool is_gone =
        version.number < floor.first || std::ranges::binary_search(floor.gone, version.number);
    if (!is_gone) continue;
    version.material.clear();
    if (!imported) version.state = VersionState::kDestroyed;
  }
  if (imported) return;
  while (!record.versions.empty() && record.versions.back().state == VersionState::kDestroyed) {
    record.versions.pop_back();
  }
  if (!record.versions.empty()) record.versions.back().state = VersionState::kCurrent;
}

// A record from a volume's token or a backup becomes a key that somebody has to enable. Nobody
// knows what an older one was used for since, but that every lease was a revision that was
// presented.
Result<void> adopt(CmkRecord& record, const KeyFloor& floor, WallTime now,
                   const UseLimits& limits) {
  if (record.state == KeyState::kDestroyed) return refused_by_state(record, "adopt");
  if (floor.destroyed) {
    return fail(Reason::kNoSuchKey, "adopt " + named(record) + ": it was destroyed");
  }
  if (record.delete_at && now >= *record.delete_at) {
    return fail(Reason::kKeyPendingDeletion,
                "adopt " + named(record) + ": the time of its deletion has come");
  }
  const std::string name = named(record);
  take_out_what_is_gone(record, floor);
  if (record.versions.empty()) {
    return fail(Reason::kNoSuchKey, "adopt " + name + ": all that this copy has was destroyed");
  }
  if (!record.has_material()) record.material_valid_to.reset();
  if (record.state != KeyState::kPendingDelete) {
    record.state = record.has_material() ? KeyState::kDisabled : KeyState::kPendingImport;
  }
  // A newer one may have been made since: only the newest counts.
  record.offer.reset();
  // Its plan is as old as the copy: nothing is due the moment it is enabled.
  plan_rotation(record, now);
  count_unseen_leases(record, floor, limits);
  return {};
}

Result<void> require_usage(const CmkRecord& record, keyring::KeyUsage usage) {
  if (record.usage == usage) return {};
  return fail(Reason::kKeyUsage, named(record) + " is for " +
                                     std::string(key_usage_name(record.usage)) + ", not for " +
                                     std::string(key_usage_name(usage)));
}

// Of imported material that nobody has dropped yet.
Result<void> require_not_expired(const CmkRecord& record, WallTime now) {
  if (!record.material_valid_to || now < *record.material_valid_to) return {};
  return fail(Reason::kKeyPendingImport, named(record) + ": its material has expired");
}

// The uses that a version begins with; private keys have no limit.
std::uint64_t first_lease(keyring::KeyAlgorithm algorithm, const UseLimits& limits) {
  return keyring::is_symmetric(algorithm) ? std::min(limits.lease_block, limits.wraps_max) : 0;
}

Result<void> lease(CmkRecord& record, const UseLimits& limits) {
  if (auto wraps = require_usage(record, keyring::KeyUsage::kEncryptDecrypt); !wraps) return wraps;
  if (auto enabled = require_state(record, KeyState::kEnabled, "lease uses of"); !enabled) {
    return enabled;
  }
  KeyVersion& version = record.versions.back();
  if (version.wraps_leased >= limits.wraps_max) {
    const bool rotates = record.origin != KeyOrigin::kImported;
    return fail(Reason::kKeyExhausted,
                "key " + record.id.str() + " version " + std::to_string(version.number) +
                    " has handed out all its uses; " +
                    (rotates ? "rotate it" : "an imported key does not rotate: make another one"));
  }
  version.wraps_leased = std::min(version.wraps_leased + limits.lease_block, limits.wraps_max);
  return {};
}

Result<void> apply(CmkRecord& record, const CmkChange& change, keyring::KekProfile profile,
                   const KeyFloor& floor, WallTime now, const UseLimits& limits) {
  switch (change.kind) {
    case CmkChange::kEnable:
      // A key that is enabled already may be enabled again: callers do not look first.
      if (record.state == KeyState::kEnabled) return {};
      if (auto from = require_state(record, KeyState::kDisabled, "enable"); !from) return from;
      record.state = KeyState::kEnabled;
      return {};
    case CmkChange::kDisable:
      if (auto may = require_user_key(record, "disable"); !may) return may;
      if (record.state == KeyState::kDisabled) return {};
      if (auto from = require_state(record, KeyState::kEnabled, "disable"); !from) return from;
      record.state = KeyState::kDisabled;
      return {};
    case CmkChange::kRotate:
      return rotate(record, profile, floor, now, limits);
    case CmkChange::kAdopt:
      return adopt(record, floor, now, limits);
    case CmkChange::kLease:
      return lease(record, limits);
    case CmkChange::kArchive:
      return archive(record);
    case CmkChange::kCancelArchive:
      return cancel_archive(record);
    case CmkChange::kScheduleDeletion:
      return schedule_deletion(record, change.days, now);
    case CmkChange::kCancelDeletion:
      return cancel_deletion(record, now);
    case CmkChange::kDestroy:
      return destroy_key(record, now);
    case CmkChange::kSetRotation:
      return set_rotation(record, change.days, now);
    case CmkChange::kDescribe:
      return describe(record, change);
    case CmkChange::kDeleteMaterial:
      return delete_material(record);
    case CmkChange::kExpireMaterial:
      return expire_material(record, now);
    case CmkChange::kDestroyVersion:
      return destroy_version(record, change.version);
    case CmkChange::kSetValidTo:
      return set_valid_to(record, change.time, now);
  }
  return fail(Reason::kInvalidArgs, "no such change of a key");
}

}  // namespace

Result<void> require_valid_to(const std::optional<WallTime>& time, WallTime now) {
  // 2038-01-18: what callers of the API may give.
  constexpr WallTime kLast{std::chrono::seconds(2'147'443'200)};
  if (!time || (*time > now && *time <= kLast)) return {};
  return fail(Reason::kInvalidArgs,
              "material expires in the future, not after 2038-01-18, or not at all");
}

Result<CmkRecord> first_record(const keyring::CmkParameters& parameters, const CmkId& id,
                               std::string_view root_id, keyring::TokenKind kind,
                               keyring::KekProfile profile, WallTime now, const UseLimits& limits) {
  if (auto alias = keyring::require_alias(parameters.alias); !alias) {
    return tl::unexpected(alias.error());
  }
  if (auto text = keyring::require_description(parameters.description); !text) {
    return tl::unexpected(text.error());
  }
  if (!keyring::fits(parameters.algorithm, parameters.usage)) {
    return fail(Reason::kInvalidArgs,
                "a key of " + std::string(key_algorithm_name(parameters.algorithm)) +
                    " is not for " + std::string(key_usage_name(parameters.usage)));
  }
  const bool imported = parameters.origin == KeyOrigin::kImported;
  if (imported && parameters.owner == KeyOwner::kService) {
    return fail(Reason::kUnsupported, "a service's key is not imported: nobody may bring it");
  }
  CmkRecord record{.id = id,
                   .state = imported ? KeyState::kPendingImport : KeyState::kEnabled,
                   .owner = parameters.owner,
                   .origin = parameters.origin,
                   .algorithm = parameters.algorithm,
                   .usage = parameters.usage,
                   .protection = parameters.protection.value_or(keyring::Protection::kWrapped),
                   .token_kind = kind,
                   .root_id = std::string(root_id),
                   .alias = parameters.alias,
                   .description = parameters.description,
                   .created = now,
                   .changed = now};
  record.versions.push_back({.profile = profile,
                             .created = now,
                             .material = {},
                             .public_key = {},
                             .wraps_leased = first_lease(parameters.algorithm, limits)});
  return record;
}

Result<CmkRecord> next_record(const CmkRecord& record, const CmkChange& change,
                              keyring::KekProfile profile, const KeyFloor& floor, WallTime now,
                              const UseLimits& limits) {
  CmkRecord next = record;
  if (auto applied = apply(next, change, profile, floor, now, limits); !applied) {
    return tl::unexpected(applied.error());
  }
  if (has_expired_offer(next, now)) next.offer.reset();
  next.revision = std::max(record.revision, floor.revision) + 1;
  next.changed = now;
  return next;
}

Result<void> require_may_wrap(const CmkRecord& record, WallTime now) {
  if (auto made = require_usage(record, keyring::KeyUsage::kEncryptDecrypt); !made) return made;
  if (auto on = require_state(record, KeyState::kEnabled, "wrap under"); !on) return on;
  return require_not_expired(record, now);
}

Result<void> require_may_unwrap(const CmkRecord& record, WallTime now) {
  if (auto made = require_usage(record, keyring::KeyUsage::kEncryptDecrypt); !made) return made;
  const bool may = record.state == KeyState::kEnabled || record.state == KeyState::kArchived;
  if (!may) return refused_by_state(record, "unwrap under");
  return require_not_expired(record, now);
}

Result<void> require_may_use(const CmkRecord& record, keyring::KeyUsage usage, WallTime now) {
  if (auto made = require_usage(record, usage); !made) return made;
  if (auto on = require_state(record, KeyState::kEnabled, "use"); !on) return on;
  return require_not_expired(record, now);
}

keyring::KekProfile profile_for(const keyring::KeySupport& kind,
                                keyring::KekProfile token_profile) noexcept {
  if (!keyring::is_symmetric(kind.algorithm)) return keyring::KekProfile::kNone;
  if (kind.protection != keyring::Protection::kRooted) return token_profile;
  return kind.algorithm == keyring::KeyAlgorithm::kSm4 ? keyring::KekProfile::kSm4Gcm
                                                       : keyring::KekProfile::kAesGcm;
}

Result<void> require_may_prepare_import(const CmkRecord& record) {
  if (auto may = require_user_key(record, "import into"); !may) return may;
  if (auto may = require_imported(record, "import into"); !may) return may;
  const bool gone =
      record.state == KeyState::kPendingDelete || record.state == KeyState::kDestroyed;
  if (gone) return refused_by_state(record, "import into");
  return {};
}

Result<void> require_may_import(const CmkRecord& record) {
  if (auto may = require_may_prepare_import(record); !may) return may;
  if (record.state == KeyState::kEnabled || record.state == KeyState::kPendingImport) return {};
  return refused_by_state(record, "import into");
}

Result<void> require_context(const keyring::KeyContext& context, PurposeRule rule) {
  if (auto valid = context.require_valid(); !valid) return valid;
  const bool is_volume = context.purpose == keyring::Purpose::kVolumeKey;
  if (rule == PurposeRule::kNoVolume && is_volume) {
    return fail(Reason::kWrongPurpose,
                "a volume key is made for and delivered to the worker, never passed to a caller");
  }
  if (rule == PurposeRule::kVolumeOnly && !is_volume) {
    return fail(Reason::kWrongPurpose, "only a volume key is delivered to the worker, not one of " +
                                           std::string(purpose_name(context.purpose)));
  }
  return {};
}

Result<const KeyVersion*> version_of(const CmkRecord& record, const keyring::WrappedKey& blob) {
  if (blob.cmk != record.id) {
    return fail(Reason::kBlobInvalid,
                "the wrapped key is of key " + blob.cmk.str() + ", not of " + record.id.str());
  }
  const KeyVersion* version = record.find_version(blob.cmk_version);
  const auto named = [&] {
    return "version " + std::to_string(blob.cmk_version) + " of key " + record.id.str();
  };
  if (version == nullptr || version->state == VersionState::kDestroyed) {
    return fail(Reason::kBlobInvalid, named() + " does not exist");
  }
  if (version->profile != blob.profile) {
    return fail(Reason::kBlobInvalid,
                named() + " does not wrap by " + std::string(kek_profile_name(blob.profile)));
  }
  return version;
}

Bytes wrap_aad(const keyring::WrappedKey& blob, const keyring::KeyContext& context) {
  Bytes aad = blob.header();
  const Bytes bound = context.encode();
  aad.insert(aad.end(), bound.begin(), bound.end());
  return aad;
}

Bytes wrap_mac_message(ByteView aad, ByteView nonce, ByteView ciphertext) {
  return ByteWriter().bytes(aad).bytes(nonce).bytes(ciphertext).take();
}

bool xts_halves_differ(std::span<const std::byte> key) noexcept {
  const std::size_t half = key.size() / 2;
  return !equal_constant_time(key.first(half), key.subspan(half));
}

}  // namespace coffer::hsm

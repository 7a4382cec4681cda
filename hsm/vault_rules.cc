// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_rules.h"

#include <algorithm>
#include <string>

#include "core/base/secret_bytes.h"

namespace coffer::hsm {
namespace {

using keyring::CmkChange;
using keyring::CmkRecord;
using keyring::KeyState;
using keyring::KeyVersion;
using keyring::VersionState;

tl::unexpected<Error> refused_by_state(const CmkRecord& record, std::string_view doing) {
  const auto because = [&](Reason reason) {
    return fail(reason, std::string(doing) + " key " + record.id.str() + " ('" + record.alias +
                            "'): it is " + std::string(key_state_name(record.state)));
  };
  switch (record.state) {
    case KeyState::kDisabled:
      return because(Reason::kKeyDisabled);
    case KeyState::kArchived:
      return because(Reason::kKeyArchived);
    case KeyState::kPendingImport:
      return because(Reason::kKeyPendingImport);
    case KeyState::kPendingDelete:
      return because(Reason::kKeyPendingDeletion);
    case KeyState::kEnabled:
      break;
  }
  return because(Reason::kInvalidArgs);
}

Result<void> require_state(const CmkRecord& record, KeyState wanted, std::string_view doing) {
  if (record.state == wanted) return {};
  return refused_by_state(record, doing);
}

Result<void> rotate(CmkRecord& record, keyring::KekProfile profile, const KeyFloor& floor,
                    WallTime now, const UseLimits& limits) {
  if (auto enabled = require_state(record, KeyState::kEnabled, "rotate"); !enabled) return enabled;
  if (record.versions.size() >= CmkRecord::kVersionsMax) {
    return fail(Reason::kLimitsExceeded, "rotate key " + record.id.str() + ": it has " +
                                             std::to_string(record.versions.size()) + " versions");
  }
  record.versions.back().state = VersionState::kDecryptOnly;
  record.versions.push_back({.number = std::max(record.versions.back().number, floor.version) + 1,
                             .profile = profile,
                             .created = now,
                             .material = {},
                             .wraps_leased = std::min(limits.lease_block, limits.wraps_max)});
  return {};
}

Result<void> lease(CmkRecord& record, const UseLimits& limits) {
  if (auto enabled = require_state(record, KeyState::kEnabled, "lease uses of"); !enabled) {
    return enabled;
  }
  KeyVersion& version = record.versions.back();
  if (version.wraps_leased >= limits.wraps_max) {
    return fail(Reason::kKeyExhausted, "key " + record.id.str() + " version " +
                                           std::to_string(version.number) +
                                           " has handed out all its uses; rotate it");
  }
  version.wraps_leased = std::min(version.wraps_leased + limits.lease_block, limits.wraps_max);
  return {};
}

// The record is an older one that was kept: nobody knows what its key was used for since, but that
// every lease was a revision that was presented.
void adopt(CmkRecord& record, const KeyFloor& floor, const UseLimits& limits) {
  record.state = KeyState::kDisabled;
  if (floor.revision <= record.revision) return;
  const std::uint64_t leases = floor.revision - record.revision;
  KeyVersion& version = record.versions.back();
  const std::uint64_t left = limits.wraps_max - std::min(version.wraps_leased, limits.wraps_max);
  version.wraps_leased = leases > left / limits.lease_block
                             ? limits.wraps_max
                             : version.wraps_leased + leases * limits.lease_block;
}

Result<void> apply(CmkRecord& record, CmkChange change, keyring::KekProfile profile,
                   const KeyFloor& floor, WallTime now, const UseLimits& limits) {
  switch (change) {
    case CmkChange::kEnable:
      // A key that is enabled already may be enabled again: callers do not look first.
      if (record.state == KeyState::kEnabled) return {};
      if (auto from = require_state(record, KeyState::kDisabled, "enable"); !from) return from;
      record.state = KeyState::kEnabled;
      return {};
    case CmkChange::kDisable:
      if (record.state == KeyState::kDisabled) return {};
      if (auto from = require_state(record, KeyState::kEnabled, "disable"); !from) return from;
      record.state = KeyState::kDisabled;
      return {};
    case CmkChange::kRotate:
      return rotate(record, profile, floor, now, limits);
    case CmkChange::kAdopt:
      adopt(record, floor, limits);
      return {};
    case CmkChange::kLease:
      return lease(record, limits);
  }
  return fail(Reason::kInvalidArgs, "no such change of a key");
}

}  // namespace

Result<CmkRecord> first_record(const keyring::CmkParameters& parameters, const CmkId& id,
                               std::string_view root_id, keyring::TokenKind kind,
                               keyring::KekProfile profile, WallTime now, const UseLimits& limits) {
  if (auto alias = keyring::require_alias(parameters.alias); !alias) {
    return tl::unexpected(alias.error());
  }
  if (auto text = keyring::require_description(parameters.description); !text) {
    return tl::unexpected(text.error());
  }
  CmkRecord record{.id = id,
                   .owner = parameters.owner,
                   .algorithm = parameters.algorithm,
                   .protection = parameters.protection,
                   .token_kind = kind,
                   .root_id = std::string(root_id),
                   .alias = parameters.alias,
                   .description = parameters.description,
                   .created = now,
                   .changed = now};
  record.versions.push_back({.profile = profile,
                             .created = now,
                             .material = {},
                             .wraps_leased = std::min(limits.lease_block, limits.wraps_max)});
  return record;
}

Result<CmkRecord> next_record(const CmkRecord& record, CmkChange change,
                              keyring::KekProfile profile, const KeyFloor& floor, WallTime now,
                              const UseLimits& limits) {
  CmkRecord next = record;
  if (auto applied = apply(next, change, profile, floor, now, limits); !applied) {
    return tl::unexpected(applied.error());
  }
  next.revision = std::max(record.revision, floor.revision) + 1;
  next.changed = now;
  return next;
}

Result<void> require_may_wrap(const CmkRecord& record) {
  return require_state(record, KeyState::kEnabled, "wrap under");
}

Result<void> require_may_unwrap(const CmkRecord& record) {
  const bool may = record.state == KeyState::kEnabled || record.state == KeyState::kArchived;
  if (may) return {};
  return refused_by_state(record, "unwrap under");
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
  const std::string named =
      "version " + std::to_string(blob.cmk_version) + " of key " + record.id.str();
  if (version == nullptr || version->state == VersionState::kDestroyed) {
    return fail(Reason::kBlobInvalid, named + " does not exist");
  }
  if (version->profile != blob.profile) {
    return fail(Reason::kBlobInvalid,
                named + " does not wrap by " + std::string(kek_profile_name(blob.profile)));
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

// SPDX-License-Identifier: Apache-2.0
#include "hsm/ruled_vault.h"

#include <algorithm>
#include <chrono>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "core/crypto/digest.h"

namespace coffer::hsm {

using keyring::CmkRecord;
using keyring::KekProfile;
using keyring::KeyContext;
using keyring::KeyVersion;
using keyring::Presented;
using keyring::SealedRecord;
using keyring::WrappedKey;

namespace {

// Checking a seal costs the token an HMAC: records that passed are remembered, by every byte of
// them.
constexpr std::size_t kKnownRecordsMax = 4096;

template <class T>
std::vector<Result<T>> all_fail(std::size_t count, const Error& error) {
  std::vector<Result<T>> results;
  results.reserve(count);
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
  return results;
}

// How long a key may take to be handed over once the time for its call is over: it was unwrapped in
// that time, and giving up would leave open whether the worker has it. The caller's own time ends
// later than the call's (VaultClient).
constexpr std::chrono::milliseconds kHandOverMax{200};

Deadline hand_over_by(Deadline deadline) {
  return Deadline(deadline.at() + kHandOverMax);
}

// Does the keys of a call in turn, none of them after the deadline, and after the first none that
// would end after it by what the longest so far took. One at a time, so that what is wrapped or
// unwrapped is also handed over before the next one costs time.
template <class T, class Step>
std::vector<Result<T>> in_turn(std::size_t count, Deadline deadline, const Clock& clock,
                               const Step& step) {
  std::vector<Result<T>> results;
  results.reserve(count);
  auto now = clock.steady();
  auto longest = SteadyTime::duration::zero();
  while (results.size() < count && now < deadline.at() && now + longest <= deadline.at()) {
    results.push_back(step(results.size()));
    const auto begun = std::exchange(now, clock.steady());
    longest = std::max(longest, now - begun);
  }
  while (results.size() < count) {
    results.emplace_back(
        fail(Reason::kHsmTimeout, "the time for the call was over before this key's turn"));
  }
  return results;
}

std::optional<Error> too_many(std::size_t count) {
  if (count <= keyring::KeyVault::kKeysPerCallMax) return std::nullopt;
  return Error(Reason::kLimitsExceeded, std::to_string(count) + " keys in one call, at most " +
                                            std::to_string(keyring::KeyVault::kKeysPerCallMax));
}

Error wrong_length(Reason reason) {
  return {reason, "the key has another length than its context says"};
}

bool is_xts(const KeyContext& context) {
  return context.cipher.find("-xts-") != std::string::npos;
}

}  // namespace

class RuledVault::Core {
 public:
  Core(const Parts& given, const UseLimits& use_limits) : parts(given), limits(use_limits) {}

  Result<SealedRecord> create(const keyring::CmkParameters& parameters);
  Result<SealedRecord> change(ByteView current, keyring::CmkChange change);

  // The record in `sealed`, after its root key and seal were checked, and counted as used.
  Result<CmkRecord> open_and_present(ByteView sealed);

  // Wraps `plain` under the current version, bound to `context`. Its use was taken before.
  Result<WrappedKey> encrypt(const CmkRecord& record, std::span<const std::byte> plain,
                             const KeyContext& context);
  Result<SecretBytes> decrypt(const CmkRecord& record, const Presented& key, PurposeRule rule);

  // Counts `count` more wraps of the current version. kKeyExhausted: the record has not leased
  // them.
  Result<void> take_uses(const CmkRecord& record, std::size_t count);
  // Of those, wraps that the time did not suffice for: nothing was done for them.
  void give_back_uses(const CmkRecord& record, std::size_t count);

  // A volume's DEK as its context asks for it.
  Result<SecretBytes> draw_dek(const KeyContext& context);

  const Parts parts;
  const UseLimits limits;

 private:
  Result<CmkRecord> open(ByteView sealed);
  Result<SealedRecord> seal(const CmkRecord& record);
  Result<void> require_mac(const WrappedKey& blob, ByteView aad);

  std::mutex mutex_;  // Guards what follows.
  std::map<Bytes, CmkRecord> known_records_;
  // Wraps made since this process started. It may be fewer than were ever made, never more than
  // were leased: who keeps the store counts a lease as used up when it starts.
  std::map<std::pair<CmkId, std::uint32_t>, std::uint64_t> uses_;
};

Result<CmkRecord> RuledVault::Core::open(ByteView sealed) {
  const auto identity = parts.token.identity();
  if (!identity) return tl::unexpected(identity.error());
  Bytes key(sealed.begin(), sealed.end());
  {
    const std::lock_guard lock(mutex_);
    const auto known = known_records_.find(key);
    if (known != known_records_.end() && known->second.root_id == identity->root_id) {
      return known->second;
    }
  }
  auto record = CmkRecord::decode(sealed);
  if (!record) return record;
  if (record->root_id != identity->root_id) {
    return fail(Reason::kRecordInvalid,
                "record of key " + record->id.str() + " is of another root key");
  }
  const auto mac =
      parts.token.mac(MacKey::kSeal, sealed.first(sealed.size() - CmkRecord::kSealBytes));
  if (!mac) return tl::unexpected(mac.error());
  if (!equal_constant_time(*mac, sealed.last(CmkRecord::kSealBytes))) {
    return fail(Reason::kRecordInvalid,
                "record of key " + record->id.str() + ": its seal does not hold");
  }
  const std::lock_guard lock(mutex_);
  if (known_records_.size() >= kKnownRecordsMax) known_records_.clear();
  known_records_.insert_or_assign(std::move(key), *record);
  return record;
}

Result<CmkRecord> RuledVault::Core::open_and_present(ByteView sealed) {
  auto record = open(sealed);
  if (!record) return record;
  const auto counted = parts.floors.present(
      record->id, {record->revision, record->current().number}, crypto::sha256(sealed));
  if (!counted) return pass(counted.error(), "use key " + record->id.str());
  return record;
}

Result<SealedRecord> RuledVault::Core::seal(const CmkRecord& record) {
  SealedRecord sealed = record.encode();
  if (sealed.size() > CmkRecord::kEncodedBytesMax) {
    return fail(Reason::kLimitsExceeded, "record of key " + record.id.str() + " is full: it has " +
                                             std::to_string(record.versions.size()) + " versions");
  }
  const auto mac = parts.token.mac(MacKey::kSeal, sealed);
  if (!mac) return tl::unexpected(mac.error());
  sealed.insert(sealed.end(), mac->begin(), mac->end());
  const auto again = CmkRecord::decode(sealed);
  if (!again || *again != record) {
    return fail(Reason::kInternal, "record of key " + record.id.str() + " does not read back");
  }
  return sealed;
}

Result<SealedRecord> RuledVault::Core::create(const keyring::CmkParameters& parameters) {
  const auto identity = parts.token.identity();
  if (!identity) return tl::unexpected(identity.error());
  const auto id = parameters.id ? Result<CmkId>(*parameters.id) : CmkId::random();
  if (!id) return tl::unexpected(id.error());
  auto record = first_record(parameters, *id, identity->root_id, identity->kind, identity->profile,
                             parts.clock.wall(), limits);
  if (!record) return tl::unexpected(record.error());
  const auto floor = parts.floors.floor_of(*id);
  if (!floor) return tl::unexpected(floor.error());
  if (floor->revision != 0)
    return fail(Reason::kInvalidArgs, "key " + id->str() + " exists already");
  auto material = parts.token.generate(*id, 1, parameters.algorithm, parameters.protection);
  if (!material) return pass(material.error(), "generate key " + id->str());
  record->versions.back().material = std::move(*material);
  return seal(*record);
}

Result<SealedRecord> RuledVault::Core::change(ByteView current, keyring::CmkChange change) {
  // A record that is adopted comes from a volume's token and may be older than the newest one used.
  const auto record =
      change == keyring::CmkChange::kAdopt ? open(current) : open_and_present(current);
  if (!record) return tl::unexpected(record.error());
  const auto identity = parts.token.identity();
  if (!identity) return tl::unexpected(identity.error());
  const auto floor = parts.floors.floor_of(record->id);
  if (!floor) return tl::unexpected(floor.error());
  auto next = next_record(*record, change, identity->profile, *floor, parts.clock.wall(), limits);
  if (!next) return tl::unexpected(next.error());
  KeyVersion& version = next->versions.back();
  if (version.material.empty() && change == keyring::CmkChange::kRotate) {
    auto material =
        parts.token.generate(next->id, version.number, next->algorithm, next->protection);
    if (!material) return pass(material.error(), "generate key " + next->id.str());
    version.material = std::move(*material);
  }
  return seal(*next);
}

Result<void> RuledVault::Core::take_uses(const CmkRecord& record, std::size_t count) {
  const KeyVersion& version = record.current();
  const std::lock_guard lock(mutex_);
  std::uint64_t& used = uses_[{record.id, version.number}];
  if (used + count > version.wraps_leased) {
    return fail(Reason::kKeyExhausted, "key " + record.id.str() + " version " +
                                           std::to_string(version.number) + " has leased " +
                                           std::to_string(version.wraps_leased) + " uses");
  }
  used += count;
  return {};
}

void RuledVault::Core::give_back_uses(const CmkRecord& record, std::size_t count) {
  const std::lock_guard lock(mutex_);
  uses_[{record.id, record.current().number}] -= count;
}

Result<WrappedKey> RuledVault::Core::encrypt(const CmkRecord& record,
                                             std::span<const std::byte> plain,
                                             const KeyContext& context) {
  WrappedKey blob{record.current().profile, record.id, record.current().number, {}, {}, {}};
  const Bytes aad = wrap_aad(blob, context);
  const EncryptJob job{plain, aad};
  auto made = parts.token.encrypt({record, record.current()}, {&job, 1});
  if (made.size() != 1) return fail(Reason::kInternal, "the token gave no answer");
  if (!made.front()) return pass(made.front().error(), "wrap under key " + record.id.str());
  blob.nonce = std::move(made.front()->nonce);
  blob.ciphertext = std::move(made.front()->bytes);
  blob.tag = std::move(made.front()->tag);
  if (blob.profile == KekProfile::kAesGcm) return blob;
  const auto mac =
      parts.token.mac(MacKey::kWrap, wrap_mac_message(aad, blob.nonce, blob.ciphertext));
  if (!mac) return tl::unexpected(mac.error());
  blob.tag.assign(mac->begin(), mac->end());
  return blob;
}

Result<void> RuledVault::Core::require_mac(const WrappedKey& blob, ByteView aad) {
  if (blob.profile == KekProfile::kAesGcm) return {};
  const auto mac =
      parts.token.mac(MacKey::kWrap, wrap_mac_message(aad, blob.nonce, blob.ciphertext));
  if (!mac) return tl::unexpected(mac.error());
  if (equal_constant_time(*mac, blob.tag)) return {};
  return fail(Reason::kBlobInvalid, "the wrapped key does not authenticate with its context");
}

Result<SecretBytes> RuledVault::Core::decrypt(const CmkRecord& record, const Presented& key,
                                              PurposeRule rule) {
  const auto& [blob, context] = key;
  if (auto allowed = require_context(context, rule); !allowed) {
    return tl::unexpected(allowed.error());
  }
  const auto version = version_of(record, blob);
  if (!version) return tl::unexpected(version.error());
  const Bytes aad = wrap_aad(blob, context);
  // Checked before the token decrypts: these mechanisms bind nothing themselves.
  if (auto bound = require_mac(blob, aad); !bound) return tl::unexpected(bound.error());

  const bool is_gcm = blob.profile == KekProfile::kAesGcm;
  const DecryptJob job{blob.nonce, blob.ciphertext, is_gcm ? ByteView(blob.tag) : ByteView(), aad};
  auto plain = parts.token.decrypt({record, **version}, {&job, 1});
  if (plain.size() != 1) return fail(Reason::kInternal, "the token gave no answer");
  auto& one = plain.front();
  if (one && one->size() != context.key_bytes)
    return tl::unexpected(wrong_length(Reason::kBlobInvalid));
  return std::move(one);
}

Result<SecretBytes> RuledVault::Core::draw_dek(const KeyContext& context) {
  // Equal halves come with a probability of 2^-256: a second draw that has them means a broken
  // source.
  for (int attempt = 0; attempt < 2; ++attempt) {
    auto dek = parts.token.random(context.key_bytes);
    if (!dek || !is_xts(context) || xts_halves_differ(dek->reveal())) return dek;
  }
  return fail(Reason::kHsmFailed, "the token's random generator repeats itself");
}

RuledVault::RuledVault(const Parts& parts, const UseLimits& limits)
    : core_(std::make_unique<Core>(parts, limits)) {}
RuledVault::~RuledVault() = default;

Result<SealedRecord> RuledVault::create_cmk(const keyring::CmkParameters& parameters) {
  return core_->create(parameters);
}

Result<SealedRecord> RuledVault::change_cmk(ByteView current, keyring::CmkChange change) {
  return core_->change(current, change);
}

Result<void> RuledVault::present(ByteView record) {
  const auto opened = core_->open_and_present(record);
  if (!opened) return tl::unexpected(opened.error());
  return {};
}

std::vector<Result<WrappedKey>> RuledVault::wrap(ByteView record, std::span<const Plain> keys,
                                                 Deadline deadline) {
  const std::size_t count = keys.size();
  if (const auto error = too_many(count)) return all_fail<WrappedKey>(count, *error);
  const auto opened = core_->open_and_present(record);
  if (!opened) return all_fail<WrappedKey>(count, opened.error());
  if (auto may = require_may_wrap(*opened); !may) return all_fail<WrappedKey>(count, may.error());
  // Counted before: a wrap that fails half-way may have used its nonce.
  if (auto taken = core_->take_uses(*opened, count); !taken)
    return all_fail<WrappedKey>(count, taken.error());

  std::size_t begun = 0;
  auto results = in_turn<WrappedKey>(
      count, deadline, core_->parts.clock, [&](std::size_t i) -> Result<WrappedKey> {
        ++begun;
        const auto& [key, context] = keys[i];
        if (auto allowed = require_context(context, PurposeRule::kNoVolume); !allowed)
          return tl::unexpected(allowed.error());
        if (key.size() != context.key_bytes)
          return tl::unexpected(wrong_length(Reason::kInvalidArgs));
        return core_->encrypt(*opened, key.reveal(), context);
      });
  core_->give_back_uses(*opened, count - begun);
  return results;
}

std::vector<Result<SecretBytes>> RuledVault::unwrap(ByteView record,
                                                    std::span<const Presented> keys,
                                                    Deadline deadline) {
  const std::size_t count = keys.size();
  if (const auto error = too_many(count)) return all_fail<SecretBytes>(count, *error);
  const auto opened = core_->open_and_present(record);
  if (!opened) return all_fail<SecretBytes>(count, opened.error());
  if (auto may = require_may_unwrap(*opened); !may)
    return all_fail<SecretBytes>(count, may.error());
  return in_turn<SecretBytes>(count, deadline, core_->parts.clock, [&](std::size_t i) {
    return core_->decrypt(*opened, keys[i], PurposeRule::kNoVolume);
  });
}

std::vector<Result<WrappedKey>> RuledVault::make_deks(ByteView record,
                                                      std::span<const KeyContext> contexts,
                                                      const keyring::Ticket& ticket,
                                                      std::uint32_t first_index,
                                                      Deadline deadline) {
  const std::size_t count = contexts.size();
  if (const auto error = too_many(count)) return all_fail<WrappedKey>(count, *error);
  const auto opened = core_->open_and_present(record);
  if (!opened) return all_fail<WrappedKey>(count, opened.error());
  if (auto may = require_may_wrap(*opened); !may) return all_fail<WrappedKey>(count, may.error());
  if (auto taken = core_->take_uses(*opened, count); !taken)
    return all_fail<WrappedKey>(count, taken.error());

  std::size_t begun = 0;
  auto results = in_turn<WrappedKey>(
      count, deadline, core_->parts.clock, [&](std::size_t i) -> Result<WrappedKey> {
        ++begun;
        if (auto allowed = require_context(contexts[i], PurposeRule::kVolumeOnly); !allowed)
          return tl::unexpected(allowed.error());
        const auto dek = core_->draw_dek(contexts[i]);
        if (!dek) return tl::unexpected(dek.error());
        auto blob = core_->encrypt(*opened, dek->reveal(), contexts[i]);
        if (!blob) return blob;
        // Delivered last: the worker is given only keys whose wraps exist.
        const auto taken =
            core_->parts.sink.deliver(ticket, first_index + static_cast<std::uint32_t>(i),
                                      contexts[i].profile_digest, *dek, hand_over_by(deadline));
        if (!taken) return pass(taken.error(), "deliver a new key");
        return blob;
      });
  core_->give_back_uses(*opened, count - begun);
  return results;
}

std::vector<Result<void>> RuledVault::deliver(ByteView record, std::span<const Presented> keys,
                                              const keyring::Ticket& ticket,
                                              std::span<const std::uint32_t> indexes,
                                              Deadline deadline) {
  const std::size_t count = keys.size();
  if (const auto error = too_many(count)) return all_fail<void>(count, *error);
  if (indexes.size() != count) {
    return all_fail<void>(count, Error(Reason::kInvalidArgs, "deliver: one index per key"));
  }
  const auto opened = core_->open_and_present(record);
  if (!opened) return all_fail<void>(count, opened.error());
  if (auto may = require_may_unwrap(*opened); !may) return all_fail<void>(count, may.error());

  return in_turn<void>(count, deadline, core_->parts.clock, [&](std::size_t i) -> Result<void> {
    const auto dek = core_->decrypt(*opened, keys[i], PurposeRule::kVolumeOnly);
    if (!dek) return tl::unexpected(dek.error());
    return core_->parts.sink.deliver(ticket, indexes[i], keys[i].context.profile_digest, *dek,
                                     hand_over_by(deadline));
  });
}

Result<SecretBytes> RuledVault::random(std::size_t size_bytes) {
  return core_->parts.token.random(size_bytes);
}

keyring::VaultHealth RuledVault::health() {
  return core_->parts.token.health();
}

}  // namespace coffer::hsm

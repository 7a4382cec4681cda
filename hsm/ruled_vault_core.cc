// SPDX-License-Identifier: Apache-2.0
#include "hsm/ruled_vault_core.h"

#include <algorithm>

#include "core/crypto/digest.h"
#include "hsm/key_commitment.h"

namespace coffer::hsm {
namespace {

// Checking a seal costs the token an HMAC: records that passed are remembered, by every byte of
// them.
constexpr std::size_t kKnownRecordsMax = 4096;

// What a record that rotates leaves free: a change of state writes up to three times of 8 bytes.
constexpr std::size_t kHeadroomBytes = 64;

// What a token gave for so many jobs; errors when it is not one answer for each.
template <class T>
std::vector<Result<T>> one_per_job(std::vector<Result<T>> results, std::size_t count) {
  if (results.size() == count) return results;
  results.clear();
  for (std::size_t i = 0; i < count; ++i) {
    results.emplace_back(fail(Reason::kInternal, "the token gave not one answer for each key"));
  }
  return results;
}

bool is_xts(const KeyContext& context) {
  return context.cipher.find("-xts-") != std::string::npos;
}

}  // namespace

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
  const auto counted = parts.floors.present(*record, crypto::sha256(sealed));
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

Result<void> RuledVault::Core::make_material(CmkRecord& record) {
  KeyVersion& version = record.versions.back();
  const keyring::KeySupport kind{record.algorithm, record.usage, record.protection};
  auto made = record.protection == keyring::Protection::kRooted
                  ? rooted.generate(record.id, version.number, kind)
                  : parts.token.generate(record.id, version.number, kind);
  if (!made) return pass(made.error(), "generate key " + record.id.str());
  version.material = std::move(made->material);
  version.public_key = std::move(made->public_key);
  return {};
}

Result<keyring::Protection> RuledVault::Core::choose_protection(
    const keyring::CmkParameters& parameters) {
  using keyring::Protection;
  const auto no = [](const std::string& what) {
    return fail(Reason::kUnsupported, "this token has no " + what);
  };
  // What no token has is the rules' to refuse.
  const auto& asked = parameters.protection;
  if (!keyring::fits(parameters.algorithm, parameters.usage)) return Protection::kWrapped;
  const auto keeps = parts.token.keeps_rooted();
  if (!keeps) return tl::unexpected(keeps.error());
  const bool imported = parameters.origin == keyring::KeyOrigin::kImported;
  // Material comes in under a key of its own, which is rooted.
  if (imported && !*keeps) return no("imported keys");
  const auto own = parts.token.supports();
  if (!own) return tl::unexpected(own.error());
  for (const auto protection : {Protection::kWrapped, Protection::kRooted, Protection::kResident}) {
    // A resident key takes a place in the token: nobody gets one without asking.
    if (asked.value_or(protection) != protection) continue;
    if (!asked && protection == Protection::kResident) continue;
    const keyring::KeySupport kind{parameters.algorithm, parameters.usage, protection};
    // No private key is taken into a token.
    const bool comes_in = parts.token.takes_keys_in() && keyring::is_symmetric(kind.algorithm);
    const bool by_token = std::ranges::find(*own, kind) != own->end() && (!imported || comes_in);
    const bool has = protection == Protection::kRooted ? *keeps : by_token;
    if (has) return protection;
  }
  return no(std::string(imported ? "imported " : "") +
            (asked ? std::string(protection_name(*asked)) + " keys of " : "keys of ") +
            std::string(key_algorithm_name(parameters.algorithm)) + " for " +
            std::string(key_usage_name(parameters.usage)));
}

Result<SealedRecord> RuledVault::Core::create(const keyring::CmkParameters& parameters) {
  const auto identity = parts.token.identity();
  if (!identity) return tl::unexpected(identity.error());
  const auto id =
      parameters.id ? Result<CmkId>(*parameters.id) : CmkId::made_at(parts.clock.wall());
  if (!id) return tl::unexpected(id.error());
  const auto protection = choose_protection(parameters);
  if (!protection) return tl::unexpected(protection.error());
  keyring::CmkParameters chosen = parameters;
  chosen.protection = *protection;
  const auto profile =
      profile_for({chosen.algorithm, chosen.usage, *protection}, identity->profile);
  auto record = first_record(chosen, *id, identity->root_id, identity->kind, profile,
                             parts.clock.wall(), limits);
  if (!record) return tl::unexpected(record.error());
  const auto floor = parts.floors.floor_of(*id);
  if (!floor) return tl::unexpected(floor.error());
  if (floor->revision != 0)
    return fail(Reason::kInvalidArgs, "key " + id->str() + " exists already");
  if (parameters.origin == keyring::KeyOrigin::kGenerated) {
    if (auto made = make_material(*record); !made) return tl::unexpected(made.error());
  }
  return seal(*record);
}

Result<SealedRecord> RuledVault::Core::change(ByteView current, const keyring::CmkChange& change) {
  // A record that is adopted comes from a volume's token and may be older than the newest one used.
  const auto record =
      change.kind == keyring::CmkChange::kAdopt ? open(current) : open_and_present(current);
  if (!record) return tl::unexpected(record.error());
  const auto identity = parts.token.identity();
  if (!identity) return tl::unexpected(identity.error());
  const auto floor = parts.floors.floor_of(record->id);
  if (!floor) return tl::unexpected(floor.error());
  const auto profile =
      profile_for({record->algorithm, record->usage, record->protection}, identity->profile);
  auto next = next_record(*record, change, profile, *floor, parts.clock.wall(), limits);
  if (!next) return tl::unexpected(next.error());
  if (change.kind != keyring::CmkChange::kRotate) return seal(*next);
  if (auto made = make_material(*next); !made) return tl::unexpected(made.error());
  // No version takes the room that it takes to disable and delete the key.
  if (next->encode().size() + kHeadroomBytes <= CmkRecord::kEncodedBytesMax) return seal(*next);
  if (next->protection == keyring::Protection::kResident) {
    static_cast<void>(parts.token.destroy(next->id, next->current().number));
  }
  return fail(Reason::kLimitsExceeded, "rotate key " + next->id.str() + ": its record is full, " +
                                           std::to_string(next->versions.size() - 1) + " versions");
}

Result<void> RuledVault::Core::take_uses(const CmkRecord& record, std::size_t count) {
  const KeyVersion& version = record.current();
  const std::lock_guard lock(mutex_);
  const std::pair name{record.id, version.number};
  // The versions before it wrap no more.
  uses_.erase(uses_.lower_bound({record.id, 0}), uses_.lower_bound(name));
  if (uses_.size() >= limits.counted_max && !uses_.empty() && !uses_.contains(name)) {
    uses_.erase(
        std::ranges::min_element(uses_, {}, [](const auto& entry) { return entry.second; }));
  }
  std::uint64_t& used = uses_[name];
  if (used + count > version.wraps_leased) {
    return fail(Reason::kKeyExhausted, "key " + record.id.str() + " version " +
                                           std::to_string(version.number) + " has leased " +
                                           std::to_string(version.wraps_leased) + " uses");
  }
  used += count;
  return {};
}

Result<CmkRecord> RuledVault::Core::open_to_wrap(ByteView sealed, std::size_t count) {
  auto record = open_and_present(sealed);
  if (!record) return record;
  if (auto may = require_may_wrap(*record, parts.clock.wall()); !may) {
    return tl::unexpected(may.error());
  }
  if (auto taken = take_uses(*record, count); !taken) return tl::unexpected(taken.error());
  return record;
}

Result<CmkRecord> RuledVault::Core::open_to_unwrap(ByteView sealed) {
  auto record = open_and_present(sealed);
  if (!record) return record;
  if (auto may = require_may_unwrap(*record, parts.clock.wall()); !may) {
    return tl::unexpected(may.error());
  }
  return record;
}

Result<CmkRecord> RuledVault::Core::open_to_use(ByteView sealed, keyring::KeyUsage usage) {
  auto record = open_and_present(sealed);
  if (!record) return record;
  if (auto may = require_may_use(*record, usage, parts.clock.wall()); !may)
    return tl::unexpected(may.error());
  return record;
}

void RuledVault::Core::give_back_uses(const CmkRecord& record, std::size_t count) {
  const std::lock_guard lock(mutex_);
  // Of a version that was rotated meanwhile nothing is counted any more, or its count began anew.
  const auto found = uses_.find({record.id, record.current().number});
  if (found != uses_.end()) found->second -= std::min<std::uint64_t>(found->second, count);
}

Result<RuledVault::Core::Wrapping> RuledVault::Core::begin_wrap(const CmkRecord& record,
                                                                std::span<const std::byte> plain,
                                                                const KeyContext& context) {
  // Whatever the profile: the HMAC of those without GCM is by one key for all CMKs of a token.
  auto text = with_commitment(plain);
  if (!text) return tl::unexpected(text.error());
  const KeyVersion& version = record.current();
  Wrapping wrapping{{version.profile, record.id, version.number, {}, {}, {}}, {}, std::move(*text)};
  wrapping.aad = wrap_aad(wrapping.blob, context);
  return wrapping;
}

Result<WrappedKey> RuledVault::Core::finish_wrap(Wrapping wrapping, Result<Ciphertext> made) {
  auto& blob = wrapping.blob;
  if (!made) return pass(made.error(), "wrap under key " + blob.cmk.str());
  blob.nonce = std::move(made->nonce);
  blob.ciphertext = std::move(made->bytes);
  blob.tag = std::move(made->tag);
  if (is_gcm(blob.profile)) return std::move(blob);
  const auto mac =
      parts.token.mac(MacKey::kWrap, wrap_mac_message(wrapping.aad, blob.nonce, blob.ciphertext));
  if (!mac) return tl::unexpected(mac.error());
  blob.tag.assign(mac->begin(), mac->end());
  return std::move(blob);
}

Result<WrappedKey> RuledVault::Core::encrypt(const CmkRecord& record,
                                             std::span<const std::byte> plain,
                                             const KeyContext& context) {
  auto wrapping = begin_wrap(record, plain, context);
  if (!wrapping) return tl::unexpected(wrapping.error());
  const EncryptJob job = wrapping->job();
  auto made = run({record, record.current()}, {&job, 1});
  return finish_wrap(std::move(*wrapping), std::move(made.front()));
}

std::vector<Result<WrappedKey>> RuledVault::Core::encrypt_some(
    const CmkRecord& record, std::span<const keyring::KeyVault::Plain> keys) {
  std::vector<Result<WrappedKey>> results(
      keys.size(), tl::unexpected(Error(Reason::kInternal, "the key was not wrapped")));
  std::vector<std::size_t> places;  // Of those that the token is asked for.
  std::vector<Wrapping> begun;
  begun.reserve(keys.size());  // The jobs point into it.
  std::vector<EncryptJob> jobs;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto& [key, context] = keys[i];
    if (auto allowed = require_context(context, PurposeRule::kNoVolume); !allowed) {
      results[i] = tl::unexpected(allowed.error());
    } else if (key.size() != context.key_bytes) {
      results[i] = tl::unexpected(wrong_length(Reason::kInvalidArgs));
    } else if (auto wrapping = begin_wrap(record, key.reveal(), context); !wrapping) {
      results[i] = tl::unexpected(wrapping.error());
    } else {
      places.push_back(i);
      begun.push_back(std::move(*wrapping));
      jobs.push_back(begun.back().job());
    }
  }
  auto made = run({record, record.current()}, jobs);
  for (std::size_t k = 0; k < places.size(); ++k) {
    results[places[k]] = finish_wrap(std::move(begun[k]), std::move(made[k]));
  }
  return results;
}

Result<void> RuledVault::Core::require_mac(const WrappedKey& blob, ByteView aad) {
  if (is_gcm(blob.profile)) return {};
  const auto mac =
      parts.token.mac(MacKey::kWrap, wrap_mac_message(aad, blob.nonce, blob.ciphertext));
  if (!mac) return tl::unexpected(mac.error());
  if (equal_constant_time(*mac, blob.tag)) return {};
  return fail(Reason::kBlobInvalid, "the wrapped key does not authenticate with its context");
}

Result<RuledVault::Core::Unwrapping> RuledVault::Core::begin_unwrap(const CmkRecord& record,
                                                                    const Presented& key,
                                                                    PurposeRule rule) {
  const auto& [blob, context] = key;
  if (auto allowed = require_context(context, rule); !allowed) {
    return tl::unexpected(allowed.error());
  }
  const auto version = version_of(record, blob);
  if (!version) return tl::unexpected(version.error());
  Unwrapping unwrapping{*version, wrap_aad(blob, context)};
  // Checked before the token decrypts: these mechanisms bind nothing themselves.
  if (auto bound = require_mac(blob, unwrapping.aad); !bound) {
    return tl::unexpected(bound.error());
  }
  return unwrapping;
}

DecryptJob RuledVault::Core::job_of(const Presented& key, const Unwrapping& unwrapping) {
  const auto& blob = key.blob;
  return {blob.nonce, blob.ciphertext, is_gcm(blob.profile) ? ByteView(blob.tag) : ByteView(),
          unwrapping.aad};
}

Result<SecretBytes> RuledVault::Core::finish_unwrap(const Presented& key,
                                                    Result<SecretBytes> plain) {
  if (plain && !take_commitment(*plain)) {
    return fail(Reason::kBlobInvalid, "the wrapped key was not made under version " +
                                          std::to_string(key.blob.cmk_version) + " of key " +
                                          key.blob.cmk.str() + ": it does not commit to it");
  }
  if (plain && plain->size() != key.context.key_bytes)
    return tl::unexpected(wrong_length(Reason::kBlobInvalid));
  return plain;
}

Result<SecretBytes> RuledVault::Core::decrypt(const CmkRecord& record, const Presented& key,
                                              PurposeRule rule) {
  const auto begun = begin_unwrap(record, key, rule);
  if (!begun) return tl::unexpected(begun.error());
  const auto job = job_of(key, *begun);
  auto plain = run({record, *begun->version}, std::span(&job, 1));
  return finish_unwrap(key, std::move(plain.front()));
}

std::vector<Result<SecretBytes>> RuledVault::Core::decrypt_some(const CmkRecord& record,
                                                                std::span<const Presented> keys) {
  std::vector<Result<SecretBytes>> results(keys.size());
  // Those of each version together: what the token is asked for at once has one key.
  std::map<const KeyVersion*, std::vector<std::size_t>> places;
  std::vector<Unwrapping> begun(keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    auto one = begin_unwrap(record, keys[i], PurposeRule::kNoVolume);
    if (!one) {
      results[i] = tl::unexpected(one.error());
      continue;
    }
    begun[i] = std::move(*one);
    places[begun[i].version].push_back(i);
  }
  for (const auto& [version, mine] : places) {
    std::vector<DecryptJob> jobs;
    jobs.reserve(mine.size());
    for (const auto i : mine) jobs.push_back(job_of(keys[i], begun[i]));
    auto plain = run({record, *version}, jobs);
    for (std::size_t k = 0; k < mine.size(); ++k) {
      results[mine[k]] = finish_unwrap(keys[mine[k]], std::move(plain[k]));
    }
  }
  return results;
}

class RuledVault::Core::GroupTurn {
 public:
  GroupTurn(Core& core, std::size_t count) : core_(count > 1 ? &core : nullptr) {
    if (core_ == nullptr) return;
    std::unique_lock lock(core_->turn_mutex_);
    const bool mine =
        core_->turn_over_.wait_for(lock, kGroupTimeMax, [this] { return !core_->turn_taken_; });
    if (mine) {
      core_->turn_taken_ = true;
    } else {
      core_ = nullptr;
    }
  }
  ~GroupTurn() {
    if (core_ == nullptr) return;
    {
      const std::lock_guard lock(core_->turn_mutex_);
      core_->turn_taken_ = false;
    }
    core_->turn_over_.notify_one();
  }
  GroupTurn(const GroupTurn&) = delete;
  GroupTurn& operator=(const GroupTurn&) = delete;

 private:
  Core* core_;  // Null: it has no turn to give back.
};

std::vector<Result<Ciphertext>> RuledVault::Core::run(const TokenKey& key,
                                                      std::span<const EncryptJob> jobs) {
  std::vector<Result<Ciphertext>> made;
  if (key.record.protection == keyring::Protection::kRooted) {
    made.reserve(jobs.size());
    for (const auto& job : jobs) made.push_back(rooted.encrypt(key, job));
  } else {
    const GroupTurn turn(*this, jobs.size());
    made = parts.token.encrypt(key, jobs);
  }
  return one_per_job(std::move(made), jobs.size());
}

std::vector<Result<SecretBytes>> RuledVault::Core::run(const TokenKey& key,
                                                       std::span<const DecryptJob> jobs) {
  std::vector<Result<SecretBytes>> plain;
  if (key.record.protection == keyring::Protection::kRooted) {
    plain.reserve(jobs.size());
    for (const auto& job : jobs) plain.push_back(rooted.decrypt(key, job));
  } else {
    const GroupTurn turn(*this, jobs.size());
    plain = parts.token.decrypt(key, jobs);
  }
  return one_per_job(std::move(plain), jobs.size());
}

Result<Bytes> RuledVault::Core::sign(const CmkRecord& record, keyring::SignScheme scheme,
                                     ByteView digest) {
  const TokenKey key{record, record.current()};
  if (record.protection == keyring::Protection::kRooted) return rooted.sign(key, scheme, digest);
  return parts.token.sign(key, scheme, digest);
}

Result<SecretBytes> RuledVault::Core::decrypt_asymmetric(const CmkRecord& record,
                                                         keyring::DecryptScheme scheme,
                                                         ByteView ciphertext) {
  const TokenKey key{record, record.current()};
  if (record.protection == keyring::Protection::kRooted) {
    return rooted.decrypt_asymmetric(key, scheme, ciphertext);
  }
  return parts.token.decrypt_asymmetric(key, scheme, ciphertext);
}

Result<void> RuledVault::Core::clear_gone(const CmkRecord& record) {
  const auto is_gone = [](const KeyVersion& version) { return version.material.empty(); };
  // The versions that are still there are opened again when they are used.
  if (std::ranges::any_of(record.versions, is_gone)) rooted.drop(record.id);
  if (record.protection == keyring::Protection::kRooted) return {};
  for (const KeyVersion& version : record.versions) {
    if (!is_gone(version)) continue;
    if (auto gone = parts.token.destroy(record.id, version.number); !gone) return gone;
  }
  return {};
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

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "hsm/ruled_vault.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "hsm/ruled_vault_core.h"

namespace coffer::hsm {
namespace {

template <class T>
std::vector<Result<T>> all_fail(std::size_t count, const Error& error) {
  std::vector<Result<T>> results;
  results.reserve(count);
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
  return results;
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

// The same for keys of which nothing is handed over: a token that is quick is given several at
// once, as many as it does in kGroupTimeMax at the slowest pace so far. `step` gives the results of
// `size` keys from `begin` on. Where nobody knows the pace, the first goes alone for it.
constexpr std::size_t kGroupMax = 128;

template <class T, class Step>
std::vector<Result<T>> in_groups(std::size_t count, Deadline deadline, const Clock& clock,
                                 Pace& pace, const Step& step) {
  std::vector<Result<T>> results;
  results.reserve(count);
  auto now = clock.steady();
  const auto known = pace.lately(now);
  // Of one key. What others took says how large the first group is, and no more.
  auto longest = SteadyTime::duration::zero();
  while (results.size() < count && now < deadline.at() && now + longest <= deadline.at()) {
    const bool first = results.empty();
    if (first) longest = known.value_or(longest);
    std::size_t size = first && !known ? 1 : std::min(count - results.size(), kGroupMax);
    if (longest > SteadyTime::duration::zero()) {
      const auto time =
          std::min<SteadyTime::duration>(deadline.at() - now, kGroupTimeMax) / longest;
      size = std::clamp<std::size_t>(static_cast<std::size_t>(time), 1, size);
    }
    for (auto& one : step(results.size(), size)) results.push_back(std::move(one));
    const auto begun = std::exchange(now, clock.steady());
    const auto each = (now - begun) / static_cast<SteadyTime::rep>(size);
    longest = first ? each : std::max(longest, each);
    pace.note(now, each);
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

}  // namespace

RuledVault::RuledVault(const Parts& parts, const UseLimits& limits)
    : core_(std::make_unique<Core>(parts, limits)) {}
RuledVault::~RuledVault() = default;

Result<SealedRecord> RuledVault::create_cmk(const keyring::CmkParameters& parameters) {
  return core_->create(parameters);
}

Result<SealedRecord> RuledVault::change_cmk(ByteView current, const keyring::CmkChange& change) {
  return core_->change(current, change);
}

Result<void> RuledVault::present(ByteView record) {
  const auto opened = core_->open_and_present(record);
  if (!opened) return tl::unexpected(opened.error());
  return core_->clear_gone(*opened);
}

std::vector<Result<WrappedKey>> RuledVault::wrap(ByteView record, std::span<const Plain> keys,
                                                 Deadline deadline) {
  const std::size_t count = keys.size();
  if (const auto error = too_many(count)) return all_fail<WrappedKey>(count, *error);
  const auto opened = core_->open_to_wrap(record, count);
  if (!opened) return all_fail<WrappedKey>(count, opened.error());

  std::size_t begun = 0;
  auto results =
      in_groups<WrappedKey>(count, deadline, core_->parts.clock, core_->pace_of(*opened),
                            [&](std::size_t begin, std::size_t size) {
                              begun += size;
                              return core_->encrypt_some(*opened, keys.subspan(begin, size));
                            });
  core_->give_back_uses(*opened, count - begun);
  return results;
}

std::vector<Result<SecretBytes>> RuledVault::unwrap(ByteView record,
                                                    std::span<const Presented> keys,
                                                    Deadline deadline) {
  const std::size_t count = keys.size();
  if (const auto error = too_many(count)) return all_fail<SecretBytes>(count, *error);
  const auto opened = core_->open_to_unwrap(record);
  if (!opened) return all_fail<SecretBytes>(count, opened.error());
  return in_groups<SecretBytes>(count, deadline, core_->parts.clock, core_->pace_of(*opened),
                                [&](std::size_t begin, std::size_t size) {
                                  return core_->decrypt_some(*opened, keys.subspan(begin, size));
                                });
}

std::vector<Result<WrappedKey>> RuledVault::make_deks(ByteView record,
                                                      std::span<const KeyContext> contexts,
                                                      const keyring::Ticket& ticket,
                                                      std::uint32_t first_index,
                                                      Deadline deadline) {
  const std::size_t count = contexts.size();
  if (const auto error = too_many(count)) return all_fail<WrappedKey>(count, *error);
  const auto opened = core_->open_to_wrap(record, count);
  if (!opened) return all_fail<WrappedKey>(count, opened.error());

  std::size_t begun = 0;
  auto results = in_turn<WrappedKey>(
      count, deadline, core_->parts.clock, [&](std::size_t i) -> Result<WrappedKey> {
        ++begun;
        if (auto allowed = require_context(contexts[i], PurposeRule::kVolumeOnly); !allowed)
          return tl::unexpected(allowed.error());
        if (contexts[i].shares)
          return fail(Reason::kInvalidArgs, "a share is made with its set, not by itself");
        const auto dek = core_->draw_dek(contexts[i]);
        if (!dek) return tl::unexpected(dek.error());
        auto blob = core_->encrypt(*opened, dek->reveal(), contexts[i]);
        if (!blob) return blob;
        // Delivered last: the worker is given only keys whose wraps exist.
        const auto taken =
            core_->parts.sink.deliver(ticket, first_index + static_cast<std::uint32_t>(i),
                                      label_of(contexts[i]), *dek, hand_over_by(deadline));
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
  const auto opened = core_->open_to_unwrap(record);
  if (!opened) return all_fail<void>(count, opened.error());

  return in_turn<void>(count, deadline, core_->parts.clock, [&](std::size_t i) -> Result<void> {
    const auto dek = core_->decrypt(*opened, keys[i], PurposeRule::kVolumeOnly);
    if (!dek) return tl::unexpected(dek.error());
    return core_->parts.sink.deliver(ticket, indexes[i], label_of(keys[i].context), *dek,
                                     hand_over_by(deadline));
  });
}

std::vector<Result<WrappedKey>> RuledVault::rewrap(ByteView from, ByteView to,
                                                   std::span<const keyring::Rewrapped> keys,
                                                   Deadline deadline) {
  const std::size_t count = keys.size();
  if (const auto error = too_many(count)) return all_fail<WrappedKey>(count, *error);
  const auto source = core_->open_to_unwrap(from);
  if (!source) return all_fail<WrappedKey>(count, source.error());
  const auto target = core_->open_to_wrap(to, count);
  if (!target) return all_fail<WrappedKey>(count, target.error());

  std::size_t begun = 0;
  auto results = in_turn<WrappedKey>(
      count, deadline, core_->parts.clock, [&](std::size_t i) -> Result<WrappedKey> {
        ++begun;
        const auto& [presented, context] = keys[i];
        const bool of_volume = presented.context.purpose == keyring::Purpose::kVolumeKey ||
                               context.purpose == keyring::Purpose::kVolumeKey;
        if (of_volume && context != presented.context) {
          return fail(Reason::kWrongPurpose, "a volume key keeps its context when it is rewrapped");
        }
        // Else one key would come to give what several are to give together.
        if (context.shares && source->id != target->id) {
          return fail(Reason::kWrongPurpose, "a share of a volume's key stays under its own key");
        }
        const auto rule = of_volume ? PurposeRule::kVolumeOnly : PurposeRule::kNoVolume;
        if (auto allowed = require_context(context, rule); !allowed)
          return tl::unexpected(allowed.error());
        const auto plain = core_->decrypt(*source, presented, rule);
        if (!plain) return tl::unexpected(plain.error());
        if (plain->size() != context.key_bytes)
          return tl::unexpected(wrong_length(Reason::kInvalidArgs));
        return core_->encrypt(*target, plain->reveal(), context);
      });
  core_->give_back_uses(*target, count - begun);
  return results;
}

std::vector<Result<Bytes>> RuledVault::sign(ByteView record, keyring::SignScheme scheme,
                                            std::span<const Bytes> digests, Deadline deadline) {
  const std::size_t count = digests.size();
  if (const auto error = too_many(count)) return all_fail<Bytes>(count, *error);
  const auto opened = core_->open_to_use(record, keyring::KeyUsage::kSignVerify);
  if (!opened) return all_fail<Bytes>(count, opened.error());
  return in_turn<Bytes>(count, deadline, core_->parts.clock,
                        [&](std::size_t i) { return core_->sign(*opened, scheme, digests[i]); });
}

std::vector<Result<SecretBytes>> RuledVault::decrypt(ByteView record, keyring::DecryptScheme scheme,
                                                     std::span<const Bytes> ciphertexts,
                                                     Deadline deadline) {
  const std::size_t count = ciphertexts.size();
  if (const auto error = too_many(count)) return all_fail<SecretBytes>(count, *error);
  const auto opened = core_->open_to_use(record, keyring::KeyUsage::kAsymmetricDecrypt);
  if (!opened) return all_fail<SecretBytes>(count, opened.error());
  return in_turn<SecretBytes>(count, deadline, core_->parts.clock, [&](std::size_t i) {
    return core_->decrypt_asymmetric(*opened, scheme, ciphertexts[i]);
  });
}

Result<keyring::ImportParameters> RuledVault::prepare_import(ByteView current,
                                                             keyring::ImportWrapping wrapping) {
  return core_->prepare_import(current, wrapping);
}

Result<SealedRecord> RuledVault::import_material(ByteView current,
                                                 const keyring::ImportMaterial& material) {
  return core_->import_material(current, material);
}

Result<SecretBytes> RuledVault::random(std::size_t size_bytes) {
  return core_->parts.token.random(size_bytes);
}

keyring::VaultHealth RuledVault::health() {
  auto health = core_->parts.token.health();
  if (health.state != keyring::VaultState::kUp) return health;
  const auto own = core_->parts.token.supports();
  if (own) health.supports = *own;
  if (const auto keeps = core_->parts.token.keeps_rooted(); keeps && *keeps) {
    // A token that wraps nothing itself: its keys are used here.
    if (own && own->empty()) {
      health.profile = profile_for({.protection = keyring::Protection::kRooted}, health.profile);
    }
    const auto rooted = RootedKeys::supports();
    health.supports.insert(health.supports.end(), rooted.begin(), rooted.end());
  }
  std::ranges::sort(health.supports);
  return health;
}

}  // namespace coffer::hsm

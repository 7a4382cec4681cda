// SPDX-License-Identifier: Apache-2.0
// What keys are used for: each use between an intent and its result.
#include <algorithm>
#include <iterator>
#include <utility>

#include "core/keyring/keyring_core.h"

namespace coffer::keyring {
namespace {

// The places of the keys of each CMK, in order.
template <class Key, class CmkOf>
std::map<CmkId, std::vector<std::size_t>> by_cmk(std::span<const Key> keys, CmkOf cmk_of) {
  std::map<CmkId, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < keys.size(); ++i) groups[cmk_of(keys[i])].push_back(i);
  return groups;
}

// Calls `call(begin, end)` for parts of at most kKeysPerCallMax of `count`.
template <class Call>
void in_parts(std::size_t count, Call call) {
  for (std::size_t at = 0; at < count; at += KeyVault::kKeysPerCallMax) {
    call(at, std::min(count, at + KeyVault::kKeysPerCallMax));
  }
}

}  // namespace

// The lease of one key, for one call at a time; other keys' are not held up by it.
class Keyring::Core::LeaseTurn {
 public:
  static Result<LeaseTurn> wait_for(Core& core, const CmkId& id, std::optional<Deadline> deadline) {
    std::unique_lock lock(core.lease_mutex_);
    LeasePtr lease = core.lease_of(id);
    while (lease->taken) {
      if (!deadline) {
        core.lease_given_back_.wait(lock);
      } else if (core.lease_given_back_.wait_until(lock, deadline->at()) ==
                     std::cv_status::timeout &&
                 lease->taken) {
        return fail(Reason::kHsmTimeout,
                    "lease uses of key " + id.str() + ": the time was over before it was its turn");
      }
    }
    lease->taken = true;
    return LeaseTurn(core, std::move(lease));
  }
  LeaseTurn(LeaseTurn&& other) noexcept
      : core_(std::exchange(other.core_, nullptr)), lease_(std::move(other.lease_)) {}
  LeaseTurn& operator=(LeaseTurn&&) = delete;
  ~LeaseTurn() {
    if (core_ == nullptr) return;
    {
      const std::lock_guard lock(core_->lease_mutex_);
      lease_->taken = false;
    }
    core_->lease_given_back_.notify_all();
  }

  Lease& lease() const { return *lease_; }

 private:
  LeaseTurn(Core& core, LeasePtr lease) : core_(&core), lease_(std::move(lease)) {}

  Core* core_;
  LeasePtr lease_;
};

Keyring::Core::LeasePtr Keyring::Core::lease_of(const CmkId& id) {
  if (leases_.size() >= kLeasesMax && !leases_.contains(id)) {
    std::vector<std::uint64_t> times;
    times.reserve(leases_.size());
    for (const auto& [other, lease] : leases_) times.push_back(lease->used);
    const auto middle = times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2);
    std::ranges::nth_element(times, middle);
    std::erase_if(leases_, [&](const auto& entry) { return entry.second->used < *middle; });
  }
  auto& lease = leases_[id];
  if (lease == nullptr) lease = std::make_shared<Lease>();
  lease->used = ++leases_used_;
  return lease;
}

Result<void> Keyring::Core::take_uses(const CmkId& id, std::size_t count, const audit::Actor& actor,
                                      Deadline deadline) {
  std::vector<CmkRecord> changed;
  Result<void> taken;
  {
    const auto turn = LeaseTurn::wait_for(*this, id, deadline);
    if (!turn) return tl::unexpected(turn.error());
    taken = take_from(turn->lease(), id, count, actor, deadline, changed);
  }
  for (const auto& record : changed) transitions.tell(record);
  return taken;
}

Result<void> Keyring::Core::take_from(Lease& lease, const CmkId& id, std::size_t count,
                                      const audit::Actor& actor, Deadline deadline,
                                      std::vector<CmkRecord>& changed) {
  const auto stored = read_record(parts.store, id);
  if (!stored) return tl::unexpected(stored.error());
  // The vault says why a key that is not enabled, or not symmetric, does not wrap.
  if (stored->record.state != KeyState::kEnabled || !is_symmetric(stored->record.algorithm)) {
    return {};
  }
  const auto begin_version = [&lease](const KeyVersion& version, std::uint64_t left) {
    lease.version = version.number;
    lease.left = left;
  };
  const KeyVersion& current = stored->record.current();
  if (lease.version != current.number) begin_version(current, 0);
  std::uint64_t leased = current.wraps_leased;
  while (lease.left < count) {
    const auto more = transitions.change_quietly(id, CmkChange::kLease, actor, deadline);
    if (!more) return pass(more.error(), "lease uses of key " + id.str());
    changed.push_back(*more);
    const KeyVersion& now = more->current();
    // Rotated in between: the new version's first lease is as unused as this one.
    if (now.number != lease.version) {
      begin_version(now, 0);
      leased = 0;
    }
    if (now.wraps_leased <= leased) {
      return fail(Reason::kKeyExhausted, "key " + id.str() + " leases no more uses");
    }
    lease.left += now.wraps_leased - leased;
    leased = now.wraps_leased;
    if (leased >= parts.rotate_at_uses) rotate_in_time(lease, *more, deadline, changed);
    leased = changed.back().current().wraps_leased;
  }
  lease.left -= count;
  return {};
}

void Keyring::Core::rotate_in_time(Lease& lease, const CmkRecord& record, Deadline deadline,
                                   std::vector<CmkRecord>& changed) {
  const std::string near = "key " + record.id.str() + " has few uses left";
  if (record.origin != KeyOrigin::kGenerated) {
    note_unrotated(record, Error(Reason::kKeyExhausted,
                                 near + ", and an imported key does not rotate: make another one"));
    return;
  }
  audit::Actor daemon;
  daemon.origin = audit::Origin::kDaemon;
  auto rotated = transitions.change_quietly(record.id, CmkChange::kRotate, daemon, deadline);
  if (!rotated) {
    const Error& cause = rotated.error();
    note_unrotated(record,
                   Error(cause.reason(), near + ", and was not rotated: " + cause.message()));
    return;
  }
  lease.version = rotated->current().number;
  lease.left = rotated->current().wraps_leased;
  changed.push_back(std::move(*rotated));
}

void Keyring::Core::note_unrotated(const CmkRecord& record, const Error& error) {
  const std::lock_guard lock(unrotated_mutex_);
  unrotated_.insert_or_assign(record.id, Unrotated{record.current().number, error});
}

std::vector<Error> Keyring::Core::unrotated() {
  const std::lock_guard lock(unrotated_mutex_);
  std::erase_if(unrotated_, [this](const auto& entry) {
    const auto stored = read_record(parts.store, entry.first);
    if (!stored) return stored.error().reason() == Reason::kNoSuchKey;
    return stored->record.state != KeyState::kEnabled ||
           stored->record.current().number != entry.second.version;
  });
  std::vector<Error> errors;
  errors.reserve(unrotated_.size());
  for (const auto& [id, entry] : unrotated_) errors.push_back(entry.error);
  return errors;
}

void Keyring::Core::note_new_version(const CmkRecord& record) {
  const auto turn = LeaseTurn::wait_for(*this, record.id, std::nullopt);
  if (!turn) return;
  const KeyVersion& current = record.current();
  Lease& lease = turn->lease();
  // A caller that was quicker has begun to count already.
  if (lease.version >= current.number) return;
  lease.version = current.number;
  lease.left = current.wraps_leased;
}

audit::Event Keyring::Core::use_event(const std::string& operation, const CmkId& id,
                                      std::size_t count, const audit::Actor& actor) {
  audit::Event event;
  event.kind = audit::Kind::kIntent;
  event.actor = actor;
  event.operation = operation;
  event.cmk = id;
  event.text = std::to_string(count) + " keys";
  return event;
}

std::vector<Result<WrappedKey>> Keyring::wrap(const CmkId& id,
                                              std::span<const KeyVault::Plain> keys,
                                              const audit::Actor& actor) {
  return core_->recorded<WrappedKey>("key.wrap", id, keys.size(), actor, [&] {
    const auto deadline = Deadline::after(kUseTimeMax, core_->parts.clock);
    std::vector<Result<WrappedKey>> results;
    in_parts(keys.size(), [&](std::size_t begin, std::size_t end) {
      const auto part = keys.subspan(begin, end - begin);
      append(results, core_->with_uses(id, part.size(), actor, deadline,
                                       [&](ByteView record, std::size_t first) {
                                         return core_->parts.vault.wrap(record, part.subspan(first),
                                                                        deadline);
                                       }));
    });
    return results;
  });
}

std::vector<Result<SecretBytes>> Keyring::unwrap(std::span<const Presented> keys,
                                                 const audit::Actor& actor) {
  if (keys.empty()) return {};
  const auto groups = by_cmk(keys, [](const Presented& key) { return key.blob.cmk; });
  std::vector<audit::Event> events;
  events.reserve(groups.size());
  for (const auto& [id, places] : groups) {
    events.push_back(core_->use_event("key.unwrap", id, places.size(), actor));
  }
  const auto intents = core_->parts.log.append(events);
  if (!intents) return all_fail<SecretBytes>(keys.size(), intents.error());

  const auto deadline = Deadline::after(kUseTimeMax, core_->parts.clock);
  auto results = all_fail<SecretBytes>(keys.size(), Error(Reason::kInternal, "not unwrapped"));
  std::size_t group = 0;
  for (const auto& [id, places] : groups) {
    std::vector<Result<SecretBytes>> plain;
    in_parts(places.size(), [&](std::size_t begin, std::size_t end) {
      std::vector<Presented> part;
      for (std::size_t k = begin; k < end; ++k) part.push_back(keys[places[k]]);
      append(
          plain,
          core_->with_record<SecretBytes>(id, part.size(), [&](ByteView record, std::size_t first) {
            return core_->parts.vault.unwrap(record, std::span(part).subspan(first), deadline);
          }));
    });
    auto& event = events[group];
    event.kind = audit::Kind::kResult;
    event.intent_sequence = (*intents)[group];
    tell_outcome<SecretBytes>(event, plain);
    for (std::size_t k = 0; k < places.size(); ++k) results[places[k]] = std::move(plain[k]);
    ++group;
  }
  if (auto told = core_->parts.log.append(events); !told) {
    return all_fail<SecretBytes>(keys.size(), told.error());
  }
  return results;
}

std::vector<Result<WrappedKey>> Keyring::rewrap(const CmkId& to, std::span<const Rewrapped> keys,
                                                const audit::Actor& actor) {
  const auto groups = by_cmk(keys, [](const Rewrapped& key) { return key.from.blob.cmk; });
  const auto deadline = Deadline::after(kUseTimeMax, core_->parts.clock);
  auto results = all_fail<WrappedKey>(keys.size(), Error(Reason::kInternal, "not rewrapped"));
  for (const auto& [from, places] : groups) {
    std::vector<Rewrapped> group;
    for (const std::size_t place : places) group.push_back(keys[place]);
    auto made = core_->recorded<WrappedKey>(
        "key.rewrap", to, group.size(), actor,
        [&] { return core_->rewrap(from, to, group, deadline, actor); },
        ", wrapped under key " + from.str());
    for (std::size_t k = 0; k < places.size(); ++k) results[places[k]] = std::move(made[k]);
  }
  return results;
}

std::vector<Result<WrappedKey>> Keyring::Core::rewrap(const CmkId& from, const CmkId& to,
                                                      std::span<const Rewrapped> keys,
                                                      Deadline deadline,
                                                      const audit::Actor& actor) {
  std::vector<Result<WrappedKey>> results;
  in_parts(keys.size(), [&](std::size_t begin, std::size_t end) {
    const auto part = keys.subspan(begin, end - begin);
    if (from == to) {
      const auto call = [&](ByteView record, std::size_t first) {
        return parts.vault.rewrap(record, record, part.subspan(first), deadline);
      };
      return append(results, with_uses(to, part.size(), actor, deadline, call));
    }
    const auto call = [&](ByteView source, std::size_t first) {
      const auto rest = part.subspan(first);
      return with_uses(to, rest.size(), actor, deadline, [&](ByteView target, std::size_t next) {
        return parts.vault.rewrap(source, target, rest.subspan(next), deadline);
      });
    };
    append(results, with_record<WrappedKey>(from, part.size(), call));
  });
  return results;
}

std::vector<Result<Bytes>> Keyring::sign(const CmkId& id, SignScheme scheme,
                                         std::span<const Bytes> digests,
                                         const audit::Actor& actor) {
  return core_->recorded<Bytes>("key.sign", id, digests.size(), actor, [&] {
    const auto deadline = Deadline::after(kUseTimeMax, core_->parts.clock);
    std::vector<Result<Bytes>> results;
    in_parts(digests.size(), [&](std::size_t begin, std::size_t end) {
      const auto part = digests.subspan(begin, end - begin);
      append(results,
             core_->with_record<Bytes>(id, part.size(), [&](ByteView record, std::size_t first) {
               return core_->parts.vault.sign(record, scheme, part.subspan(first), deadline);
             }));
    });
    return results;
  });
}

std::vector<Result<SecretBytes>> Keyring::decrypt(const CmkId& id, DecryptScheme scheme,
                                                  std::span<const Bytes> ciphertexts,
                                                  const audit::Actor& actor) {
  return core_->recorded<SecretBytes>("key.decrypt", id, ciphertexts.size(), actor, [&] {
    const auto deadline = Deadline::after(kUseTimeMax, core_->parts.clock);
    std::vector<Result<SecretBytes>> results;
    in_parts(ciphertexts.size(), [&](std::size_t begin, std::size_t end) {
      const auto part = ciphertexts.subspan(begin, end - begin);
      append(
          results,
          core_->with_record<SecretBytes>(id, part.size(), [&](ByteView record, std::size_t first) {
            return core_->parts.vault.decrypt(record, scheme, part.subspan(first), deadline);
          }));
    });
    return results;
  });
}

std::vector<Result<WrappedKey>> Keyring::make_deks(const CmkId& id,
                                                   std::span<const DekRequest> requests,
                                                   const Ticket& ticket, std::uint32_t first_index,
                                                   const audit::Actor& actor, Deadline deadline) {
  // Indexes count through, so one request without an intent refuses all.
  if (std::ranges::any_of(requests, [](const auto& request) { return request.intent == 0; })) {
    return all_fail<WrappedKey>(requests.size(),
                                Error(Reason::kAuditUnavailable, "make keys: no intent recorded"));
  }
  std::vector<Result<WrappedKey>> results;
  in_parts(requests.size(), [&](std::size_t begin, std::size_t end) {
    std::vector<KeyContext> contexts;
    for (std::size_t k = begin; k < end; ++k) contexts.push_back(requests[k].context);
    const auto index = first_index + static_cast<std::uint32_t>(begin);
    append(results, core_->with_uses(id, contexts.size(), actor, deadline,
                                     [&](ByteView record, std::size_t first) {
                                       return core_->parts.vault.make_deks(
                                           record, std::span(contexts).subspan(first), ticket,
                                           index + static_cast<std::uint32_t>(first), deadline);
                                     }));
  });
  return results;
}

std::vector<Result<void>> Keyring::deliver(std::span<const DekDelivery> deliveries,
                                           const Ticket& ticket, Deadline deadline) {
  auto results = all_fail<void>(
      deliveries.size(), Error(Reason::kAuditUnavailable, "deliver a key: no intent recorded"));
  const auto groups =
      by_cmk(deliveries, [](const DekDelivery& delivery) { return delivery.key.blob.cmk; });
  for (const auto& [id, all_places] : groups) {
    std::vector<std::size_t> places;
    std::ranges::copy_if(all_places, std::back_inserter(places),
                         [&](std::size_t i) { return deliveries[i].intent != 0; });
    in_parts(places.size(), [&](std::size_t begin, std::size_t end) {
      std::vector<Presented> keys;
      std::vector<std::uint32_t> indexes;
      for (std::size_t k = begin; k < end; ++k) {
        keys.push_back(deliveries[places[k]].key);
        indexes.push_back(deliveries[places[k]].index);
      }
      auto delivered =
          core_->with_record<void>(id, keys.size(), [&](ByteView record, std::size_t first) {
            return core_->parts.vault.deliver(record, std::span(keys).subspan(first), ticket,
                                              std::span(indexes).subspan(first), deadline);
          });
      for (std::size_t k = begin; k < end; ++k) {
        results[places[k]] = std::move(delivered[k - begin]);
      }
    });
  }
  return results;
}

}  // namespace coffer::keyring

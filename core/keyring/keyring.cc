// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/keyring.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <mutex>
#include <utility>

#include "core/audit/audit_log.h"
#include "core/keyring/key_transitions.h"
#include "core/keyring/stored_records.h"

namespace coffer::keyring {
namespace {

constexpr std::size_t kListCountMax = 1000;
constexpr int kAttemptsMax = 8;

template <class T>
void fill(std::vector<Result<T>>& results, std::size_t count, const Error& error) {
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
}

template <class T>
std::vector<Result<T>> all_fail(std::size_t count, const Error& error) {
  std::vector<Result<T>> results;
  results.reserve(count);
  fill(results, count, error);
  return results;
}

template <class T>
void append(std::vector<Result<T>>& results, std::vector<Result<T>> more) {
  for (auto& one : more) results.push_back(std::move(one));
}

bool matches(const KeyFilter& filter, const CmkRecord& record) {
  if (filter.state && *filter.state != record.state) return false;
  if (filter.owner && *filter.owner != record.owner) return false;
  return record.alias.find(filter.search) != std::string::npos ||
         record.id.str().find(filter.search) != std::string::npos;
}

// The places of the keys of each CMK, in order.
template <class Key, class CmkOf>
std::map<CmkId, std::vector<std::size_t>> by_cmk(std::span<const Key> keys, CmkOf cmk_of) {
  std::map<CmkId, std::vector<std::size_t>> groups;
  for (std::size_t i = 0; i < keys.size(); ++i) groups[cmk_of(keys[i])].push_back(i);
  return groups;
}

// How the uses of a call ended, as one result record tells it.
template <class T>
void tell_outcome(audit::Event& event, std::span<const Result<T>> results) {
  event.outcome = std::string(audit::kOutcomeOk);
  std::size_t good = 0;
  for (const auto& result : results) {
    if (result) {
      ++good;
    } else if (event.outcome == audit::kOutcomeOk) {
      event.outcome = std::string(result.error().name());
    }
  }
  event.text = std::to_string(good) + " of " + std::to_string(results.size()) + " keys";
}

// How many of the results are those of keys that were begun: behind them the record was superseded,
// by somebody's change between two messages of one call.
template <class T>
std::size_t begun_of(std::span<const Result<T>> results) {
  std::size_t begun = results.size();
  while (begun > 0 && !results[begun - 1] &&
         results[begun - 1].error().reason() == Reason::kRecordSuperseded) {
    --begun;
  }
  return begun;
}

}  // namespace

class Keyring::Core {
 public:
  explicit Core(const Parts& given)
      : parts(given), transitions(given.vault, given.store, given.log) {}

  // Hands the stored record of `id` to `call(record, begin)`, which gives the results of the keys
  // from `begin` on, of `count` in all. When a change by somebody else came between reading and
  // use, the record is read again, for the keys that were not begun.
  template <class T, class Call>
  std::vector<Result<T>> with_record(const CmkId& id, std::size_t count, Call call);

  // The same for wraps, whose uses are taken before: of those begun again anew, as the version may
  // be another one by then.
  template <class Call>
  std::vector<Result<WrappedKey>> with_uses(const CmkId& id, std::size_t count,
                                            const audit::Actor& actor, Call call);

  // Sees to it that the current version has leased `count` uses more than were taken so far.
  Result<void> take_uses(const CmkId& id, std::size_t count, const audit::Actor& actor);

  // A version that was just made: all that it has leased is unused.
  void note_new_version(const CmkRecord& record);

  audit::Event use_event(const std::string& operation, const CmkId& id, std::size_t count,
                         const audit::Actor& actor) const;

  const Parts parts;
  KeyTransitions transitions;

 private:
  // What is left of the uses leased for a version by this process. A lease of a process before
  // counts as used up, so that a crash never counts too few.
  struct Lease {
    std::uint32_t version = 0;
    std::uint64_t left = 0;
  };
  std::mutex lease_mutex_;  // Guards leases_; held while a lease is taken out, which may block.
  std::map<CmkId, Lease> leases_;
};

template <class T, class Call>
std::vector<Result<T>> Keyring::Core::with_record(const CmkId& id, std::size_t count, Call call) {
  SealedRecord tried;
  std::vector<Result<T>> results;
  std::size_t begun = 0;
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    const auto stored = read_record(parts.store, id);
    // Superseded, and the store has nothing newer.
    if (stored && stored->sealed == tried) return results;
    results.erase(results.begin() + static_cast<std::ptrdiff_t>(begun), results.end());
    if (!stored) {
      fill(results, count - begun, stored.error());
      return results;
    }
    auto rest = call(ByteView(stored->sealed), begun);
    if (rest.size() != count - begun) {
      fill(results, count - begun,
           Error(Reason::kHsmFailed, "the vault gave not one result per key"));
      return results;
    }
    const std::size_t now_begun = begun_of<T>(rest);
    append(results, std::move(rest));
    begun += now_begun;
    if (begun == count) return results;
    tried = stored->sealed;
  }
  return results;
}

template <class Call>
std::vector<Result<WrappedKey>> Keyring::Core::with_uses(const CmkId& id, std::size_t count,
                                                         const audit::Actor& actor, Call call) {
  if (auto uses = take_uses(id, count, actor); !uses) {
    return all_fail<WrappedKey>(count, uses.error());
  }
  bool again = false;
  return with_record<WrappedKey>(id, count, [&](ByteView record, std::size_t begin) {
    if (std::exchange(again, true)) {
      if (auto uses = take_uses(id, count - begin, actor); !uses) {
        return all_fail<WrappedKey>(count - begin, uses.error());
      }
    }
    return call(record, begin);
  });
}

Result<void> Keyring::Core::take_uses(const CmkId& id, std::size_t count,
                                      const audit::Actor& actor) {
  const std::lock_guard lock(lease_mutex_);
  const auto stored = read_record(parts.store, id);
  if (!stored) return tl::unexpected(stored.error());
  // The vault says why a key that is not enabled does not wrap.
  if (stored->record.state != KeyState::kEnabled) return {};
  const KeyVersion& current = stored->record.current();
  Lease& lease = leases_[id];
  if (lease.version != current.number) lease = {current.number, 0};
  std::uint64_t leased = current.wraps_leased;
  while (lease.left < count) {
    const auto more = transitions.change(id, CmkChange::kLease, actor);
    if (!more) return pass(more.error(), "lease uses of key " + id.str());
    const KeyVersion& now = more->current();
    // Rotated in between: the new version's first lease is as unused as this one.
    if (now.number != lease.version) {
      lease = {now.number, 0};
      leased = 0;
    }
    if (now.wraps_leased <= leased) {
      return fail(Reason::kKeyExhausted, "key " + id.str() + " leases no more uses");
    }
    lease.left += now.wraps_leased - leased;
    leased = now.wraps_leased;
  }
  lease.left -= count;
  return {};
}

void Keyring::Core::note_new_version(const CmkRecord& record) {
  const KeyVersion& current = record.current();
  const std::lock_guard lock(lease_mutex_);
  Lease& lease = leases_[record.id];
  // A caller that was quicker has begun to count already.
  if (lease.version < current.number) lease = {current.number, current.wraps_leased};
}

audit::Event Keyring::Core::use_event(const std::string& operation, const CmkId& id,
                                      std::size_t count, const audit::Actor& actor) const {
  audit::Event event;
  event.kind = audit::Kind::kIntent;
  event.actor = actor;
  event.operation = operation;
  event.cmk = id;
  event.text = std::to_string(count) + " keys";
  return event;
}

Keyring::Keyring(const Parts& parts) : core_(std::make_unique<Core>(parts)) {}
Keyring::~Keyring() = default;

void Keyring::set_observer(Observer observer) {
  core_->transitions.set_observer(std::move(observer));
}

Result<std::size_t> Keyring::reconcile() {
  return core_->transitions.reconcile();
}

Result<CmkRecord> Keyring::create(const CmkParameters& parameters, const audit::Actor& actor) {
  auto created = core_->transitions.create(parameters, actor);
  if (created) core_->note_new_version(*created);
  return created;
}
Result<CmkRecord> Keyring::enable(const CmkId& id, const audit::Actor& actor) {
  return core_->transitions.change(id, CmkChange::kEnable, actor);
}
Result<CmkRecord> Keyring::disable(const CmkId& id, const audit::Actor& actor) {
  return core_->transitions.change(id, CmkChange::kDisable, actor);
}
Result<CmkRecord> Keyring::rotate(const CmkId& id, const audit::Actor& actor) {
  auto rotated = core_->transitions.change(id, CmkChange::kRotate, actor);
  if (rotated) core_->note_new_version(*rotated);
  return rotated;
}

std::vector<Result<CmkRecord>> Keyring::adopt(std::span<const SealedRecord> records,
                                              const audit::Actor& actor) {
  std::vector<Result<CmkRecord>> results;
  for (const auto& record : records) results.push_back(core_->transitions.adopt(record, actor));
  return results;
}

Result<CmkRecord> Keyring::get(const CmkId& id) const {
  auto stored = read_record(core_->parts.store, id);
  if (!stored) return tl::unexpected(stored.error());
  return std::move(stored->record);
}

Result<CmkRecord> Keyring::find(std::string_view id_or_alias) const {
  // An alias may look like an id, so one that is no key's id is looked up as an alias too.
  if (const auto id = CmkId::parse(id_or_alias)) {
    auto found = get(*id);
    if (found || found.error().reason() != Reason::kNoSuchKey) return found;
  }
  auto stored = read_record_by_alias(core_->parts.store, id_or_alias);
  if (!stored) return tl::unexpected(stored.error());
  return std::move(stored->record);
}

Result<KeyPage> Keyring::list(const KeyFilter& filter, const std::optional<CmkId>& after,
                              std::size_t count_max) const {
  const std::size_t wanted = std::clamp<std::size_t>(count_max, 1, kListCountMax);
  KeyPage page;
  std::optional<CmkId> last = after;
  for (;;) {
    const auto rows = core_->parts.store.list(last, wanted);
    if (!rows) return tl::unexpected(rows.error());
    for (const auto& row : *rows) {
      last = row.id;
      auto record = record_of(row);
      if (!record) {
        page.damaged.push_back(record.error());
      } else if (matches(filter, *record)) {
        page.keys.push_back(std::move(*record));
      }
      if (page.keys.size() + page.damaged.size() >= wanted) {
        page.continue_after = last;
        return page;
      }
    }
    if (rows->size() < wanted) return page;
  }
}

Result<SealedRecord> Keyring::sealed_record(const CmkId& id) const {
  auto stored = read_record(core_->parts.store, id);
  if (!stored) return tl::unexpected(stored.error());
  return std::move(stored->sealed);
}

std::vector<Result<SealedRecord>> Keyring::sealed_records(std::span<const CmkId> ids) const {
  std::vector<Result<SealedRecord>> records;
  for (const auto& id : ids) records.push_back(sealed_record(id));
  return records;
}

std::vector<Result<WrappedKey>> Keyring::wrap(const CmkId& id,
                                              std::span<const KeyVault::Plain> keys,
                                              const audit::Actor& actor) {
  if (keys.empty()) return {};
  auto event = core_->use_event("key.wrap", id, keys.size(), actor);
  const auto intent = core_->parts.log.append_one(event);
  if (!intent) return all_fail<WrappedKey>(keys.size(), intent.error());

  const auto deadline = Deadline::after(kUseTimeMax, core_->parts.clock);
  std::vector<Result<WrappedKey>> results;
  for (std::size_t at = 0; at < keys.size(); at += KeyVault::kKeysPerCallMax) {
    const auto part = keys.subspan(at, std::min(KeyVault::kKeysPerCallMax, keys.size() - at));
    append(results,
           core_->with_uses(id, part.size(), actor, [&](ByteView record, std::size_t begin) {
             return core_->parts.vault.wrap(record, part.subspan(begin), deadline);
           }));
  }
  event.kind = audit::Kind::kResult;
  event.intent_sequence = *intent;
  tell_outcome<WrappedKey>(event, results);
  // Durable before the caller has the result.
  if (auto told = core_->parts.log.append_one(event); !told) {
    return all_fail<WrappedKey>(keys.size(), told.error());
  }
  return results;
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
    for (std::size_t at = 0; at < places.size(); at += KeyVault::kKeysPerCallMax) {
      const auto end = std::min(places.size(), at + KeyVault::kKeysPerCallMax);
      std::vector<Presented> part;
      for (std::size_t k = at; k < end; ++k) part.push_back(keys[places[k]]);
      append(
          plain,
          core_->with_record<SecretBytes>(id, part.size(), [&](ByteView record, std::size_t begin) {
            return core_->parts.vault.unwrap(record, std::span(part).subspan(begin), deadline);
          }));
    }
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
  for (std::size_t at = 0; at < requests.size(); at += KeyVault::kKeysPerCallMax) {
    const auto end = std::min(requests.size(), at + KeyVault::kKeysPerCallMax);
    std::vector<KeyContext> contexts;
    for (std::size_t k = at; k < end; ++k) contexts.push_back(requests[k].context);
    const auto index = first_index + static_cast<std::uint32_t>(at);
    append(results,
           core_->with_uses(id, contexts.size(), actor, [&](ByteView record, std::size_t begin) {
             return core_->parts.vault.make_deks(record, std::span(contexts).subspan(begin), ticket,
                                                 index + static_cast<std::uint32_t>(begin),
                                                 deadline);
           }));
  }
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
    for (std::size_t at = 0; at < places.size(); at += KeyVault::kKeysPerCallMax) {
      const auto end = std::min(places.size(), at + KeyVault::kKeysPerCallMax);
      std::vector<Presented> keys;
      std::vector<std::uint32_t> indexes;
      for (std::size_t k = at; k < end; ++k) {
        keys.push_back(deliveries[places[k]].key);
        indexes.push_back(deliveries[places[k]].index);
      }
      auto delivered =
          core_->with_record<void>(id, keys.size(), [&](ByteView record, std::size_t begin) {
            return core_->parts.vault.deliver(record, std::span(keys).subspan(begin), ticket,
                                              std::span(indexes).subspan(begin), deadline);
          });
      for (std::size_t k = at; k < end; ++k) results[places[k]] = std::move(delivered[k - at]);
    }
  }
  return results;
}

}  // namespace coffer::keyring

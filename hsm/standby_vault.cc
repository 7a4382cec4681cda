// SPDX-License-Identifier: Apache-2.0
#include "hsm/standby_vault.h"

#include <algorithm>
#include <numeric>
#include <utility>

namespace coffer::hsm {

using keyring::CmkChange;
using keyring::KeyVault;
using keyring::SealedRecord;
using keyring::VaultHealth;
using keyring::VaultState;
using keyring::WrappedKey;

namespace {

// Of one turn at the one in reserve, for what it is to be shown.
constexpr std::chrono::seconds kShowTime{5};
// Of a call without a deadline, for the turns of others: one to its end, and who goes on from
// there.
constexpr std::chrono::seconds kWaitTime = 2 * kShowTime;
constexpr std::size_t kRecordsPerPage = 256;

// The token, its module or its process is gone, or lets nobody in.
bool is_loss(Reason reason) {
  switch (reason) {
    case Reason::kHsmAbsent:
    case Reason::kHsmTimeout:
    case Reason::kHsmLoginNeeded:
    case Reason::kHsmPinIncorrect:
    case Reason::kHsmPinLocked:
    case Reason::kHsmKeyUnsafe:
      return true;
    default:
      return false;
  }
}

// Whether the other vault may do better: a loss, or an answer that blames data or token.
bool may_help(Reason reason) {
  return is_loss(reason) || reason == Reason::kHsmFailed;
}

// Whether the other vault's error says more than the first one's. It does not when it fails in its
// own right, has another root key, or delivers what the worker has taken already.
bool is_verdict(Reason reason) {
  return !may_help(reason) && reason != Reason::kRecordInvalid &&
         reason != Reason::kTicketUnknown && reason != Reason::kWorkerLost;
}

// Whether a vault that was shown a record refuses older ones from now on.
bool was_shown(const Result<void>& presented) {
  return presented || presented.error().reason() == Reason::kRecordSuperseded;
}

// The error that shows the vault lost, or null. A time that was over before some keys' turn, while
// others were served, shows nothing.
template <class T>
const Error* loss_in(const std::vector<Result<T>>& results) {
  const bool served = std::ranges::any_of(results, [](const auto& r) { return r.has_value(); });
  const auto lost = std::ranges::find_if(results, [&](const auto& result) {
    return !result && is_loss(result.error().reason()) &&
           !(served && result.error().reason() == Reason::kHsmTimeout);
  });
  return lost == results.end() ? nullptr : &lost->error();
}

template <class T>
std::vector<T> chosen(std::span<const T> all, std::span<const std::size_t> places) {
  std::vector<T> out;
  out.reserve(places.size());
  for (const std::size_t place : places) out.push_back(all[place]);
  return out;
}

}  // namespace

StandbyVault::Side StandbyVault::serving() {
  const std::scoped_lock lock(mutex_);
  return serving_;
}

StandbyVault::ShowLimits StandbyVault::show_limits() const {
  return {.wait = Deadline(options_.clock->steady() + kWaitTime), .show = kShowTime};
}

StandbyVault::Side StandbyVault::serving_and_shown(const ShowLimits& limits) {
  const Side side = serving();
  // It missed something only if it came to serve in the midst of a present(). What it is not shown
  // now it will not serve either, as it is lost.
  static_cast<void>(show_missed(side, limits));
  return side;
}

void StandbyVault::switch_to(Side side, const std::string& why) {
  {
    const std::scoped_lock lock(mutex_);
    if (serving_ == side) return;
    serving_ = side;
    well_since_.reset();
    reserve_well_ = false;
  }
  if (!options_.on_switch) return;
  options_.on_switch("token " + member(side).name + " serves instead of " +
                     member(other(side)).name + ": " + why);
}

bool StandbyVault::same_root() {
  const std::scoped_lock lock(mutex_);
  return !active_root_.empty() && active_root_ == standby_root_;
}

void StandbyVault::miss(Side side, ByteView record) {
  const auto decoded = keyring::CmkRecord::decode(record);
  if (!decoded) return;  // No vault took it.
  const std::scoped_lock lock(mutex_);
  Unseen& unseen = this->unseen(side);
  const auto known = unseen.missed.find(decoded->id);
  if (known != unseen.missed.end()) {
    const auto before = keyring::CmkRecord::decode(known->second);
    if (!before || before->revision < decoded->revision)
      known->second.assign(record.begin(), record.end());
  } else if (unseen.missed.size() < options_.missed_max) {
    unseen.missed.emplace(decoded->id, keyring::SealedRecord(record.begin(), record.end()));
  } else {
    unseen.too_many = true;
    unseen.all = true;
    unseen.after.reset();
    ++unseen.begun;
  }
}

bool StandbyVault::is_behind(Side side) {
  const std::scoped_lock lock(mutex_);
  return !unseen(side).missed.empty() || unseen(side).too_many;
}

bool StandbyVault::has_missed(Side side) {
  const std::scoped_lock lock(mutex_);
  return !unseen(side).missed.empty();
}

template <class Show>
bool StandbyVault::in_turn(Turn& turn, const ShowLimits& limits, Show show) {
  {
    std::unique_lock lock(mutex_);
    while (turn.taken) {
      if (limits.wait.passed(*options_.clock)) return false;
      const std::uint64_t ended = turn.ended;
      const auto over = [&] { return turn.ended != ended; };
      if (!turn_ended_.wait_until(lock, limits.wait.at(), over)) return false;
      if (turn.last != Shown::kLate) return turn.last == Shown::kAll;
    }
    turn.taken = true;
  }
  const Shown shown =
      show(limits.show ? Deadline(options_.clock->steady() + *limits.show) : limits.wait);
  {
    const std::scoped_lock lock(mutex_);
    turn.taken = false;
    ++turn.ended;
    turn.last = shown;
  }
  turn_ended_.notify_all();
  return shown == Shown::kAll;
}

bool StandbyVault::show_missed(Side side, const ShowLimits& limits) {
  if (!has_missed(side)) return true;
  return in_turn(unseen(side).missed_turn, limits,
                 [&](Deadline until) { return show_missed_now(side, until); });
}

StandbyVault::Shown StandbyVault::show_missed_now(Side side, Deadline deadline) {
  for (;;) {
    std::optional<std::pair<CmkId, SealedRecord>> next;
    {
      const std::scoped_lock lock(mutex_);
      const auto& missed = unseen(side).missed;
      if (missed.empty()) return Shown::kAll;
      next = *missed.begin();
    }
    if (deadline.passed(*options_.clock)) return Shown::kLate;
    if (!was_shown(vault(side).present(next->second))) return Shown::kRefused;
    const std::scoped_lock lock(mutex_);
    auto& missed = unseen(side).missed;
    // A newer one may have come meanwhile.
    const auto shown = missed.find(next->first);
    if (shown != missed.end() && shown->second == next->second) missed.erase(shown);
  }
}

bool StandbyVault::show_store(Side side, const ShowLimits& limits) {
  {
    const std::scoped_lock lock(mutex_);
    if (!unseen(side).all) return true;
  }
  return in_turn(unseen(side).store_turn, limits,
                 [&](Deadline until) { return show_store_now(side, until); });
}

StandbyVault::Shown StandbyVault::show_store_now(Side side, Deadline deadline) {
  for (;;) {
    std::optional<CmkId> after;
    std::uint64_t begun = 0;
    {
      const std::scoped_lock lock(mutex_);
      if (!unseen(side).all) return Shown::kAll;
      after = unseen(side).after;
      begun = unseen(side).begun;
    }
    if (options_.store == nullptr) return Shown::kRefused;
    if (deadline.passed(*options_.clock)) return Shown::kLate;
    const auto page = options_.store->everything(after, kRecordsPerPage);
    if (!page) return Shown::kRefused;
    for (const auto& stored : *page) {
      const auto shown = vault(side).present(stored.record);
      // One that no vault takes is not the vault's trouble.
      if (!was_shown(shown) && may_help(shown.error().reason())) return Shown::kRefused;
    }
    const std::scoped_lock lock(mutex_);
    Unseen& unseen = this->unseen(side);
    if (unseen.begun != begun || unseen.after != after) continue;
    if (page->size() < kRecordsPerPage) {
      unseen.all = unseen.too_many = false;
      unseen.after.reset();
    } else {
      unseen.after = page->back().id;
    }
  }
}

bool StandbyVault::ready(Side side, const ShowLimits& limits) {
  if (!show_missed(side, limits)) return false;
  {
    const std::scoped_lock lock(mutex_);
    if (!unseen(side).too_many) return true;
  }
  return show_store(side, limits);
}

bool StandbyVault::reserve_well() {
  const std::scoped_lock lock(mutex_);
  return reserve_well_;
}

Deadline StandbyVault::first_share(Deadline whole) {
  if (!reserve_well()) return whole;
  const SteadyTime now = options_.clock->steady();
  return whole.at() <= now ? whole : Deadline(now + (whole.at() - now) / 2);
}

void StandbyVault::look_at_other(Side lost, const Error& error, const ShowLimits& limits) {
  if (serving() != lost) return;
  const Side reserve = other(lost);
  const bool well = limits.wait.passed(*options_.clock)
                        ? reserve_well()
                        : vault(reserve).health().state == VaultState::kUp;
  if (well && ready(reserve, limits)) switch_to(reserve, error.str());
}

template <class T, class Call>
Result<T> StandbyVault::once(Again again, Call call) {
  const Side first = serving_and_shown(show_limits());
  Result<T> result = call(vault(first));
  if (result || !may_help(result.error().reason())) return result;
  const Error error = result.error();
  if (again == Again::kNo) {
    if (is_loss(error.reason())) look_at_other(first, error, show_limits());
    return result;
  }
  if (!ready(other(first), show_limits())) return result;
  Result<T> second = call(vault(other(first)));
  if (!second && !is_verdict(second.error().reason())) return result;
  if (second || is_loss(error.reason())) switch_to(other(first), error.str());
  return second;
}

template <class T, class Call>
std::vector<Result<T>> StandbyVault::each(std::size_t count, Deadline deadline, Call call) {
  std::vector<std::size_t> places(count);
  std::iota(places.begin(), places.end(), std::size_t{0});
  const Side first = serving_and_shown({.wait = deadline, .show = kShowTime});
  std::vector<Result<T>> results =
      call(vault(first), std::span<const std::size_t>(places), first_share(deadline));
  // A vault that answers otherwise than in order is for the caller to refuse.
  if (results.size() != count) return results;
  std::erase_if(places, [&](std::size_t place) {
    return results[place] || !may_help(results[place].error().reason());
  });
  if (places.empty() || deadline.passed(*options_.clock)) return results;

  const Error* loss = loss_in(results);
  const bool lost = loss != nullptr;
  const Error error = lost ? *loss : results[places.front()].error();
  if (!ready(other(first), {.wait = deadline})) return results;
  auto more = call(vault(other(first)), std::span<const std::size_t>(places), deadline);
  if (more.size() != places.size()) return results;
  bool took_over = false;
  for (std::size_t i = 0; i < places.size(); ++i) {
    const bool served = more[i].has_value();
    if (!served && !is_verdict(more[i].error().reason())) continue;
    Result<T>& result = results[places[i]];
    took_over |= lost || (served && result.error().reason() == Reason::kHsmFailed);
    result = std::move(more[i]);
  }
  if (took_over) switch_to(other(first), error.str());
  return results;
}

template <class T, class Call>
std::vector<Result<T>> StandbyVault::each_once(Deadline deadline, Call call) {
  const ShowLimits limits{.wait = deadline, .show = kShowTime};
  const Side first = serving_and_shown(limits);
  std::vector<Result<T>> results = call(vault(first));
  if (const Error* loss = loss_in(results)) look_at_other(first, *loss, limits);
  return results;
}

Result<SealedRecord> StandbyVault::create_cmk(const keyring::CmkParameters& parameters) {
  const bool resident = parameters.protection == keyring::Protection::kResident;
  return once<SealedRecord>(
      resident ? Again::kNo : Again::kYes, [&](KeyVault& vault) -> Result<SealedRecord> {
        if (&vault == options_.standby.vault && !same_root())
          return fail(Reason::kHsmAbsent, "no key is made on token " + options_.standby.name +
                                              " before it was seen to have the root key of " +
                                              options_.active.name);
        return vault.create_cmk(parameters);
      });
}

Result<SealedRecord> StandbyVault::change_cmk(ByteView current, const CmkChange& change) {
  return once<SealedRecord>(Again::kYes,
                            [&](KeyVault& vault) { return vault.change_cmk(current, change); });
}

Result<void> StandbyVault::present(ByteView record) {
  Side showed = Side::kActive;  // The last one that was asked.
  auto presented = once<void>(Again::kYes, [&](KeyVault& vault) {
    showed = &vault == options_.active.vault ? Side::kActive : Side::kStandby;
    return vault.present(record);
  });
  if (!presented) return presented;
  const Side reserve = other(showed);
  bool well = false;
  {
    const std::scoped_lock lock(mutex_);
    well = reserve_well_ || serving_ == reserve;
  }
  if (well && was_shown(vault(reserve).present(record))) return presented;
  miss(reserve, record);
  const std::scoped_lock lock(mutex_);
  if (serving_ != reserve) reserve_well_ = false;
  return presented;
}

std::vector<Result<WrappedKey>> StandbyVault::wrap(ByteView record, std::span<const Plain> keys,
                                                   Deadline deadline) {
  return each_once<WrappedKey>(deadline,
                               [&](KeyVault& vault) { return vault.wrap(record, keys, deadline); });
}

std::vector<Result<SecretBytes>> StandbyVault::unwrap(ByteView record,
                                                      std::span<const keyring::Presented> keys,
                                                      Deadline deadline) {
  return each<SecretBytes>(
      keys.size(), deadline,
      [&](KeyVault& vault, std::span<const std::size_t> places, Deadline until) {
        if (places.size() == keys.size()) return vault.unwrap(record, keys, until);
        return vault.unwrap(record, chosen(keys, places), until);
      });
}

std::vector<Result<WrappedKey>> StandbyVault::make_deks(
    ByteView record, std::span<const keyring::KeyContext> contexts, const keyring::Ticket& ticket,
    std::uint32_t first_index, Deadline deadline) {
  return each_once<WrappedKey>(deadline, [&](KeyVault& vault) {
    return vault.make_deks(record, contexts, ticket, first_index, deadline);
  });
}

Result<keyring::SharedDek> StandbyVault::make_shared_dek(const keyring::SharedDekRequest& request,
                                                         Deadline deadline) {
  return once<keyring::SharedDek>(
      Again::kNo, [&](KeyVault& vault) { return vault.make_shared_dek(request, deadline); });
}

std::vector<Result<void>> StandbyVault::deliver(ByteView record,
                                                std::span<const keyring::Presented> keys,
                                                const keyring::Ticket& ticket,
                                                std::span<const std::uint32_t> indexes,
                                                Deadline deadline) {
  return each<void>(keys.size(), deadline,
                    [&](KeyVault& vault, std::span<const std::size_t> places, Deadline until) {
                      if (places.size() == keys.size())
                        return vault.deliver(record, keys, ticket, indexes, until);
                      return vault.deliver(record, chosen(keys, places), ticket,
                                           chosen(indexes, places), until);
                    });
}

std::vector<Result<WrappedKey>> StandbyVault::rewrap(ByteView from, ByteView to,
                                                     std::span<const keyring::Rewrapped> keys,
                                                     Deadline deadline) {
  return each_once<WrappedKey>(
      deadline, [&](KeyVault& vault) { return vault.rewrap(from, to, keys, deadline); });
}

std::vector<Result<Bytes>> StandbyVault::sign(ByteView record, keyring::SignScheme scheme,
                                              std::span<const Bytes> digests, Deadline deadline) {
  return each<Bytes>(digests.size(), deadline,
                     [&](KeyVault& vault, std::span<const std::size_t> places, Deadline until) {
                       if (places.size() == digests.size())
                         return vault.sign(record, scheme, digests, until);
                       return vault.sign(record, scheme, chosen(digests, places), until);
                     });
}

std::vector<Result<SecretBytes>> StandbyVault::decrypt(ByteView record,
                                                       keyring::DecryptScheme scheme,
                                                       std::span<const Bytes> ciphertexts,
                                                       Deadline deadline) {
  return each<SecretBytes>(
      ciphertexts.size(), deadline,
      [&](KeyVault& vault, std::span<const std::size_t> places, Deadline until) {
        if (places.size() == ciphertexts.size())
          return vault.decrypt(record, scheme, ciphertexts, until);
        return vault.decrypt(record, scheme, chosen(ciphertexts, places), until);
      });
}

Result<keyring::ImportParameters> StandbyVault::prepare_import(ByteView current,
                                                               keyring::ImportWrapping wrapping) {
  return once<keyring::ImportParameters>(
      Again::kYes, [&](KeyVault& vault) { return vault.prepare_import(current, wrapping); });
}

Result<SealedRecord> StandbyVault::import_material(ByteView current,
                                                   const keyring::ImportMaterial& material) {
  return once<SealedRecord>(
      Again::kYes, [&](KeyVault& vault) { return vault.import_material(current, material); });
}

Result<SecretBytes> StandbyVault::random(std::size_t size_bytes) {
  return once<SecretBytes>(Again::kYes, [&](KeyVault& vault) { return vault.random(size_bytes); });
}

VaultHealth StandbyVault::health() {
  const VaultHealth active = options_.active.vault->health();
  const VaultHealth standby = options_.standby.vault->health();
  const bool active_up = active.state == VaultState::kUp;
  const bool standby_up = standby.state == VaultState::kUp;
  const SteadyTime now = options_.clock->steady();

  bool other_root = false;
  bool well_long_enough = false;
  bool reserve_up = false;
  Side serves{};
  {
    const std::scoped_lock lock(mutex_);
    if (active_up) active_root_ = active.root_id;
    if (standby_up) standby_root_ = standby.root_id;
    other_root = !active_root_.empty() && !standby_root_.empty() && active_root_ != standby_root_;
    serves = serving_;
    if (serves == Side::kStandby && active_up) {
      if (!well_since_) well_since_ = now;
      well_long_enough = now - *well_since_ >= options_.fail_back_after;
    } else {
      well_since_.reset();
    }
    reserve_up = serves == Side::kActive ? standby_up && !other_root : active_up;
  }
  const ShowLimits until{.wait = Deadline(now + kShowTime)};
  const bool reserve_ready = reserve_up && ready(other(serves), until);
  {
    const std::scoped_lock lock(mutex_);
    if (serving_ == serves) reserve_well_ = reserve_ready && !other_root;
  }
  if (serves == Side::kActive && !active_up && reserve_ready) {
    switch_to(Side::kStandby, active.detail);
  } else if (serves == Side::kStandby && reserve_ready &&
             (well_long_enough || !standby_up || other_root)) {
    switch_to(Side::kActive, other_root ? "the standby has another root key" : "it is well again");
  }

  serves = serving();
  if (active_up && standby_up && !other_root) static_cast<void>(show_store(other(serves), until));
  VaultHealth out = serves == Side::kActive ? active : standby;
  const VaultHealth& reserve = serves == Side::kActive ? standby : active;
  const std::string& name = member(other(serves)).name;
  out.failures = active.failures + standby.failures;
  out.detail = "token " + member(serves).name + ": " + out.detail + "; token " + name;
  if (other_root) {
    out.detail += " has another root key and cannot stand in";
  } else if (reserve.state == VaultState::kUp && is_behind(other(serves))) {
    out.detail += " was not shown yet what it missed, and does not serve before";
  } else if (reserve.state == VaultState::kUp) {
    out.detail += serves == Side::kActive ? " stands by" : " is well again and takes over soon";
  } else {
    out.detail += " cannot serve: " + reserve.detail;
  }
  return out;
}

}  // namespace coffer::hsm

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

const Deadline kNoHurry{SteadyTime::max()};

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

bool StandbyVault::reserve_well() {
  const std::scoped_lock lock(mutex_);
  return reserve_well_;
}

Deadline StandbyVault::first_share(Deadline whole) {
  if (!reserve_well()) return whole;
  const SteadyTime now = options_.clock->steady();
  return whole.at() <= now ? whole : Deadline(now + (whole.at() - now) / 2);
}

void StandbyVault::look_at_other(Side lost, const Error& error, Deadline deadline) {
  if (serving() != lost) return;
  const Side reserve = other(lost);
  const bool well = deadline.passed(*options_.clock)
                        ? reserve_well()
                        : vault(reserve).health().state == VaultState::kUp;
  if (well) switch_to(reserve, error.str());
}

template <class T, class Call>
Result<T> StandbyVault::once(Again again, Call call) {
  const Side first = serving();
  Result<T> result = call(vault(first));
  if (result || !may_help(result.error().reason())) return result;
  const Error error = result.error();
  if (again == Again::kNo) {
    if (is_loss(error.reason())) look_at_other(first, error, kNoHurry);
    return result;
  }
  Result<T> second = call(vault(other(first)));
  if (!second && !is_verdict(second.error().reason())) return result;
  if (second || is_loss(error.reason())) switch_to(other(first), error.str());
  return second;
}

template <class T, class Call>
std::vector<Result<T>> StandbyVault::each(std::size_t count, Deadline deadline, Call call) {
  std::vector<std::size_t> places(count);
  std::iota(places.begin(), places.end(), std::size_t{0});
  const Side first = serving();
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
  const Side first = serving();
  std::vector<Result<T>> results = call(vault(first));
  if (const Error* loss = loss_in(results)) look_at_other(first, *loss, deadline);
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
  auto presented = once<void>(Again::kYes, [&](KeyVault& vault) { return vault.present(record); });
  if (!presented) return presented;
  Side reserve{};
  {
    const std::scoped_lock lock(mutex_);
    if (!reserve_well_) return presented;
    reserve = other(serving_);
  }
  const auto there = vault(reserve).present(record);
  if (!there && may_help(there.error().reason())) {
    const std::scoped_lock lock(mutex_);
    if (serving_ != reserve) reserve_well_ = false;
  }
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
    reserve_well_ = !other_root && (serves == Side::kActive ? standby_up : active_up);
  }
  if (serves == Side::kActive && !active_up && standby_up && !other_root) {
    switch_to(Side::kStandby, active.detail);
  } else if (serves == Side::kStandby && active_up &&
             (well_long_enough || !standby_up || other_root)) {
    switch_to(Side::kActive, other_root ? "the standby has another root key" : "it is well again");
  }

  serves = serving();
  VaultHealth out = serves == Side::kActive ? active : standby;
  const VaultHealth& reserve = serves == Side::kActive ? standby : active;
  const std::string& name = member(other(serves)).name;
  out.failures = active.failures + standby.failures;
  out.detail = "token " + member(serves).name + ": " + out.detail + "; token " + name;
  if (other_root) {
    out.detail += " has another root key and cannot stand in";
  } else if (reserve.state == VaultState::kUp) {
    out.detail += serves == Side::kActive ? " stands by" : " is well again and takes over soon";
  } else {
    out.detail += " cannot serve: " + reserve.detail;
  }
  return out;
}

}  // namespace coffer::hsm

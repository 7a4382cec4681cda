// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/audit/audit_log.h"
#include "core/keyring/due_work.h"
#include "core/keyring/key_transitions.h"
#include "core/keyring/keyring.h"
#include "core/keyring/stored_records.h"

// The inside of the Keyring, for its own sources: keyring.cc (transitions and reading) and
// keyring_uses.cc (what keys are used for).
namespace coffer::keyring {

template <class T>
std::vector<Result<T>> all_fail(std::size_t count, const Error& error) {
  std::vector<Result<T>> results;
  results.reserve(count);
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
  return results;
}

template <class T>
void fill(std::vector<Result<T>>& results, std::size_t count, const Error& error) {
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
}

template <class T>
void append(std::vector<Result<T>>& results, std::vector<Result<T>> more) {
  for (auto& one : more) results.push_back(std::move(one));
}

class Keyring::Core {
 public:
  explicit Core(const Parts& given)
      : parts(given),
        transitions(given.vault, given.store, given.log, given.clock),
        due({given.store, transitions, given.clock,
             [this](const CmkRecord& record) { note_new_version(record); }}) {}

  // Hands the stored record of `id` to `call(record, begin)`, which gives the results of the keys
  // from `begin` on, of `count` in all. When a change by somebody else came between reading and
  // use, the record is read again, for the keys that were not begun.
  template <class T, class Call>
  std::vector<Result<T>> with_record(const CmkId& id, std::size_t count, Call call);

  // The same for wraps, whose uses are taken before: of those begun again anew, as the version may
  // be another one by then.
  template <class Call>
  std::vector<Result<WrappedKey>> with_uses(const CmkId& id, std::size_t count,
                                            const audit::Actor& actor, Deadline deadline,
                                            Call call);

  // Sees to it that the current version has leased `count` uses more than were taken so far, and
  // rotates a key whose version nears its limit.
  //   kHsmTimeout   other calls of the key took until `deadline`.
  Result<void> take_uses(const CmkId& id, std::size_t count, const audit::Actor& actor,
                         Deadline deadline);

  // A version that was just made: all that it has leased is unused.
  void note_new_version(const CmkRecord& record);

  // Why versions that near their limit were not rotated: as long as they are current, of enabled
  // keys.
  std::vector<Error> unrotated();

  static audit::Event use_event(const std::string& operation, const CmkId& id, std::size_t count,
                                const audit::Actor& actor);

  // Uses of one key: intent, `call`, result. A caller is given nothing before the result is
  // durable. `more` stands behind the count of keys in both records.
  template <class T, class Call>
  std::vector<Result<T>> recorded(const std::string& operation, const CmkId& id, std::size_t count,
                                  const audit::Actor& actor, Call call,
                                  const std::string& more = {});

  // KeyVault::rewrap() of keys of one CMK, with uses of `to` taken for them.
  std::vector<Result<WrappedKey>> rewrap(const CmkId& from, const CmkId& to,
                                         std::span<const Rewrapped> keys, Deadline deadline,
                                         const audit::Actor& actor);

  static constexpr int kAttemptsMax = 8;

  const Parts parts;
  KeyTransitions transitions;
  DueWork due;

 private:
  // What is left of the uses leased for a version by this process. A lease of a process before
  // counts as used up, so that a crash never counts too few.
  struct Lease {
    std::uint32_t version = 0;
    std::uint64_t left = 0;
    bool taken = false;      // By a call, which may block while it takes out more.
    std::uint64_t used = 0;  // By the count of leases_used_: when it was last asked for.
  };
  using LeasePtr = std::shared_ptr<Lease>;
  // Of kLeasesMax the half unused for longest is dropped: what it had left counts as used up, and
  // its key leases anew. Who waits for one that is dropped meanwhile may still use it up.
  static constexpr std::size_t kLeasesMax = 2048;
  // The caller holds lease_mutex_.
  LeasePtr lease_of(const CmkId& id);
  class LeaseTurn;
  Result<void> take_from(Lease& lease, const CmkId& id, std::size_t count,
                         const audit::Actor& actor, Deadline deadline,
                         std::vector<CmkRecord>& changed);
  // Rotates a version that nears its limit; what fails is told by unrotated(), and tried with the
  // next lease.
  void rotate_in_time(Lease& lease, const CmkRecord& record, Deadline deadline,
                      std::vector<CmkRecord>& changed);

  void note_unrotated(const CmkRecord& record, const Error& error);

  struct Unrotated {
    std::uint32_t version;
    Error error;
  };
  std::mutex unrotated_mutex_;  // Guards unrotated_; the store is read under it.
  std::map<CmkId, Unrotated> unrotated_;

  std::mutex lease_mutex_;  // Guards leases_ and their `taken`; who set that has the rest.
  std::condition_variable lease_given_back_;
  std::map<CmkId, LeasePtr> leases_;
  std::uint64_t leases_used_ = 0;
};

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
                                                         const audit::Actor& actor,
                                                         Deadline deadline, Call call) {
  if (auto uses = take_uses(id, count, actor, deadline); !uses) {
    return all_fail<WrappedKey>(count, uses.error());
  }
  bool again = false;
  return with_record<WrappedKey>(id, count, [&](ByteView record, std::size_t begin) {
    if (std::exchange(again, true)) {
      if (auto uses = take_uses(id, count - begin, actor, deadline); !uses) {
        return all_fail<WrappedKey>(count - begin, uses.error());
      }
    }
    return call(record, begin);
  });
}

template <class T, class Call>
std::vector<Result<T>> Keyring::Core::recorded(const std::string& operation, const CmkId& id,
                                               std::size_t count, const audit::Actor& actor,
                                               Call call, const std::string& more) {
  if (count == 0) return {};
  auto event = use_event(operation, id, count, actor);
  event.text += more;
  const auto intent = parts.log.append_one(event);
  if (!intent) return all_fail<T>(count, intent.error());
  std::vector<Result<T>> results = call();
  event.kind = audit::Kind::kResult;
  event.intent_sequence = *intent;
  tell_outcome<T>(event, results);
  event.text += more;
  if (auto told = parts.log.append_one(event); !told) return all_fail<T>(count, told.error());
  return results;
}

}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/keyring/cmk_record.h"
#include "core/keyring/key_store.h"
#include "core/keyring/key_vault.h"

namespace coffer::audit {
class AuditLog;
struct Actor;
}  // namespace coffer::audit

namespace coffer::keyring {

// Which keys list() returns: those that match everything that is set.
struct KeyFilter {
  std::optional<KeyState> state;
  std::optional<KeyOwner> owner;
  std::string search;  // A part of alias or id.
};
struct KeyPage {
  // Keys whose record is damaged or another key's: reported, so that one does not hide the others.
  std::vector<Error> damaged;
  std::vector<CmkRecord> keys;          // In the order of ids.
  std::optional<CmkId> continue_after;  // Set when there may be more: the next call's `after`.
};

// One DEK to be made or delivered. `intent` is the sequence of the audit intent under which the
// caller does it: the unlock path makes the intents of all volumes durable in one group commit and
// records one result per volume itself, so make_deks() and deliver() write no audit records of
// their own. A request without an intent is refused: kAuditUnavailable.
struct DekRequest {
  KeyContext context;
  std::uint64_t intent = 0;
};
struct DekDelivery {
  Presented key;            // Its blob names the CMK.
  std::uint32_t index = 0;  // In the delivery the ticket stands for.
  std::uint64_t intent = 0;
};

// Keyring is the only way to a CMK: it owns states and transitions, finds records and brings them
// to the vault. Neither CMK bytes nor a volume's DEK ever cross this interface.
//
// A transition is: audit intent; the vault makes the next record; one store transaction that keeps
// the intent's sequence; the record is presented to the vault, which from then on refuses the one
// before; audit result. What a crash leaves in between, reconcile() completes at the next start.
// Two callers that change one key at the same time: one wins, the other gets kInProgress and
// changed nothing.
//
// Thread-safe. Every call may block on hardware and disk, so none is made on an event loop. Errors
// of every call beside those named:
//   kNoSuchKey                          no such id or alias.
//   kRecordInvalid                      the store holds an edited or swapped record; names the key.
//   kStoreUnavailable, kStoreDamaged    as KeyStore.
//   kAuditUnavailable                   the intent cannot be made durable: nothing was done.
//   kHsm…, kRecordSuperseded            as KeyVault.
class Keyring {
 public:
  static constexpr std::chrono::seconds kUseTimeMax{30};

  // Called after a change is durable and recorded, on the thread that made it, with no lock held.
  using Observer = std::function<void(const CmkRecord& now, bool is_new)>;

  // Owns nothing; all of them outlive it.
  struct Parts {
    KeyVault& vault;
    KeyStore& store;
    audit::AuditLog& log;
    const Clock& clock;
  };
  explicit Keyring(const Parts& parts);
  ~Keyring();

  // Set once, before the first call.
  void set_observer(Observer observer);

  // Closes what a crash left open: an intent whose change is in the store gets the result "OK", the
  // others "Cancelled". Returns how many. Looks only at what was recorded before this keyring was
  // made, so it may run beside other calls.
  //   kAuditBroken       the journal cannot be read.
  //   kAuditUnavailable  it is not open yet: to be tried again.
  Result<std::size_t> reconcile();

  // kNameTaken, kInvalidArgs (alias, description), kUnsupported (protection).
  Result<CmkRecord> create(const CmkParameters& parameters, const audit::Actor& actor);

  // A transition to the state the key is in succeeds and changes nothing.
  //   kKeyPendingDeletion, kKeyArchived, kKeyPendingImport   not from this state.
  //   kUnsupported   a service's key is not disabled by callers.
  Result<CmkRecord> enable(const CmkId& id, const audit::Actor& actor);
  Result<CmkRecord> disable(const CmkId& id, const audit::Actor& actor);
  // A new current version; older ones still unwrap. kKeyDisabled; kLimitsExceeded: too many
  // versions.
  Result<CmkRecord> rotate(const CmkId& id, const audit::Actor& actor);

  // Takes in the sealed records found in a volume's token, for keys that the store lost. A key
  // comes back as Disabled. The store's record wins where there is one, unless the token's has
  // versions that the store's lacks, or the vault uses the store's no more: it was put back to an
  // older state. One result per record, in order: the record that the store holds now.
  //   kNameTaken       another key has its alias.
  //   kRecordInvalid   a version of it is another key than the store's of that number, or each of
  //                    the two records has versions that the other lacks: nothing is given up.
  std::vector<Result<CmkRecord>> adopt(std::span<const SealedRecord> records,
                                       const audit::Actor& actor);

  // Reads the store alone: works without the token. Seals are checked when a key is used.
  Result<CmkRecord> get(const CmkId& id) const;
  Result<CmkRecord> find(std::string_view id_or_alias) const;
  Result<KeyPage> list(const KeyFilter& filter, const std::optional<CmkId>& after,
                       std::size_t count_max) const;

  // The sealed records that travel in a volume's token.
  Result<SealedRecord> sealed_record(const CmkId& id) const;
  std::vector<Result<SealedRecord>> sealed_records(std::span<const CmkId> ids) const;

  // Keys of every purpose but kVolumeKey. One intent before and one result after per call; one
  // result per key, in order. unwrap() takes blobs of several CMKs. The vault is given kUseTimeMax.
  //   kWrongPurpose, kBlobInvalid   as KeyVault.
  //   kKeyDisabled, …               the CMK's state; an archived one still unwraps.
  //   kKeyExhausted                 the version has wrapped 2^32 keys: rotate it.
  std::vector<Result<WrappedKey>> wrap(const CmkId& id, std::span<const KeyVault::Plain> keys,
                                       const audit::Actor& actor);
  std::vector<Result<SecretBytes>> unwrap(std::span<const Presented> keys,
                                          const audit::Actor& actor);

  // Makes a DEK per request under the current version of `id`, and hands each to the holder of
  // `ticket`, index by index from `first_index`. One result per request, in order. `actor` is who a
  // new lease of uses is recorded for. kHsmTimeout: `deadline` passed first.
  std::vector<Result<WrappedKey>> make_deks(const CmkId& id, std::span<const DekRequest> requests,
                                            const Ticket& ticket, std::uint32_t first_index,
                                            const audit::Actor& actor, Deadline deadline);

  // Unwraps each key under the version that made it and hands it to the holder of `ticket`: one
  // call of the vault per CMK. One result per key, in order.
  //   kBlobInvalid     the blob or its context is not what make_deks() produced.
  //   kTicketUnknown, kWorkerLost   the worker does not take it.
  //   kHsmTimeout      `deadline` passed before its turn, or before the vault answered.
  std::vector<Result<void>> deliver(std::span<const DekDelivery> deliveries, const Ticket& ticket,
                                    Deadline deadline);

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace coffer::keyring

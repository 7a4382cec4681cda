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

struct KeyPage {
  // Keys whose record is damaged or another key's: reported, so that one does not hide the others.
  std::vector<Error> damaged;
  std::vector<CmkRecord> keys;          // In the order that was asked for.
  std::optional<CmkId> continue_after;  // Set when there may be more: the next call's `after`.
};

// Whether a change that takes a key from what is bound to it may go on.
enum class WhenBound : std::uint8_t {
  kRefuse,  // kKeyBound, naming how many are bound to it.
  kGoOn,    // The caller has said so, which is recorded.
  kProved,  // Of a version: the caller has looked, and nothing that is bound needs it.
};

// What run_due() did.
struct DueReport {
  std::vector<CmkRecord> done;     // As they are now.
  std::vector<Error> failed;       // Each names its key; tried again later and later. Versions near
                                   // their limit too. kInProgress: somebody else changes the key.
  std::optional<WallTime> next{};  // When the next thing is due, or to be tried again.
};

// One DEK to be made or delivered. `intent` is the sequence of the audit intent under which the
// caller does it: the unlock path makes the intents of all volumes durable in one group commit and
// records one result per volume itself, so make_deks() and deliver() write no audit records of
// their own. A request without an intent is refused: kAuditUnavailable.
struct DekRequest {
  KeyContext context;
  std::uint64_t intent = 0;
};
// One DEK to be made as shares: one under each of `keys`, of which `needed` open the volume.
struct SharedDekOrder {
  std::vector<CmkId> keys;
  std::uint8_t needed = 2;
  DekRequest request;
  Ticket ticket{};
  std::uint32_t index = 0;
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
//   kNoSuchKey                          no such id or alias, or the key is destroyed.
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
    // A generated key is rotated by itself once so many uses of its version are handed out, before
    // it is exhausted (2^32).
    std::uint64_t rotate_at_uses = (std::uint64_t{1} << 32U) - (std::uint64_t{1} << 20U);
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

  // kNameTaken, kInvalidArgs (alias, description), kUnsupported (the token has no such keys).
  Result<CmkRecord> create(const CmkParameters& parameters, const audit::Actor& actor);

  // Transitions. One to the state the key is in succeeds and changes nothing. What is not possible
  // from a state fails with the reason that names it:
  //   kKeyDisabled, kKeyArchived, kKeyPendingDeletion, kKeyPendingImport, kKeyNotDisabled,
  //   kKeyNotArchived, kKeyNotPendingDeletion
  //   kServiceKey   a service's key is not disabled, archived, described, imported or deleted.
  //   kKeyBound     something uses the key, and `when_bound` is kRefuse.
  Result<CmkRecord> enable(const CmkId& id, const audit::Actor& actor);
  Result<CmkRecord> disable(const CmkId& id, const audit::Actor& actor,
                            WhenBound when_bound = WhenBound::kRefuse);
  // Archived, a key unwraps and does not wrap.
  Result<CmkRecord> archive(const CmkId& id, const audit::Actor& actor,
                            WhenBound when_bound = WhenBound::kRefuse);
  Result<CmkRecord> cancel_archive(const CmkId& id, const audit::Actor& actor);
  // The key is gone after `days` (7 to 30), and can be brought back until then, as Disabled.
  Result<CmkRecord> schedule_deletion(const CmkId& id, std::uint32_t days,
                                      const audit::Actor& actor,
                                      WhenBound when_bound = WhenBound::kRefuse);
  Result<CmkRecord> cancel_deletion(const CmkId& id, const audit::Actor& actor);
  // A new current version; older ones still unwrap.
  //   kLimitsExceeded   too many versions.
  //   kKeyUsage, kKeyImported   asymmetric and imported keys do not rotate.
  Result<CmkRecord> rotate(const CmkId& id, const audit::Actor& actor);
  // Rotates by itself every `days` (7 to 365) from now on; 0: never. Errors as rotate().
  Result<CmkRecord> set_rotation(const CmkId& id, std::uint32_t days, const audit::Actor& actor);
  // kNameTaken, kInvalidArgs
  Result<CmkRecord> describe(const CmkId& id, std::string_view alias, std::string_view description,
                             const audit::Actor& actor);
  // What is wrapped under the version is lost: for whoever has proved that nothing is bound that
  // needs it (kProved), or says so all the same (kGoOn).
  //   kInvalidArgs      it is the current one, or not there.
  //   kKeyNotDisabled   not kGoOn, and nothing is bound to the key, so that its uses were callers',
  //                     of whose data nothing tells: it is to be disabled first.
  Result<CmkRecord> destroy_version(const CmkId& id, std::uint32_t version,
                                    const audit::Actor& actor,
                                    WhenBound when_bound = WhenBound::kProved);

  // Imported keys (BYOK). Errors beside those of transitions: kKeyNotImported, and as KeyVault.
  Result<ImportParameters> prepare_import(const CmkId& id, ImportWrapping wrapping,
                                          const audit::Actor& actor);
  // kKeyBound: material that expires, for a key that something uses.
  Result<CmkRecord> import_material(const CmkId& id, const ImportMaterial& material,
                                    const audit::Actor& actor);
  Result<CmkRecord> delete_material(const CmkId& id, const audit::Actor& actor,
                                    WhenBound when_bound = WhenBound::kRefuse);

  // The same change of many keys: one result per id, in order. kInvalidArgs: a change that is the
  // keyring's own to make (kAdopt, kLease, kDestroy, kExpireMaterial).
  std::vector<Result<CmkRecord>> change_many(std::span<const CmkId> ids, const CmkChange& change,
                                             const audit::Actor& actor,
                                             WhenBound when_bound = WhenBound::kRefuse);

  // Does what the clock says is due: destroys keys whose time has come, drops expired material and
  // offers, rotates. What cannot be taken back is done once it was due for an hour in which nobody
  // turned the wall clock (due_work.h). Shows the vault what it was not shown before. Called at
  // start, when `next` of its report says, and at least once an hour of the steady clock: that is
  // how a turned wall clock is noticed.
  Result<DueReport> run_due(const audit::Actor& actor);

  // Tags and bindings stand beside the record, and change with an audit intent like it.
  //   kKeyPendingDeletion   of a key that is to be deleted only unbind() changes anything.
  Result<void> set_tags(const CmkId& id, const std::vector<KeyTag>& tags,
                        const audit::Actor& actor);
  Result<std::vector<KeyTag>> tags(const CmkId& id) const;
  // kKeyDisabled, …: only an enabled key is bound; kLimitsExceeded: to kBindingsMax. Its material's
  // time is cleared last: an error of that leaves it bound, and binding it again clears the time.
  Result<void> bind(const CmkId& id, std::string_view resource, const audit::Actor& actor);
  Result<void> unbind(const CmkId& id, std::string_view resource, const audit::Actor& actor);
  Result<std::vector<std::string>> bindings(const CmkId& id, std::string_view after,
                                            std::size_t count_max) const;
  // All keys to which a resource is bound whose name starts with `prefix`.
  Result<std::vector<CmkId>> bound_keys(std::string_view prefix) const;

  // Takes in the sealed records found in a volume's token, for keys that the store lost. A key
  // comes back as Disabled, or in PendingDelete where that copy was. The store's record wins where
  // there is one, unless the token's has versions that the store's lacks, or the vault uses the
  // store's no more: it was put back to an older state. One result per record, in order: the record
  // that the store holds now.
  //   kNameTaken       another key has its alias.
  //   kRecordInvalid   a version of it is another key than the store's of that number, or each of
  //                    the two records has versions that the other lacks: nothing is given up.
  //   kNoSuchKey       the key was destroyed, which store or vault know.
  //   kKeyPendingDeletion   the time of its deletion has come.
  std::vector<Result<CmkRecord>> adopt(std::span<const SealedRecord> records,
                                       const audit::Actor& actor);

  // Reads the store alone: works without the token. Seals are checked when a key is used.
  // kInvalidArgs: the query's filter.
  Result<CmkRecord> get(const CmkId& id) const;
  Result<CmkRecord> find(std::string_view id_or_alias) const;
  Result<KeyPage> list(const KeyQuery& query) const;
  Result<std::uint64_t> count(const KeyFilter& filter) const;

  // The sealed records that travel in a volume's token.
  Result<SealedRecord> sealed_record(const CmkId& id) const;
  std::vector<Result<SealedRecord>> sealed_records(std::span<const CmkId> ids) const;

  // Keys of every purpose but kVolumeKey. One intent before and one result after per call; one
  // result per key, in order. unwrap() takes blobs of several CMKs. The vault is given kUseTimeMax.
  //   kWrongPurpose, kBlobInvalid   as KeyVault.
  //   kKeyDisabled, …               the CMK's state; an archived one still unwraps.
  //   kKeyUsage                     not a symmetric key.
  //   kKeyExhausted                 the version has wrapped 2^32 keys: rotate() or replace it.
  std::vector<Result<WrappedKey>> wrap(const CmkId& id, std::span<const KeyVault::Plain> keys,
                                       const audit::Actor& actor);
  std::vector<Result<SecretBytes>> unwrap(std::span<const Presented> keys,
                                          const audit::Actor& actor);

  // Wraps keys anew under the current version of `to`: nothing of them leaves the vault. Keys of
  // every purpose; of a volume's the context stays as it is. One intent and one result per CMK that
  // the keys come from.
  std::vector<Result<WrappedKey>> rewrap(const CmkId& to, std::span<const Rewrapped> keys,
                                         const audit::Actor& actor);

  // Private keys. kKeyUsage, kInvalidArgs, kBlobInvalid as KeyVault.
  std::vector<Result<Bytes>> sign(const CmkId& id, SignScheme scheme,
                                  std::span<const Bytes> digests, const audit::Actor& actor);
  std::vector<Result<SecretBytes>> decrypt(const CmkId& id, DecryptScheme scheme,
                                           std::span<const Bytes> ciphertexts,
                                           const audit::Actor& actor);

  // Makes a DEK per request under the current version of `id`, and hands each to the holder of
  // `ticket`, index by index from `first_index`. One result per request, in order. `actor` is who a
  // new lease of uses is recorded for. kHsmTimeout: `deadline` passed first.
  std::vector<Result<WrappedKey>> make_deks(const CmkId& id, std::span<const DekRequest> requests,
                                            const Ticket& ticket, std::uint32_t first_index,
                                            const audit::Actor& actor, Deadline deadline);

  // Makes a DEK whose shares are wrapped under the current versions of several CMKs, and hands it
  // to the holder of the ticket. All or nothing; errors as KeyVault::make_shared_dek() and
  // make_deks().
  Result<SharedDek> make_shared_dek(const SharedDekOrder& order, const audit::Actor& actor,
                                    Deadline deadline);

  // Unwraps each key under the version that made it and hands it to the holder of `ticket`: one
  // call of the vault per CMK. One result per key, in order.
  //   kBlobInvalid     the blob or its context is not what make_deks() produced.
  //   kTicketUnknown, kWrongKey, kWorkerLost   the worker does not take it.
  //   kHsmTimeout      `deadline` passed before its turn, or before the vault answered.
  std::vector<Result<void>> deliver(std::span<const DekDelivery> deliveries, const Ticket& ticket,
                                    Deadline deadline);

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace coffer::keyring

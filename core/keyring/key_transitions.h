// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <string>

#include "core/audit/audit_log.h"
#include "core/keyring/key_store.h"
#include "core/keyring/key_vault.h"
#include "core/keyring/keyring.h"
#include "core/keyring/stored_records.h"

namespace coffer::keyring {

// KeyTransitions changes keys for the Keyring, in the order that survives a crash anywhere: audit
// intent; the vault's new record; one store transaction with the intent's sequence; presented to
// the vault; audit result. It also closes what a crash left open.
//
// Thread-safe; every call may block. One change of a key at a time.
class KeyTransitions {
 public:
  // Owns nothing; all of them outlive it.
  KeyTransitions(KeyVault& vault, KeyStore& store, audit::AuditLog& log, const Clock& clock)
      : vault_(vault), store_(store), log_(log), clock_(clock) {
    if (const auto head = log.head_found()) begun_after_ = head->sequence;
  }

  // Set before the first call.
  void set_observer(Keyring::Observer observer) { observer_ = std::move(observer); }

  // What a change does while another one of the same key is under way. Leases are our own doing and
  // bindings go together, so they neither refuse a caller nor are refused; all end by the vault's
  // and the store's own deadlines.
  enum class Turn : std::uint8_t {
    kNow,   // kInProgress; but it waits for one that waits itself.
    kWait,  // Goes after it.
  };

  Result<CmkRecord> create(CmkParameters parameters, const audit::Actor& actor);
  // A change that is already so succeeds and does nothing. kInProgress: somebody else changes it.
  // kKeyBound: it takes the key from what is bound to it; also a time for the material of a bound
  // key, whatever `when_bound`.
  Result<CmkRecord> change(const CmkId& id, const CmkChange& change, const audit::Actor& actor,
                           WhenBound when_bound = WhenBound::kGoOn);
  // A change of our own in the midst of a use: waits for its turn, not beyond `deadline`
  // (kHsmTimeout), and leaves it to the caller to tell() the observer, once it holds no lock.
  Result<CmkRecord> change_quietly(const CmkId& id, const CmkChange& change,
                                   const audit::Actor& actor, Deadline deadline);
  void tell(const CmkRecord& record) const;
  // The same with a record that `make` gets from the vault; `operation` is "key.…".
  using Make = std::function<Result<SealedRecord>(ByteView current)>;
  Result<CmkRecord> change_by(const CmkId& id, const std::string& operation, const Make& make,
                              const audit::Actor& actor);
  // A change beside the record: `store` makes it in one transaction that keeps the intent.
  using Store = std::function<Result<void>(const CmkRecord& record, std::uint64_t intent)>;
  Result<void> change_beside(const CmkId& id, const std::string& operation, const std::string& text,
                             const Store& store, const audit::Actor& actor, Turn turn);
  // kKeyBound: something uses the key.
  Result<void> require_unbound(const CmkId& id, const std::string& operation);
  Result<void> require_may_lose_version(const CmkRecord& record, std::uint32_t number,
                                        WhenBound when_bound) const;
  Result<CmkRecord> adopt(const SealedRecord& sealed, const audit::Actor& actor);

  Result<std::size_t> reconcile();

  // Shows the vault what it was not shown when it was stored: until then it would take the record
  // before. Those that it does not take now are told, and stay to be shown.
  std::vector<Error> present_again();

  // Records that a request was turned away before its intent, and hands the error on.
  tl::unexpected<Error> refused(const Error& error, const std::string& operation,
                                const std::optional<CmkId>& id, const audit::Actor& actor);

 private:
  // A change, from its intent to its result.
  struct Plan {
    CmkId id;
    std::string operation;
    std::string text;                     // For people.
    std::uint64_t expected_revision = 0;  // What the store holds; 0: nothing.
    std::function<Result<SealedRecord>()> make;
  };
  // Whoever holds a Claim is the only one that changes the key.
  class Claim;
  // The steps of a change, for whoever holds the key's claim. `made`: what is stored, also when the
  // result could not be recorded.
  Result<CmkRecord> carry_out(const Plan& plan, const audit::Actor& actor,
                              std::optional<CmkRecord>& made);
  // The same, then the claim is given back, and the observer hears of it.
  Result<CmkRecord> carry_out_and_tell(Claim claimed, const Plan& plan, const audit::Actor& actor);
  // `act(intent, is_unknown)`, which gives a Result, between intent and result. It is given the
  // intent's sequence, and says `is_unknown` when it fails and cannot tell what is stored.
  template <class Act>
  auto between_records(const CmkId& id, const std::string& operation, const std::string& text,
                       const audit::Actor& actor, Act act);
  Result<CmkRecord> store_and_present(const Plan& plan, std::uint64_t intent, bool& is_unknown);
  // Whether the change of that intent is in the store.
  bool is_stored(const CmkId& id, std::uint64_t intent, bool& is_unknown);
  Result<Claim> claim(const CmkId& id, Turn turn, std::optional<Deadline> deadline = {});
  Result<void> present(const SealedRecord& sealed, const CmkRecord& record);
  Result<audit::Event> closing_event(const audit::Record& intent);

  KeyVault& vault_;
  KeyStore& store_;
  audit::AuditLog& log_;
  const Clock& clock_;
  // Everything up to here was recorded by a process before this one; only that is reconciled. None:
  // the journal was not open yet.
  std::optional<std::uint64_t> begun_after_;
  Keyring::Observer observer_;

  std::mutex mutex_;  // Guards changing_.
  std::condition_variable changed_;
  std::map<CmkId, Turn> changing_;  // Keys in the middle of a change.
};

// "key.rotate" and so on: the operations of the audit trail.
std::string change_operation(const CmkChange& change);

// Whether what is bound to a key can no longer do with it after `change` what it did before.
bool takes_key_away(const CmkChange& change);

}  // namespace coffer::keyring

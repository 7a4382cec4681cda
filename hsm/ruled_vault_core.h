// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <utility>

#include "hsm/rooted_keys.h"
#include "hsm/ruled_vault.h"

// The inside of RuledVault, for its own sources: ruled_vault.cc (calls), ruled_vault_core.cc
// (records, seals, keys), ruled_import.cc and ruled_shares.cc.
namespace coffer::hsm {

using keyring::CmkRecord;
using keyring::KekProfile;
using keyring::KeyContext;
using keyring::KeyVersion;
using keyring::Presented;
using keyring::SealedRecord;
using keyring::WrappedKey;

// What a group of keys that the token is given at once may take.
constexpr std::chrono::milliseconds kGroupTimeMax{2};

// Pace is how long keys took lately, each. What is older than kFreshMax says nothing: by then the
// token may be another one, or away.
//
// Thread-safe.
class Pace {
 public:
  static constexpr std::chrono::milliseconds kFreshMax{100};

  std::optional<SteadyTime::duration> lately(SteadyTime now) const {
    const std::lock_guard lock(mutex_);
    if (!each_ || now - noted_ > kFreshMax) return std::nullopt;
    return each_;
  }
  void note(SteadyTime now, SteadyTime::duration each) {
    const std::lock_guard lock(mutex_);
    noted_ = now;
    each_ = each;
  }

 private:
  mutable std::mutex mutex_;  // Guards what follows.
  std::optional<SteadyTime::duration> each_;
  SteadyTime noted_{};
};

inline Error wrong_length(Reason reason) {
  return {reason, "the key has another length than its context says"};
}

inline keyring::DekLabel label_of(const KeyContext& context) {
  return {context.profile_digest, context.shares};
}

// How long a key may take to be handed over once the time for its call is over: it was unwrapped in
// that time, and giving up would leave open whether the worker has it. The caller's own time ends
// later than the call's (VaultClient).
inline constexpr std::chrono::milliseconds kHandOverMax{200};

inline Deadline hand_over_by(Deadline deadline) {
  return Deadline(deadline.at() + kHandOverMax);
}

class RuledVault::Core {
 public:
  Core(const Parts& given, const UseLimits& use_limits)
      : parts(given), limits(use_limits), rooted(given.token) {}

  Result<SealedRecord> create(const keyring::CmkParameters& parameters);
  Result<SealedRecord> change(ByteView current, const keyring::CmkChange& change);

  Result<keyring::ImportParameters> prepare_import(ByteView current,
                                                   keyring::ImportWrapping wrapping);
  Result<SealedRecord> import_material(ByteView current, const keyring::ImportMaterial& material);

  // The record in `sealed`, after its root key and seal were checked, and counted as used.
  Result<CmkRecord> open_and_present(ByteView sealed);

  // Wraps `plain` under the current version, bound to `context`. Its use was taken before.
  Result<WrappedKey> encrypt(const CmkRecord& record, std::span<const std::byte> plain,
                             const KeyContext& context);
  Result<SecretBytes> decrypt(const CmkRecord& record, const Presented& key, PurposeRule rule);
  // The same of several that the token is given at once, after all that is asked of each was
  // checked. No volume's keys. One result per key, in order.
  std::vector<Result<WrappedKey>> encrypt_some(const CmkRecord& record,
                                               std::span<const keyring::KeyVault::Plain> keys);
  std::vector<Result<SecretBytes>> decrypt_some(const CmkRecord& record,
                                                std::span<const Presented> keys);

  // One use of a private key, whose usage was checked before.
  Result<Bytes> sign(const CmkRecord& record, keyring::SignScheme scheme, ByteView digest);
  Result<SecretBytes> decrypt_asymmetric(const CmkRecord& record, keyring::DecryptScheme scheme,
                                         ByteView ciphertext);

  // Forgets versions whose material is gone, and removes what is left of them in the token.
  Result<void> clear_gone(const CmkRecord& record);

  // The same of a key that may wrap now, with `count` more wraps of its current version counted:
  // before they are made, as one that fails half-way may have used its nonce.
  //   kKeyExhausted   the record has not leased them.
  Result<CmkRecord> open_to_wrap(ByteView sealed, std::size_t count);
  // Of those, wraps that the time did not suffice for: nothing was done for them.
  void give_back_uses(const CmkRecord& record, std::size_t count);
  // The same of a key that may unwrap now, or be used in that way.
  Result<CmkRecord> open_to_unwrap(ByteView sealed);
  Result<CmkRecord> open_to_use(ByteView sealed, keyring::KeyUsage usage);

  Result<keyring::SharedDek> make_shared_dek(const keyring::SharedDekRequest& request,
                                             Deadline deadline);

  // A volume's DEK as its context asks for it.
  Result<SecretBytes> draw_dek(const KeyContext& context);

  // Of keys that are used where this one is: in the token, or in locked memory.
  Pace& pace_of(const CmkRecord& record) {
    return record.protection == keyring::Protection::kRooted ? rooted_pace_ : token_pace_;
  }

  const Parts parts;
  const UseLimits limits;
  RootedKeys rooted;

 private:
  // The protection of a key as it is asked for, or as this token can give it.
  //   kUnsupported   the token has no such keys.
  Result<keyring::Protection> choose_protection(const keyring::CmkParameters& parameters);
  // The next revision of `record` as it was just changed, above every one that was presented.
  Result<SealedRecord> seal_next(CmkRecord record);
  // One more use of the private key of the record's offer.
  //   kImportTokenExpired   there were too many.
  Result<void> count_attempt(const CmkRecord& record);
  // The key in `material`, whose token fits `record`: a symmetric one's bytes, or a pair.
  Result<KeyPair> unwrap_import(const CmkRecord& record, const keyring::ImportMaterial& material);
  // What tells the same material from other, and nothing else about it.
  Result<Bytes> material_digest(const CmkRecord& record, const KeyPair& key);
  // Puts it in as the key of the current version, which has none.
  Result<void> take_in(CmkRecord& record, KeyPair key);
  Result<Bytes> import_token(const CmkRecord& record, const keyring::ImportOffer& offer);
  // The key of the current version, which has none yet.
  Result<void> make_material(CmkRecord& record);
  Result<CmkRecord> open(ByteView sealed);
  Result<void> take_uses(const CmkRecord& record, std::size_t count);
  // Splits `dek` and wraps the shares, each under its record.
  Result<keyring::SharedDek> wrap_shares(const keyring::SharedDekRequest& request,
                                         std::span<const CmkRecord> records, const SecretBytes& dek,
                                         Deadline deadline);
  Result<SealedRecord> seal(const CmkRecord& record);
  Result<void> require_mac(const WrappedKey& blob, ByteView aad);
  // In the token, or in locked memory, as the key's protection says. One result per job.
  std::vector<Result<Ciphertext>> run(const TokenKey& key, std::span<const EncryptJob> jobs);
  std::vector<Result<SecretBytes>> run(const TokenKey& key, std::span<const DecryptJob> jobs);
  // The blob of a key, without what the token adds, and what the token is to do.
  struct Wrapping {
    WrappedKey blob;
    Bytes aad;
    SecretBytes text;  // With its commitment.

    EncryptJob job() const { return {text.reveal(), aad}; }
  };
  static Result<Wrapping> begin_wrap(const CmkRecord& record, std::span<const std::byte> plain,
                                     const KeyContext& context);
  Result<WrappedKey> finish_wrap(Wrapping wrapping, Result<Ciphertext> made);
  // What the token is to do for `key`, and under which version.
  struct Unwrapping {
    const KeyVersion* version = nullptr;
    Bytes aad;
  };
  Result<Unwrapping> begin_unwrap(const CmkRecord& record, const Presented& key, PurposeRule rule);
  static DecryptJob job_of(const Presented& key, const Unwrapping& unwrapping);
  static Result<SecretBytes> finish_unwrap(const Presented& key, Result<SecretBytes> plain);

  Pace token_pace_;
  Pace rooted_pace_;

  // Groups of keys go to the token in turn: two at a time take SoftHSM more than twice as long, as
  // its sessions wait for each other at every call. Nobody waits for a turn longer than a group
  // takes, so one that hangs holds up nobody.
  class GroupTurn;
  std::mutex turn_mutex_;  // Guards turn_taken_.
  std::condition_variable turn_over_;
  bool turn_taken_ = false;

  std::mutex mutex_;  // Guards what follows.
  std::map<Bytes, CmkRecord> known_records_;
  // Wraps made since this process started, of the newest version of each key. It may be fewer than
  // were ever made: who keeps the store counts a lease as used up when it starts. With
  // limits.counted_max keys the one with the fewest makes room, and begins anew when it comes back.
  std::map<std::pair<CmkId, std::uint32_t>, std::uint64_t> uses_;
  // The nonce of the newest offer that was tried, and how often.
  std::map<CmkId, std::pair<Bytes, unsigned>> import_attempts_;
};

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/cmk_record.h"
#include "core/keyring/key_context.h"
#include "core/keyring/wrapped_key.h"

namespace coffer::keyring {

// A ticket names one delivery of DEKs: drawn by cofferd, told to the worker, which must have
// acknowledged it before the vault hears of it.
using Ticket = std::array<std::byte, 16>;
Result<Ticket> draw_ticket();

struct CmkParameters {
  std::string alias;
  std::string description;
  KeyAlgorithm algorithm = KeyAlgorithm::kAes256;
  Protection protection = Protection::kWrapped;
  KeyOwner owner = KeyOwner::kUser;
  std::optional<CmkId>
      id;  // Drawn by the caller so that its audit intent can name it; else random.
};

// A change of a record. Every one makes revision + 1.
enum class CmkChange : std::uint8_t {
  kEnable = 1,   // Disabled -> Enabled.
  kDisable = 2,  // Enabled -> Disabled.
  kRotate = 3,   // Enabled: a new current version, the old one decrypt-only.
  kAdopt = 4,    // A record from a volume's token -> Disabled, whatever it was.
  kLease = 5,    // The current version: one more block of uses.
};

enum class VaultState : std::uint8_t {
  kUp = 1,
  kAbsent = 2,       // kHsmAbsent
  kLoginNeeded = 3,  // kHsmLoginNeeded: no PIN.
  kPinRefused = 4,   // kHsmPinIncorrect: not tried again until the credential changes.
  kPinLocked = 5,    // kHsmPinLocked
  kFailed = 6,       // kHsmFailed, kHsmTimeout
};
std::string_view vault_state_name(VaultState state) noexcept;  // "up", "absent", "login-needed", …

struct VaultHealth {
  VaultState state = VaultState::kAbsent;
  std::string detail;  // One sentence for an operator.
  std::string token_label;
  std::string token_serial;
  std::string root_id;  // As CmkRecord::root_id; "" before `coffer init`.
  TokenKind kind = TokenKind::kSoftware;
  KekProfile profile = KekProfile::kAesGcm;
  std::chrono::microseconds latency{0};  // Of the probe just made.
  std::uint64_t failures = 0;            // Since start.
};

// A wrapped key presented for use, with the context its user expects it to be bound to.
struct Presented {
  WrappedKey blob;
  KeyContext context;
};

// DekSink takes the DEKs a vault delivers. Its makers are the vault process's connection to the
// worker's delivery socket, and fakes.
class DekSink {
 public:
  virtual ~DekSink() = default;
  // Hands over the key at `index` of the delivery `ticket`, for the volume whose pinned profile has
  // `profile_digest`; waits no longer than until `deadline`.
  //   kTicketUnknown  the worker does not expect it.
  //   kWorkerLost     no answer: it may have the key.
  virtual Result<void> deliver(const Ticket& ticket, std::uint32_t index,
                               const Digest& profile_digest, const SecretBytes& dek,
                               Deadline deadline) = 0;
};

// KeyVault is the only place where CMK bytes exist. Makers: the PKCS#11 token, the development
// vault and the client of the vault process (hsm/); code above cannot tell which it has. One
// contract suite runs against each: tests/contract/key_vault_contract.h.
//
// The vault keeps no store of keys. Each call brings the sealed record of the CMK; the vault checks
// its seal and state, and refuses one older than the newest it has been asked to use.
//
// A call takes at most kKeysPerCallMax keys; with more, every result is kLimitsExceeded. Its keys
// are taken one after another. None is begun once `deadline` has passed, and no further one that
// would end after it by what the others took: what was finished counts, and those that were not
// begun are kHsmTimeout.
//
// Thread-safe. Every call may block on hardware for up to its maker's stated deadline, so none is
// made on an event loop. Errors of every call beside those named:
//   kHsmAbsent, kHsmLoginNeeded, kHsmPinIncorrect, kHsmPinLocked, kHsmTimeout, kHsmBusy, kHsmFailed
//                       the token; nothing changed. kHsmTimeout of one key of several: the time
//                       was over before its turn; asking for it again is safe. Of a vault in
//                       another process kHsmTimeout and kHsmAbsent also mean that its answer did
//                       not come: then any of the keys may have been wrapped or delivered.
//   kRecordInvalid      the seal does not hold, or the record is of another root key.
//   kRecordSuperseded   a newer revision of the record was already used.
class KeyVault {
 public:
  static constexpr std::size_t kKeysPerCallMax = 256;

  virtual ~KeyVault() = default;

  // Makes a CMK and its first record. kUnsupported: the token cannot give that protection.
  virtual Result<SealedRecord> create_cmk(const CmkParameters& parameters) = 0;

  // The next revision of `current` after `change`. Presents `current`, and for kAdopt alone takes
  // one that is superseded: the revision of the result lies above all that were ever presented.
  //   kKeyDisabled, kKeyArchived, kKeyPendingDeletion, kInvalidArgs  not from this state.
  //   kLimitsExceeded   no room for another version.
  //   kKeyExhausted     kLease: the version has handed out all its uses (2^32).
  virtual Result<SealedRecord> change_cmk(ByteView current, CmkChange change) = 0;

  // Checks the seal of `record` and counts it as used: from now on an older revision is refused,
  // and so is another record of the same revision. Whoever stored a change presents it at once.
  virtual Result<void> present(ByteView record) = 0;

  // Wraps each of `keys` under the current version, bound to its context. One result per key.
  //   kWrongPurpose       purpose is kVolumeKey: use make_deks().
  //   kKeyDisabled, kKeyArchived, …  the CMK's state.
  //   kKeyExhausted       more wraps than the record has leased (CmkChange::kLease gives more).
  //   kInvalidArgs        the context is outside its limits, or key_bytes is not the key's length.
  struct Plain {
    SecretBytes key;
    KeyContext context;
  };
  virtual std::vector<Result<WrappedKey>> wrap(ByteView record, std::span<const Plain> keys,
                                               Deadline deadline) = 0;

  // Unwraps each of `keys` under the version that made it. One result per key.
  //   kWrongPurpose       purpose is kVolumeKey: such a key is only ever delivered.
  //   kBlobInvalid        the blob or its context is not what wrap() produced.
  virtual std::vector<Result<SecretBytes>> unwrap(ByteView record, std::span<const Presented> keys,
                                                  Deadline deadline) = 0;

  // Makes a random DEK for each of `contexts` (purpose kVolumeKey), wraps it and delivers it under
  // `ticket`, index by index from `first_index`. A key that could not be delivered is not returned:
  // its result is the error of the sink.
  virtual std::vector<Result<WrappedKey>> make_deks(ByteView record,
                                                    std::span<const KeyContext> contexts,
                                                    const Ticket& ticket, std::uint32_t first_index,
                                                    Deadline deadline) = 0;

  // Unwraps each of `keys` and delivers it under `ticket`, with its index in `indexes`.
  //   kWrongPurpose       purpose is not kVolumeKey.
  //   kBlobInvalid        the blob or its context is not what make_deks() produced.
  virtual std::vector<Result<void>> deliver(ByteView record, std::span<const Presented> keys,
                                            const Ticket& ticket,
                                            std::span<const std::uint32_t> indexes,
                                            Deadline deadline) = 0;

  // Random bytes from the token.
  virtual Result<SecretBytes> random(std::size_t size_bytes) = 0;

  // Probes the token now.
  virtual VaultHealth health() = 0;
};

}  // namespace coffer::keyring

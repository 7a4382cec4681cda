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
  KeyUsage usage = KeyUsage::kEncryptDecrypt;
  std::optional<Protection> protection{};  // None: wrapped where the token wraps, else rooted.
  KeyOwner owner = KeyOwner::kUser;
  KeyOrigin origin = KeyOrigin::kGenerated;  // kImported: it begins as PendingImport.
  // Drawn by the caller so that its audit intent can name it; else random.
  std::optional<CmkId> id;
};

// A change of a record. Every one makes revision + 1. Those without arguments are written as their
// kind alone: `CmkChange::kEnable`.
struct CmkChange {
  enum Kind : std::uint8_t {
    kEnable = 1,         // Disabled -> Enabled.
    kDisable = 2,        // Enabled -> Disabled.
    kRotate = 3,         // Enabled: a new current version, the old one decrypt-only. When the key
                         // rotates by itself, the next time is counted from now.
    kAdopt = 4,          // A record from a volume's token -> Disabled, whatever it was; one in
                         // PendingDelete stays so. What the vault was shown to be gone stays gone.
    kLease = 5,          // The current version: one more block of uses.
    kArchive = 6,        // Enabled, Disabled -> Archived.
    kCancelArchive = 7,  // Archived -> Enabled.
    // Disabled, PendingImport -> PendingDelete, to be gone in `days` (7-30).
    kScheduleDeletion = 8,
    kCancelDeletion = 9,   // PendingDelete -> Disabled; without material -> PendingImport.
    kDestroy = 10,         // PendingDelete, its time has come -> Destroyed: no version is left.
    kSetRotation = 11,     // `days`, 0: off. Generated symmetric keys alone.
    kDescribe = 12,        // `alias`, `description`; what is not given stays.
    kDeleteMaterial = 13,  // Imported keys -> PendingImport. What is left is the digest.
    kExpireMaterial = 14,  // The same, once its material is no longer valid; drops an offer whose
                           // time is over, which every other change does too.
    kDestroyVersion = 15,  // `version`, which is not the current one, unwraps nothing any more.
    kSetValidTo = 16,      // Imported keys with material: `time`, or none: it does not expire.
  };

  CmkChange(Kind change) : kind(change) {}  // NOLINT(google-explicit-constructor): see above.

  static constexpr std::uint32_t kDeletionDaysMin = 7;
  static constexpr std::uint32_t kDeletionDaysMax = 30;

  Kind kind;
  std::optional<WallTime> time{};
  std::uint32_t days = 0;
  std::uint32_t version = 0;
  std::optional<std::string> alias{};
  std::optional<std::string> description{};

  friend bool operator==(const CmkChange&, const CmkChange&) = default;
};

// kInvalidArgs: the alias or description that `change` gives is outside its limits.
Result<void> require_names(const CmkChange& change);

// How a private key is used. Hash and padding are part of it; the vault is given digests alone.
enum class SignScheme : std::uint8_t {
  kRsaPssSha256 = 1,    // Salt as long as the digest, MGF1-SHA-256. The signature as long as n.
  kRsaPkcs1Sha256 = 2,  // RFC 8017 section 8.2.
  kEcdsa = 3,           // DER. Digest of 32, 48 or 64 bytes, with either curve.
  kSm2 = 4,             // DER, over e = SM3(ZA || message), 32 bytes (GM/T 0003.2, GM/T 0009).
};
enum class DecryptScheme : std::uint8_t {
  kRsaPkcs1 = 1,  // With implicit rejection: a wrong padding gives other bytes, not an error.
  kRsaOaepSha1 = 2,
  kRsaOaepSha256 = 3,
  kSm2 = 4,  // ASN.1, C1C3C2 (GM/T 0009).
};
std::string_view sign_scheme_name(SignScheme scheme) noexcept;
std::string_view decrypt_scheme_name(DecryptScheme scheme) noexcept;

// What the owner of imported material needs to send it, and the record that expects it.
struct ImportParameters {
  SealedRecord record;
  Bytes public_key;  // SubjectPublicKeyInfo, DER: what the material is wrapped to.
  Bytes token;       // Opaque; of this key and this public key alone.
  WallTime valid_to{};
};
struct ImportMaterial {
  Bytes token;
  Bytes wrapped;                       // By the wrapping that the parameters were asked for.
  std::optional<WallTime> valid_to{};  // None: it does not expire.
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

// What keeps the root key, and how it is spoken to.
enum class VaultMaker : std::uint8_t { kPkcs11 = 1, kTpm2 = 2, kSdf = 3, kDevelopment = 4 };
std::string_view vault_maker_name(VaultMaker maker) noexcept;  // "pkcs11", "tpm2", "sdf", …

struct VaultHealth {
  VaultState state = VaultState::kAbsent;
  std::string detail;  // One sentence for an operator.
  std::string token_label;
  std::string token_serial;
  std::string root_id;  // As CmkRecord::root_id; "" before `coffer init`.
  TokenKind kind = TokenKind::kSoftware;
  KekProfile profile = KekProfile::kAesGcm;  // Of a new AES key.
  std::vector<KeySupport> supports;          // Ascending, each once.
  std::optional<VaultMaker> maker{};         // None: it was never asked with success.
  std::chrono::microseconds latency{0};      // Of the probe just made.
  std::uint64_t failures = 0;                // Since start.
};

// A wrapped key presented for use, with the context its user expects it to be bound to.
struct Presented {
  WrappedKey blob;
  KeyContext context;
};
// One that is to be wrapped anew. Of a volume's key the context stays, of a share its CMK too.
struct Rewrapped {
  Presented from;
  KeyContext to;
};

// A DEK that is to be made and split into one share per record (make_shared_dek).
struct SharedDekRequest {
  std::vector<SealedRecord> records;  // Of different CMKs: 2 to KeyShares::kTotalMax.
  std::uint8_t needed = 2;            // So many shares are the key: 2 to all.
  KeyContext context;                 // Of the key, without shares.
  Ticket ticket{};
  std::uint32_t index = 0;
};
struct SharedDek {
  KeyContext context;             // As asked for, with the set of shares.
  std::vector<WrappedKey> wraps;  // In the order of the records, bound to wrap_context().
};

// What goes to the worker with a key.
struct DekLabel {
  Digest profile_digest{};           // Of the volume's pinned profile.
  std::optional<KeyShares> share{};  // It is this share of the key, not the key.

  friend bool operator==(const DekLabel&, const DekLabel&) = default;
};

// DekSink takes the DEKs a vault delivers. Its makers are the vault process's connection to the
// worker's delivery socket, and fakes.
class DekSink {
 public:
  virtual ~DekSink() = default;
  // Hands over the key at `index` of the delivery `ticket`, or a share of it, as `label` says;
  // waits no longer than until `deadline`.
  //   kTicketUnknown  the worker does not expect it.
  //   kBlobInvalid    a share of another set than those it has.
  //   kWrongKey       the last share: what they make together is not the key.
  //   kWorkerLost     no answer: it may have the key.
  virtual Result<void> deliver(const Ticket& ticket, std::uint32_t index, const DekLabel& label,
                               const SecretBytes& dek, Deadline deadline) = 0;
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

  // Makes a CMK and its first record.
  //   kInvalidArgs   alias, description, or an algorithm that does not have the usage.
  //   kUnsupported   the token has no such keys: algorithm, usage, protection or origin; an
  //                  imported key of a service.
  virtual Result<SealedRecord> create_cmk(const CmkParameters& parameters) = 0;

  // The next revision of `current` after `change`. Presents `current`, and for kAdopt alone takes
  // one that is superseded: the revision of the result lies above all that were ever presented.
  //   kKeyDisabled, kKeyArchived, kKeyPendingDeletion, kKeyPendingImport, kKeyNotDisabled,
  //   kKeyNotArchived, kKeyNotPendingDeletion   not from this state.
  //   kServiceKey       a service's key is not disabled, archived, described or deleted.
  //   kKeyNotImported, kKeyImported   not with a key of this origin.
  //   kNoSuchKey        kAdopt: the key was destroyed, or all that this copy of it has.
  //   kKeyUsage         asymmetric keys do not rotate and lease nothing.
  //   kInvalidArgs      the change's arguments are outside their limits.
  //   kLimitsExceeded   no room for another version, or for a longer description.
  //   kKeyExhausted     kLease: the version has handed out all its uses (2^32).
  virtual Result<SealedRecord> change_cmk(ByteView current, const CmkChange& change) = 0;

  // Checks the seal of `record` and counts it as used: from now on an older revision is refused,
  // and so is another record of the same revision. Whoever stored a change presents it at once.
  virtual Result<void> present(ByteView record) = 0;

  // Wraps each of `keys` under the current version, bound to its context. One result per key.
  //   kWrongPurpose       purpose is kVolumeKey: use make_deks().
  //   kKeyDisabled, kKeyArchived, …  the CMK's state. kKeyPendingImport: its material is gone, or
  //   has
  //                       expired by the vault's clock.
  //   kKeyUsage           not a symmetric key.
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
  //   kInvalidArgs   a context with shares: those are made together.
  virtual std::vector<Result<WrappedKey>> make_deks(ByteView record,
                                                    std::span<const KeyContext> contexts,
                                                    const Ticket& ticket, std::uint32_t first_index,
                                                    Deadline deadline) = 0;

  // Makes a random DEK, splits it, wraps each share under the current version of one of the CMKs,
  // and delivers the whole under `request.ticket`: it was never wrapped as one. All or nothing.
  //   kInvalidArgs   the numbers, a CMK twice, or the context.
  //   as make_deks() for each of the CMKs, which the message names.
  virtual Result<SharedDek> make_shared_dek(const SharedDekRequest& request, Deadline deadline) = 0;

  // Unwraps each of `keys` and delivers it under `ticket`, with its index in `indexes`. Of a share
  // that is the share: the worker puts the key together.
  //   kWrongPurpose       purpose is not kVolumeKey.
  //   kBlobInvalid        the blob or its context is not what make_deks() produced.
  virtual std::vector<Result<void>> deliver(ByteView record, std::span<const Presented> keys,
                                            const Ticket& ticket,
                                            std::span<const std::uint32_t> indexes,
                                            Deadline deadline) = 0;

  // Wraps each of `keys` anew, under the current version of `to`, which may be the same key as
  // `from`: what is in them stays in the vault. One result per key.
  //   kWrongPurpose   a volume's key whose context would change, a share whose CMK would.
  //   as unwrap() for `from`, which may be archived, and as wrap() for `to`.
  virtual std::vector<Result<WrappedKey>> rewrap(ByteView from, ByteView to,
                                                 std::span<const Rewrapped> keys,
                                                 Deadline deadline) = 0;

  // Signs each digest with a private key. One result per digest. Signatures are checked with the
  // public key in the record, which needs no vault.
  //   kKeyUsage      the key does not sign, or not by that scheme.
  //   kInvalidArgs   a digest's length is not the scheme's.
  //   kKeyDisabled, kKeyArchived, kKeyPendingImport, …   as wrap().
  virtual std::vector<Result<Bytes>> sign(ByteView record, SignScheme scheme,
                                          std::span<const Bytes> digests, Deadline deadline) = 0;

  // Decrypts what was encrypted to a private key's public half. One result per ciphertext.
  //   kKeyUsage      the key does not decrypt, or not by that scheme.
  //   kBlobInvalid   it was not encrypted to this key, whatever the cause.
  //   kKeyDisabled, kKeyArchived, kKeyPendingImport, …   as wrap().
  virtual std::vector<Result<SecretBytes>> decrypt(ByteView record, DecryptScheme scheme,
                                                   std::span<const Bytes> ciphertexts,
                                                   Deadline deadline) = 0;

  // Makes the next revision of `current`, which expects material wrapped by `wrapping` within 24
  // hours; what was prepared before it is worth nothing any more.
  //   kKeyNotImported   its material was generated here.
  //   kServiceKey, kKeyPendingDeletion
  //   kUnsupported      no such wrapping for its algorithm (SM2 wraps SM4 alone, and private keys
  //                     come by RSA-AES key wrap alone), or the token keeps no rooted keys.
  virtual Result<ImportParameters> prepare_import(ByteView current, ImportWrapping wrapping) = 0;

  // Takes the material in, unwrapped in the vault's locked memory (no token of today unwraps by
  // SHA-256 and AES key wrap in one step), and makes the next revision: Enabled. Material is the
  // bytes of a symmetric key, or a private key in PKCS #8 (docs/formats/private-key.md), which
  // takes a second to check for RSA-4096.
  //   kImportTokenExpired   the token is too old, was superseded, is of another key, or was tried
  //                         too often.
  //   kImportRefused        the material does not unwrap, has another length than its algorithm, or
  //                         is no sound private key of it.
  //   kMaterialMismatch     it is not what was first imported into this key. A private key is the
  //                         same in every form of PKCS #8.
  //   kInvalidArgs          it has expired already, or would after 2147443200 (2038-01-18).
  //   kKeyDisabled, kKeyArchived, kKeyPendingDeletion, kKeyNotImported, kServiceKey
  virtual Result<SealedRecord> import_material(ByteView current,
                                               const ImportMaterial& material) = 0;

  // Random bytes from the token.
  virtual Result<SecretBytes> random(std::size_t size_bytes) = 0;

  // Probes the token now.
  virtual VaultHealth health() = 0;
};

}  // namespace coffer::keyring

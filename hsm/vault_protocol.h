// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/ipc/frame.h"
#include "core/keyring/key_vault.h"

namespace coffer::hsm {

// What a vault process and its client say to each other, in frames of core/ipc. The client is
// cofferd, which must never see a volume's DEK: no message of this protocol returns one, and no
// answer has a field that could. Format: docs/formats/vault-protocol.md.
enum class VaultRequest : std::uint16_t {
  kCreateCmk = 1,
  kChangeCmk = 2,
  kPresent = 3,
  kWrap = 4,
  kUnwrap = 5,
  kMakeDeks = 6,
  kDeliver = 7,
  kRandom = 8,
  kHealth = 9,
  kRewrap = 10,
  kSign = 11,
  kDecrypt = 12,
  kPrepareImport = 13,
  kImportMaterial = 14,
  kMakeSharedDek = 15,
};

inline constexpr std::size_t kKeyBytesMax = 4096;        // Of a key in wrap and unwrap.
inline constexpr std::size_t kResultTextBytesMax = 200;  // Of an error's text in a list of results.
inline constexpr std::size_t kDigestBytesMax = 64;       // In sign.
inline constexpr std::size_t kSignatureBytesMax = 512;   // RSA-4096.
inline constexpr std::size_t kCiphertextBytesMax = 1024;  // In decrypt.
inline constexpr std::size_t kImportTokenBytesMax = 128;
// What one result may take in an answer, beside the key or wrapped key in it.
inline constexpr std::size_t kResultOverheadBytes = kResultTextBytesMax + 32;
// What a wrapped key takes more than the key in it: header, nonce, tag, commitment, padding,
// lengths.
inline constexpr std::size_t kWrapOverheadBytes = 160;

// In front of every request stands how long the vault may work on it, counted from its receipt; a
// vault takes no longer than kRequestTimeMax, whatever stands there.
inline constexpr std::chrono::milliseconds kRequestTimeMax{30'000};
Bytes encode_request_time(std::chrono::milliseconds time);
struct TimedRequest {
  std::chrono::milliseconds time;
  ByteView body;  // What the functions below decode.
};
// kMessageInvalid: too short to hold a time.
Result<TimedRequest> decode_request_time(ByteView message);

// Requests. Each list is of one message, so at most KeyVault::kKeysPerCallMax long.
struct ChangeRequest {
  Bytes record;
  keyring::CmkChange change = keyring::CmkChange::kEnable;
};
struct WrapRequest {
  Bytes record;
  std::vector<keyring::KeyVault::Plain> keys;
};
struct UnwrapRequest {
  Bytes record;
  std::vector<keyring::Presented> keys;
};
struct MakeDeksRequest {
  Bytes record;
  std::vector<keyring::KeyContext> contexts;
  keyring::Ticket ticket{};
  std::uint32_t first_index = 0;
};
struct DeliverRequest {
  Bytes record;
  std::vector<keyring::Presented> keys;
  keyring::Ticket ticket{};
  std::vector<std::uint32_t> indexes;
};

struct RewrapRequest {
  Bytes from;
  Bytes to;  // The same as `from` when keys are rewrapped to its newest version.
  std::vector<keyring::Rewrapped> keys;
};
struct SignRequest {
  Bytes record;
  keyring::SignScheme scheme{};
  std::vector<Bytes> digests;
};
struct DecryptRequest {
  Bytes record;
  keyring::DecryptScheme scheme{};
  std::vector<Bytes> ciphertexts;
};
struct PrepareImportRequest {
  Bytes record;
  keyring::ImportWrapping wrapping{};
};
struct ImportRequest {
  Bytes record;
  keyring::ImportMaterial material;
};

// The parts of requests that stand once per key, for the client, which fills a message up with
// them.
Bytes encode_presented(const keyring::Presented& presented);
Bytes encode_context(const keyring::KeyContext& context);
// What stands before a key's bytes.
Bytes encode_plain_head(const keyring::KeyContext& context, std::size_t key_bytes);

Bytes encode_parameters(const keyring::CmkParameters& parameters);
Bytes encode_change(ByteView record, const keyring::CmkChange& change);
// What stands before the list of keys.
Bytes encode_keys_head(ByteView record, std::size_t count);
Bytes encode_make_head(ByteView record, const keyring::Ticket& ticket, std::uint32_t first_index,
                       std::size_t count);
Bytes encode_deliver_head(ByteView record, const keyring::Ticket& ticket,
                          std::span<const std::uint32_t> indexes);

// An empty `to` stands for `from`.
Bytes encode_rewrap_head(ByteView from, ByteView to, std::size_t count);
Bytes encode_sign_head(ByteView record, keyring::SignScheme scheme, std::size_t count);
Bytes encode_decrypt_head(ByteView record, keyring::DecryptScheme scheme, std::size_t count);
Bytes encode_shared_request(const keyring::SharedDekRequest& request);
Bytes encode_prepare_import(ByteView record, keyring::ImportWrapping wrapping);
Bytes encode_import(ByteView record, const keyring::ImportMaterial& material);

// kMessageInvalid: not what the functions above make, or over a limit. kNoMemory.
Result<keyring::CmkParameters> decode_parameters(ByteView body);
Result<ChangeRequest> decode_change(ByteView body);
Result<WrapRequest> decode_wrap(ByteView body);
Result<UnwrapRequest> decode_unwrap(ByteView body);
Result<MakeDeksRequest> decode_make_deks(ByteView body);
Result<DeliverRequest> decode_deliver(ByteView body);
Result<std::uint32_t> decode_random(ByteView body);
Result<RewrapRequest> decode_rewrap(ByteView body);
Result<SignRequest> decode_sign(ByteView body);
Result<DecryptRequest> decode_decrypt(ByteView body);
Result<keyring::SharedDekRequest> decode_shared_request(ByteView body);
Result<PrepareImportRequest> decode_prepare_import(ByteView body);
Result<ImportRequest> decode_import(ByteView body);

// Answers. A list holds one result per key, in order; those of unwrap are secret as a whole.
Bytes encode_results(std::span<const Result<keyring::WrappedKey>> results);
Bytes encode_results(std::span<const Result<Bytes>> results);
Bytes encode_results(std::span<const Result<void>> results);
Result<SecretBytes> encode_results(std::span<const Result<SecretBytes>> results);
Bytes encode_health(const keyring::VaultHealth& health);
Bytes encode_shared_dek(const keyring::SharedDek& made);
Bytes encode_import_parameters(const keyring::ImportParameters& parameters);

// `count` is how many were asked for. kMessageInvalid.
Result<std::vector<Result<keyring::WrappedKey>>> decode_wrapped_results(ByteView body,
                                                                        std::size_t count);
Result<std::vector<Result<void>>> decode_void_results(ByteView body, std::size_t count);
Result<std::vector<Result<SecretBytes>>> decode_secret_results(ByteView body, std::size_t count);
Result<std::vector<Result<Bytes>>> decode_signatures(ByteView body, std::size_t count);
Result<keyring::VaultHealth> decode_health(ByteView body);
Result<keyring::SharedDek> decode_shared_dek(ByteView body);
Result<keyring::ImportParameters> decode_import_parameters(ByteView body);

}  // namespace coffer::hsm

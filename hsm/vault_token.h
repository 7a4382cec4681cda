// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "core/keyring/cmk_record.h"
#include "core/keyring/key_vault.h"
#include "core/keyring/wrapped_key.h"

namespace coffer::hsm {

using Mac = std::array<std::byte, 32>;  // HMAC-SHA-256

// Which of the token's two HMAC keys: the one that seals records, or the one that binds wraps whose
// mechanism binds nothing (every profile but AES-GCM).
enum class MacKey : std::uint8_t { kSeal = 1, kWrap = 2 };

// One version of a CMK, as a token is asked to use it. The views live as long as the call.
struct TokenKey {
  const keyring::CmkRecord& record;  // Already checked: seal, revision and state.
  const keyring::KeyVersion& version;
};

// What one encryption gave; `tag` is empty but for AES-GCM: the rules add the HMAC.
struct Ciphertext {
  Bytes nonce;
  Bytes bytes;
  Bytes tag;
};
struct EncryptJob {
  std::span<const std::byte> plain;
  ByteView aad;  // Used by AES-GCM; the other profiles are bound by the HMAC over it.
};
struct DecryptJob {
  ByteView nonce;
  ByteView bytes;
  ByteView tag;  // AES-GCM alone.
  ByteView aad;
};

// VaultToken is what a token does: keys, MACs, encryption, random bytes, nothing about records,
// states or purposes. Those rules are RuledVault's, which makes a KeyVault of any VaultToken, so
// that every maker enforces the same. Makers: the PKCS#11 token, the development vault's software
// token.
//
// Thread-safe; calls block. Errors of every call: kHsm… (as KeyVault).
class VaultToken {
 public:
  struct Identity {
    std::string
        root_id;  // As CmkRecord::root_id. kHsmLoginNeeded and so on while it cannot be read.
    keyring::TokenKind kind = keyring::TokenKind::kSoftware;
    keyring::KekProfile profile = keyring::KekProfile::kAesGcm;  // For new versions.
  };

  virtual ~VaultToken() = default;

  virtual Result<Identity> identity() = 0;

  // HMAC-SHA-256 of `message` by a token key; of its SHA-256 where the token takes short ones
  // alone.
  virtual Result<Mac> mac(MacKey key, ByteView message) = 0;

  // Generates the key of version `number` of `cmk` and returns its material: wrapped by the root
  // key, or the name of a resident object. kUnsupported: not with that algorithm or protection.
  virtual Result<Bytes> generate(const CmkId& cmk, std::uint32_t number,
                                 keyring::KeyAlgorithm algorithm,
                                 keyring::Protection protection) = 0;

  // Encrypts each job under `key` with the profile of its version. One result per job, in order.
  virtual std::vector<Result<Ciphertext>> encrypt(const TokenKey& key,
                                                  std::span<const EncryptJob> jobs) = 0;
  // kBlobInvalid: authentication failed (AES-GCM), or the ciphertext is malformed.
  virtual std::vector<Result<SecretBytes>> decrypt(const TokenKey& key,
                                                   std::span<const DecryptJob> jobs) = 0;

  virtual Result<SecretBytes> random(std::size_t size_bytes) = 0;
  virtual keyring::VaultHealth health() = 0;
};

}  // namespace coffer::hsm

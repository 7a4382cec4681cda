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

// A key that was made in the token.
struct NewKey {
  Bytes material;    // Wrapped by the root key, or the name of a resident object.
  Bytes public_key;  // SubjectPublicKeyInfo, DER, of asymmetric keys.
};

// VaultToken is what a token does: keys, MACs, encryption, random bytes, nothing about records,
// states or purposes. Those rules are RuledVault's, which makes a KeyVault of any VaultToken, so
// that every maker enforces the same. Makers: the PKCS#11 token, the development vault's software
// token.
//
// Keys of protection kRooted are not a token's business but for close_rooted() and open_rooted():
// RootedKeys (rooted_keys.h) uses them in locked memory, for every maker alike.
//
// Thread-safe; calls block. Errors of every call: kHsm… (as KeyVault). What a maker leaves out is
// kUnsupported.
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

  // What generate() can make, of kResident and kWrapped; ascending.
  virtual Result<std::vector<keyring::KeySupport>> supports() = 0;

  // HMAC-SHA-256 of `message` by a token key; of its SHA-256 where the token takes short ones
  // alone.
  virtual Result<Mac> mac(MacKey key, ByteView message) = 0;

  // Generates the key of version `number` of `cmk` inside the token.
  //   kUnsupported   not of that kind.
  virtual Result<NewKey> generate(const CmkId& cmk, std::uint32_t number,
                                  const keyring::KeySupport& kind) = 0;

  // Whether import_key() ever succeeds. Where it does not, imported keys are rooted.
  virtual bool takes_keys_in() const noexcept { return false; }
  // Takes a symmetric key in, as generate() would have made it.
  //   kUnsupported   not of that kind, or never.
  virtual Result<NewKey> import_key(const CmkId& cmk, std::uint32_t number,
                                    const keyring::KeySupport& kind, const SecretBytes& key);

  // Removes what is left in the token of a version that is gone: the object of a resident key, what
  // is open of a wrapped one. Nothing there is no error.
  virtual Result<void> destroy(const CmkId& cmk, std::uint32_t number);

  // Encrypts each job under `key` with the profile of its version. One result per job, in order.
  virtual std::vector<Result<Ciphertext>> encrypt(const TokenKey& key,
                                                  std::span<const EncryptJob> jobs) = 0;
  // kBlobInvalid: authentication failed (AES-GCM), or the ciphertext is malformed.
  virtual std::vector<Result<SecretBytes>> decrypt(const TokenKey& key,
                                                   std::span<const DecryptJob> jobs) = 0;

  // Signs a digest of the scheme's length; decrypts what was encrypted to the public key.
  //   kBlobInvalid   not encrypted to this key, whatever the cause.
  virtual Result<Bytes> sign(const TokenKey& key, keyring::SignScheme scheme, ByteView digest);
  virtual Result<SecretBytes> decrypt_asymmetric(const TokenKey& key, keyring::DecryptScheme scheme,
                                                 ByteView ciphertext);

  // Whether it has a key for what follows; without one there are neither rooted keys nor imports.
  virtual Result<bool> keeps_rooted() { return false; }

  // Encrypts the bytes of a rooted key, 1 to 3072, by a key of the token, and authenticates them
  // with `aad`. The result, at most 4096 bytes, is KeyVersion::material.
  virtual Result<Bytes> close_rooted(const SecretBytes& key, ByteView aad);
  //   kRecordInvalid   not what close_rooted() made with this `aad`.
  virtual Result<SecretBytes> open_rooted(ByteView material, ByteView aad);

  virtual Result<SecretBytes> random(std::size_t size_bytes) = 0;
  virtual keyring::VaultHealth health() = 0;
};

}  // namespace coffer::hsm

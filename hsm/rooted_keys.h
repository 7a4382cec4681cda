// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/key_pair.h"
#include "hsm/vault_token.h"

namespace coffer::hsm {

// RootedKeys is what keys of protection kRooted are used by, whatever the token: their bytes lie
// closed under a key of the token (VaultToken::close_rooted), bound to CMK, version and algorithm,
// and are opened into locked memory to be used there. So a token that knows neither SM2 nor SM4
// serves them, and AES runs at the processor's speed; what it costs is that the key leaves the
// token for this process, which the key's protection tells everybody.
//
// Opened keys are kept, the last used ones, until the process ends or drop() is called. Private
// keys of RSA and EC stand in OpenSSL's own memory, wiped when they are freed; all others in
// locked memory.
//
// Thread-safe. Errors as VaultToken.
class RootedKeys {
 public:
  static constexpr std::size_t kKeysMax = 1024;

  // `token` outlives it.
  explicit RootedKeys(VaultToken& token, std::size_t keys_max = kKeysMax);
  ~RootedKeys();
  RootedKeys(const RootedKeys&) = delete;
  RootedKeys& operator=(const RootedKeys&) = delete;

  // Of a key of a symmetric algorithm.
  static std::size_t symmetric_bytes(keyring::KeyAlgorithm algorithm) noexcept;

  // Every algorithm with each use that it can have.
  static std::vector<keyring::KeySupport> supports();

  // RSA takes seconds.
  Result<NewKey> generate(const CmkId& cmk, std::uint32_t number, const keyring::KeySupport& kind);
  // A symmetric key's bytes, or a pair that imported_pair() found good.
  //   kImportRefused  not of a symmetric algorithm's length, or half a pair.
  Result<NewKey> import_key(const CmkId& cmk, std::uint32_t number, const keyring::KeySupport& kind,
                            KeyPair key);

  // As VaultToken's, of one job.
  Result<Ciphertext> encrypt(const TokenKey& key, const EncryptJob& job);
  Result<SecretBytes> decrypt(const TokenKey& key, const DecryptJob& job);
  Result<Bytes> sign(const TokenKey& key, keyring::SignScheme scheme, ByteView digest);
  Result<SecretBytes> decrypt_asymmetric(const TokenKey& key, keyring::DecryptScheme scheme,
                                         ByteView ciphertext);

  // Forgets what is open of a key.
  void drop(const CmkId& cmk);

 private:
  struct Opened;
  using Name = std::pair<CmkId, std::uint32_t>;
  struct Kept {
    std::shared_ptr<const Opened> key;
    std::list<Name>::iterator place;
  };

  Result<NewKey> close(const CmkId& cmk, std::uint32_t number, keyring::KeyAlgorithm algorithm,
                       KeyPair key);
  Result<std::shared_ptr<const Opened>> open(const TokenKey& key);
  // Unless something was dropped since `drops` was read: it may have been this key.
  void keep(const Name& name, const std::shared_ptr<const Opened>& key, std::uint64_t drops);

  VaultToken& token_;
  const std::size_t keys_max_;
  std::mutex mutex_;  // Guards what follows.
  std::map<Name, Kept> kept_;
  std::list<Name> by_use_;   // The last used one in front.
  std::uint64_t drops_ = 0;  // How often drop() was called.
};

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "hsm/cmk_handles.h"
#include "hsm/root_cipher.h"
#include "hsm/token_link.h"
#include "hsm/token_private_keys.h"
#include "hsm/vault_token.h"

namespace coffer::hsm {

// Pkcs11Token makes a VaultToken of a PKCS#11 token: CMKs are generated in it, stored outside
// wrapped by its root key (CKM_AES_KEY_WRAP), and unwrapped back as session objects when used; so
// are private keys that sign, where the token does all of that (token_private_keys.h). A token
// whose root key encrypts instead, as a TPM's, has rooted keys alone (root_cipher.h). What wraps
// DEKs depends on the mechanisms the token shows:
//
//   kAesGcm      CKM_AES_GCM;
//   kAesCbcHmac  CKM_AES_CBC_PAD, where it has no GCM; RuledVault adds the HMAC by the token's key.
//
// A blob is read by the profile of its version, so one made with another profile stays readable as
// long as the token has the mechanism (kUnsupported when it has not).
//
// Thread-safe. Errors as TokenLink::run() names them; besides
//   kUnsupported  a kind that supports() does not show, or no profile fits the token's mechanisms.
class Pkcs11Token final : public VaultToken {
 public:
  static constexpr std::size_t kRandomBytesMax = std::size_t{64} * 1024;

  struct Options {
    TokenLink::Options link;
    std::size_t handles_max = 1024;
  };
  explicit Pkcs11Token(Options options);
  ~Pkcs11Token() override = default;

  Result<Identity> identity() override;
  Result<Mac> mac(MacKey key, ByteView message) override;
  Result<std::vector<keyring::KeySupport>> supports() override;
  Result<NewKey> generate(const CmkId& cmk, std::uint32_t number,
                          const keyring::KeySupport& kind) override;
  std::vector<Result<Ciphertext>> encrypt(const TokenKey& key,
                                          std::span<const EncryptJob> jobs) override;
  std::vector<Result<SecretBytes>> decrypt(const TokenKey& key,
                                           std::span<const DecryptJob> jobs) override;
  // What is decrypted by private keys is rooted on every token (docs/decisions/0170).
  Result<Bytes> sign(const TokenKey& key, keyring::SignScheme scheme, ByteView digest) override;
  // Wrapped keys leave nothing in the token but an object of the session.
  Result<void> destroy(const CmkId& cmk, std::uint32_t number) override;
  //   kUnsupported  the token has no key that encrypts rooted ones (TokenKeys::rooted).
  Result<bool> keeps_rooted() override;
  Result<Bytes> close_rooted(const SecretBytes& key, ByteView aad) override;
  Result<SecretBytes> open_rooted(ByteView material, ByteView aad) override;
  Result<SecretBytes> random(std::size_t size_bytes) override;
  keyring::VaultHealth health() override;

  // As TokenLink::connected().
  bool connected() { return link_.connected(); }
  // CMKs whose objects it keeps.
  std::size_t handles() const { return handles_.size(); }

 private:
  Result<void> require_rooted();
  // The object of a symmetric key, unwrapped when it is not there yet.
  CK_RV open(const TokenLink::Session& session, const CmkHandles::Name& name, ByteView material,
             CmkHandles::Handle& out);
  // One attempt at the jobs that have no result yet, in one session: appends to `results` until a
  // call fails, which is what it returns.
  CK_RV encrypt_rest(const TokenLink::Session& session, const TokenKey& key,
                     std::span<const EncryptJob> jobs, std::vector<Result<Ciphertext>>& results);
  CK_RV decrypt_rest(const TokenLink::Session& session, const TokenKey& key,
                     std::span<const DecryptJob> jobs, std::vector<Result<SecretBytes>>& results);

  CmkHandles handles_;
  TokenLink link_;
  RootCipher cipher_{link_, *this};
  TokenPrivateKeys private_keys_{link_, handles_};
};

}  // namespace coffer::hsm

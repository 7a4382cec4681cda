// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "hsm/sdf_link.h"
#include "hsm/sdf_token_keys.h"
#include "hsm/vault_token.h"

namespace coffer::hsm {

// SdfToken makes a VaultToken of an SDF device (GM/T 0018): CMKs are SM4 keys that the device
// generates, stored outside under one of its key encryption keys, and imported into a session when
// used. It wraps by SM4-CBC, to which RuledVault adds the HMAC: HMAC-SM3, computed in the device
// where its library has that, else by a key in locked memory, which health says (SdfMacPlace).
//
// What the interface lacks is not pretended: a device cannot wrap a key that comes from outside, so
// imported keys are rooted; nothing tells whether it is hardware, so that is for the configuration
// to say.
//
// Thread-safe. Errors as SdfLink::run() and SdfTokenKeys::open() name them; besides
//   kUnsupported  another kind of key, or a version of another profile.
class SdfToken final : public VaultToken {
 public:
  static constexpr std::size_t kRandomBytesMax = std::size_t{64} * 1024;

  struct Options {
    SdfLink::Options link;
    std::string keys_file;  // SdfTokenKeys' file, in the vault's state folder.
    keyring::TokenKind kind = keyring::TokenKind::kSoftware;
  };
  explicit SdfToken(Options options);
  ~SdfToken() override = default;

  // Makes the keys of a new token; its root id.   Errors as SdfTokenKeys::make().
  static Result<std::string> make_keys(const Options& options);

  Result<Identity> identity() override;
  Result<std::vector<keyring::KeySupport>> supports() override;
  Result<Mac> mac(MacKey key, ByteView message) override;
  Result<NewKey> generate(const CmkId& cmk, std::uint32_t number,
                          const keyring::KeySupport& kind) override;
  std::vector<Result<Ciphertext>> encrypt(const TokenKey& key,
                                          std::span<const EncryptJob> jobs) override;
  std::vector<Result<SecretBytes>> decrypt(const TokenKey& key,
                                           std::span<const DecryptJob> jobs) override;
  Result<bool> keeps_rooted() override { return true; }
  Result<Bytes> close_rooted(const SecretBytes& key, ByteView aad) override;
  Result<SecretBytes> open_rooted(ByteView material, ByteView aad) override;
  Result<SecretBytes> random(std::size_t size_bytes) override;
  keyring::VaultHealth health() override;

  // As SdfLink::connected().
  bool connected() { return link_.connected(); }

 private:
  // An IV and what CBC gave from it.
  struct Text {
    SdfSession::Block iv{};
    Bytes bytes;
  };
  Result<Text> encrypt_padded(std::string_view step, const Bytes* wrapped,
                              std::span<const std::byte> plain);
  Result<SecretBytes> decrypt_padded(std::string_view step, const Bytes* wrapped,
                                     const SdfSession::Block& iv, ByteView text);
  Result<SecretBytes> decrypt_one(const TokenKey& key, const DecryptJob& job);
  Result<Mac> mac_by(SdfKeyRole role, ByteView message);

  const Options options_;
  std::optional<SdfTokenKeys> keys_;  // Written when a device was opened, read while one is.
  SdfLink link_;                      // Last: it calls back.
};

}  // namespace coffer::hsm

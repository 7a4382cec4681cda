// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "core/base/clock.h"
#include "core/keyring/key_vault.h"
#include "hsm/revision_floors.h"
#include "hsm/vault_rules.h"
#include "hsm/vault_token.h"

namespace coffer::hsm {

// RuledVault makes a KeyVault of a token: it checks seal, root key, revision, state, purpose and
// use counts of each call, builds records and blobs, and asks the token for the bare operations.
//
// Thread-safe, as the parts it is given are.
class RuledVault final : public keyring::KeyVault {
 public:
  // Owns nothing; all of them outlive it.
  struct Parts {
    VaultToken& token;
    RevisionFloors& floors;
    keyring::DekSink& sink;
    const Clock& clock;
  };
  explicit RuledVault(const Parts& parts, const UseLimits& limits = {});
  ~RuledVault() override;

  Result<keyring::SealedRecord> create_cmk(const keyring::CmkParameters& parameters) override;
  Result<keyring::SealedRecord> change_cmk(ByteView current,
                                           const keyring::CmkChange& change) override;
  Result<void> present(ByteView record) override;
  std::vector<Result<keyring::WrappedKey>> wrap(ByteView record, std::span<const Plain> keys,
                                                Deadline deadline) override;
  std::vector<Result<SecretBytes>> unwrap(ByteView record, std::span<const keyring::Presented> keys,
                                          Deadline deadline) override;
  std::vector<Result<keyring::WrappedKey>> make_deks(ByteView record,
                                                     std::span<const keyring::KeyContext> contexts,
                                                     const keyring::Ticket& ticket,
                                                     std::uint32_t first_index,
                                                     Deadline deadline) override;
  Result<keyring::SharedDek> make_shared_dek(const keyring::SharedDekRequest& request,
                                             Deadline deadline) override;
  std::vector<Result<void>> deliver(ByteView record, std::span<const keyring::Presented> keys,
                                    const keyring::Ticket& ticket,
                                    std::span<const std::uint32_t> indexes,
                                    Deadline deadline) override;
  std::vector<Result<keyring::WrappedKey>> rewrap(ByteView from, ByteView to,
                                                  std::span<const keyring::Rewrapped> keys,
                                                  Deadline deadline) override;
  std::vector<Result<Bytes>> sign(ByteView record, keyring::SignScheme scheme,
                                  std::span<const Bytes> digests, Deadline deadline) override;
  std::vector<Result<SecretBytes>> decrypt(ByteView record, keyring::DecryptScheme scheme,
                                           std::span<const Bytes> ciphertexts,
                                           Deadline deadline) override;
  Result<keyring::ImportParameters> prepare_import(ByteView current,
                                                   keyring::ImportWrapping wrapping) override;
  Result<keyring::SealedRecord> import_material(ByteView current,
                                                const keyring::ImportMaterial& material) override;
  Result<SecretBytes> random(std::size_t size_bytes) override;
  keyring::VaultHealth health() override;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace coffer::hsm

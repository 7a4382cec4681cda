// SPDX-License-Identifier: Apache-2.0
#include "hsm/development_vault.h"

#include <cstdio>
#include <utility>

#include "hsm/revision_floors.h"
#include "hsm/ruled_vault.h"

namespace coffer::hsm {
namespace {

// Owns the parts that a RuledVault only refers to.
class DevelopmentVault final : public keyring::KeyVault {
 public:
  DevelopmentVault(std::unique_ptr<VaultToken> token, std::unique_ptr<RevisionFloors> floors,
                   keyring::DekSink& sink, const Clock& clock, const UseLimits& limits)
      : token_(std::move(token)),
        floors_(std::move(floors)),
        vault_({*token_, *floors_, sink, clock}, limits) {}

  Result<keyring::SealedRecord> create_cmk(const keyring::CmkParameters& parameters) override {
    return vault_.create_cmk(parameters);
  }
  Result<keyring::SealedRecord> change_cmk(ByteView current,
                                           const keyring::CmkChange& change) override {
    return vault_.change_cmk(current, change);
  }
  Result<void> present(ByteView record) override { return vault_.present(record); }
  std::vector<Result<keyring::WrappedKey>> wrap(ByteView record, std::span<const Plain> keys,
                                                Deadline deadline) override {
    return vault_.wrap(record, keys, deadline);
  }
  std::vector<Result<SecretBytes>> unwrap(ByteView record, std::span<const keyring::Presented> keys,
                                          Deadline deadline) override {
    return vault_.unwrap(record, keys, deadline);
  }
  std::vector<Result<keyring::WrappedKey>> make_deks(ByteView record,
                                                     std::span<const keyring::KeyContext> contexts,
                                                     const keyring::Ticket& ticket,
                                                     std::uint32_t first_index,
                                                     Deadline deadline) override {
    return vault_.make_deks(record, contexts, ticket, first_index, deadline);
  }
  Result<keyring::SharedDek> make_shared_dek(const keyring::SharedDekRequest& request,
                                             Deadline deadline) override {
    return vault_.make_shared_dek(request, deadline);
  }
  std::vector<Result<void>> deliver(ByteView record, std::span<const keyring::Presented> keys,
                                    const keyring::Ticket& ticket,
                                    std::span<const std::uint32_t> indexes,
                                    Deadline deadline) override {
    return vault_.deliver(record, keys, ticket, indexes, deadline);
  }
  std::vector<Result<keyring::WrappedKey>> rewrap(ByteView from, ByteView to,
                                                  std::span<const keyring::Rewrapped> keys,
                                                  Deadline deadline) override {
    return vault_.rewrap(from, to, keys, deadline);
  }
  std::vector<Result<Bytes>> sign(ByteView record, keyring::SignScheme scheme,
                                  std::span<const Bytes> digests, Deadline deadline) override {
    return vault_.sign(record, scheme, digests, deadline);
  }
  std::vector<Result<SecretBytes>> decrypt(ByteView record, keyring::DecryptScheme scheme,
                                           std::span<const Bytes> ciphertexts,
                                           Deadline deadline) override {
    return vault_.decrypt(record, scheme, ciphertexts, deadline);
  }
  Result<keyring::ImportParameters> prepare_import(ByteView current,
                                                   keyring::ImportWrapping wrapping) override {
    return vault_.prepare_import(current, wrapping);
  }
  Result<keyring::SealedRecord> import_material(ByteView current,
                                                const keyring::ImportMaterial& material) override {
    return vault_.import_material(current, material);
  }
  Result<SecretBytes> random(std::size_t size_bytes) override { return vault_.random(size_bytes); }
  keyring::VaultHealth health() override { return vault_.health(); }

 private:
  const std::unique_ptr<VaultToken> token_;
  const std::unique_ptr<RevisionFloors> floors_;
  RuledVault vault_;
};

Result<std::unique_ptr<RevisionFloors>> open_floors(const std::string& path) {
  if (path.empty()) return make_memory_floors();
  return open_sqlite_floors(path);
}

}  // namespace

Result<std::unique_ptr<keyring::KeyVault>> open_development_vault(
    const DevelopmentVaultOptions& options, keyring::DekSink& sink, const Clock& clock) {
  auto token = open_software_token(options.token);
  if (!token) return tl::unexpected(token.error());
  auto floors = open_floors(options.floors_path);
  if (!floors) return tl::unexpected(floors.error());
  // "<4>" is how the journal reads a warning from standard error.
  std::fprintf(stderr, "<4>%.*s: for tests and development only\n",
               static_cast<int>(kDevelopmentLabel.size()), kDevelopmentLabel.data());
  return std::make_unique<DevelopmentVault>(std::move(*token), std::move(*floors), sink, clock,
                                            options.limits);
}

}  // namespace coffer::hsm

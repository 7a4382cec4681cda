// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "core/ipc/client.h"
#include "core/keyring/key_vault.h"

namespace coffer::hsm {

// VaultClient is the KeyVault of a program that talks to a vault process: cofferd. Calls are split
// into messages that fit, and each message says how long the vault may work on it: less than
// `call_timeout`. A vault that is slow answers in time with what it has done, and is asked for the
// rest in the next message, until the call's deadline; nothing that was begun is ever repeated. Of
// wrap() and unwrap(), which hand nothing to anybody else, three messages are under way at a time.
//
// Thread-safe. A call with a deadline blocks until that, one without for at most `call_timeout`; a
// message that gets no answer at all ends the call. Beside the errors of KeyVault:
//   kHsmAbsent   no vault process answers, or it went away with the call.
//   kHsmTimeout  it did not answer in time: a call into the token's module hangs, most likely.
class VaultClient final : public keyring::KeyVault {
 public:
  struct Options {
    std::string name;  // "coffer-vault@local", for messages.
    std::string socket_path;
    // Less than the vault's own deadline, so that a caller hears of a hang before the vault ends.
    std::chrono::milliseconds call_timeout{4500};
    // Of requests that make a key pair: RSA-4096 takes seconds, and more on a busy host.
    std::chrono::milliseconds pair_timeout{30'000};
    // Instead of socket_path, for tests.
    std::function<Result<UniqueFd>(Deadline)> connect;
  };
  // Keys in one message.
  static constexpr std::size_t kKeysPerMessageMax = 64;
  // Of wrap() and unwrap(): messages under way, and keys in each; of other calls it is one message.
  // What a death of the vault leaves unknown is what was in those. When a record was superseded for
  // one of them, those sent after it count as superseded too, and what they made is thrown away.
  static constexpr std::size_t kMessagesAheadMax = 3;
  static constexpr std::size_t kKeysAheadMax = 112;
  static constexpr std::size_t kKeysFirstMax = 32;  // The same of a call's first message.

  explicit VaultClient(Options options);
  ~VaultClient() override;

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
  // kLimitsExceeded: the records do not fit into one message.
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
  Result<SecretBytes> call(std::uint16_t type, std::span<const ByteView> parts);
  Result<SecretBytes> call(std::uint16_t type, std::span<const ByteView> parts, Deadline caller);
  Result<SecretBytes> call_until(std::uint16_t type, std::span<const ByteView> parts,
                                 Deadline deadline);
  Result<ipc::Client::Sent> send(std::uint16_t type, std::span<const ByteView> parts,
                                 Deadline caller);
  static Result<SecretBytes> answer_of(Result<ipc::Client::Sent> sent);

  const Options options_;
  ipc::Client client_;
};

}  // namespace coffer::hsm

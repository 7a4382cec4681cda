// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/ipc/server.h"
#include "core/keyring/key_vault.h"

namespace coffer::hsm {

// VaultServer answers the requests of vault_protocol.h with a KeyVault: give its handler to an
// ipc::Server whose requests are received into locked memory (Options::secret).
//
// Each request says how long its caller waits for it: the vault is given that time, from when it
// read the request on, so that it does not go on for a caller who has gone. What lay in the socket
// while the process stood still is worked on for that long although its caller may have left.
//
// Thread-safe, as the vault is. The vault outlives it.
class VaultServer {
 public:
  explicit VaultServer(keyring::KeyVault& vault) : vault_(vault) {}

  // The answer, or the error to send back.
  //   kMessageInvalid  the request is none.
  //   kHsmTimeout      its time was over before its turn came: nothing was done.
  //   kLimitsExceeded  its answer would not fit into a message: ask for less at a time.
  Result<ipc::Reply> handle(const ipc::Request& request);

 private:
  Result<ipc::Reply> create(ByteView body);
  Result<ipc::Reply> change(ByteView body);
  Result<ipc::Reply> present(ByteView body);
  Result<ipc::Reply> wrap(ByteView body, Deadline deadline);
  Result<ipc::Reply> unwrap(ByteView body, Deadline deadline);
  Result<ipc::Reply> make_deks(ByteView body, Deadline deadline);
  Result<ipc::Reply> make_shared_dek(ByteView body, Deadline deadline);
  Result<ipc::Reply> deliver(ByteView body, Deadline deadline);
  Result<ipc::Reply> rewrap(ByteView body, Deadline deadline);
  Result<ipc::Reply> sign(ByteView body, Deadline deadline);
  Result<ipc::Reply> decrypt(ByteView body, Deadline deadline);
  Result<ipc::Reply> prepare_import(ByteView body);
  Result<ipc::Reply> import_material(ByteView body);
  Result<ipc::Reply> random(ByteView body);
  Result<ipc::Reply> health(ByteView body);

  keyring::KeyVault& vault_;
};

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "agent/volume/registry.h"
#include "core/audit/record.h"
#include "core/keyring/keyring.h"

// A volume's keys are bound to it in the keyring, so that none of them is taken away under it
// unnoticed. Its row says so first: a row without its bindings gets them, bindings without a row
// go. These are blocking functions for the engine's pool.
namespace coffer::agent {

// What the keyring calls a volume: "volume:" and its UUID.
std::string resource_of(const VolumeId& id);

// Binds the keys of `row`, whose place in the registry is taken.
//   kKeyDisabled, kKeyArchived, …   only an enabled key is bound.
//   kNoSuchKey, kAuditUnavailable, kStoreUnavailable
Result<void> bind_keys(const VolumeRow& row, keyring::Keyring& keyring, const audit::Actor& actor);

// Unbinds them, when the row is gone. Those that cannot be unbound now are to be settled later.
std::vector<CmkId> unbind_keys(const VolumeRow& row, keyring::Keyring& keyring,
                               const audit::Actor& actor);

// kKeyBound: something else than volumes is bound to the key, which no header tells of.
//   kNoSuchKey, kStoreUnavailable
Result<void> require_only_volumes(const CmkId& key, const keyring::Keyring& keyring);

struct BindingsSettled {
  struct Failure {
    CmkId key;
    Error error;
  };
  std::size_t bound = 0;
  std::size_t unbound = 0;
  std::size_t waiting = 0;        // Rows whose key is not enabled: it is bound when it is.
  std::vector<Failure> failed{};  // To be tried again.
};

// The keys that rows name or that volumes are bound to: all others have nothing to settle.
//   kStoreUnavailable, kStoreDamaged
Result<std::vector<CmkId>> keys_to_settle(Registry& registry, const keyring::Keyring& keyring);
// Those that the volume is bound to.
Result<std::vector<CmkId>> keys_bound_to(const VolumeId& id, const keyring::Keyring& keyring);

// Brings the bindings of `keys` in line with the rows: a volume is bound to the keys that its row
// names, and to no other, and the material of an enabled key that a row names expires no more.
// Beside other operations on volumes, too.
//   kStoreUnavailable, kStoreDamaged   the registry cannot be read.
Result<BindingsSettled> settle_bindings(std::span<const CmkId> keys, Registry& registry,
                                        keyring::Keyring& keyring, const audit::Actor& actor);

}  // namespace coffer::agent

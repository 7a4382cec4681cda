// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "agent/volume/life.h"

// The key of a volume that is being made, and the CMKs that it is wrapped under.
namespace coffer::agent {

// The CMKs that the caller names, "default" when none.
//   kInvalidArgs   one twice, more than 8, or a threshold that is 0 or above their number.
//   kNoSuchKey     as Keyring::find().
Result<std::vector<CmkId>> find_volume_keys(const ProvisionOptions& options,
                                            const keyring::Keyring& keyring);

struct VolumeKeyOrder {
  std::vector<CmkId> keys;
  std::size_t threshold = 1;
  keyring::KeyContext context;         // Of the key, without shares.
  std::vector<std::uint64_t> intents;  // One for each of `keys`.
  keyring::Ticket ticket{};            // The worker expects one key under it, with index 0.
};
struct MadeVolumeKey {
  keyring::KeyContext context;  // For the token, with the set of shares where there is one.
  std::vector<Bytes> wraps;     // In the order of the keys.
};
// Makes the key in the vault, which delivers it to the worker, wrapped under each of the CMKs
// (threshold 1), or split into shares of which each CMK wraps one.
//   kKeyDisabled, kKeyArchived, …   the first key that makes no wraps; then there is no volume.
//   kHsm…, kWorkerLost, kAuditUnavailable, kStoreUnavailable, kKeyExhausted
Result<MadeVolumeKey> make_volume_key(const VolumeKeyOrder& order, const LifeCall& call,
                                      keyring::Keyring& keyring);

}  // namespace coffer::agent

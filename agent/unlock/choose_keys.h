// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/unlock/unlock_batch.h"

namespace coffer::agent {

// The context of the header's token, which is the volume's own; its wraps are bound to
// wrap_context() of it.
//   kTokenMissing, kTokenInvalid   there is none, or what it says contradicts itself.
//   kHeaderRolledBack              it is of an older generation than the host's state.
//   kWrongGeneration               of a newer one.
//   kWrongVolume, kWrongHost, kWrongTenant, kWrongPurpose, kProfileMismatch   its context.
//   kBlobInvalid                   its set of shares is another than the registry's.
Result<keyring::KeyContext> check_token(const VolumeRow& row, const luks2::CheckedHeader& header);

// Which wraps of the volume's token open it, and why the others do not: their CMK is disabled,
// pending deletion or unknown here, their version is destroyed. Nothing here asks the HSM; the
// store of CMKs is read. Errors as check_token(), and:
//   kBlobInvalid                   of its only wrap.
//   kNoSuchKey, kKeyDisabled, kKeyPendingDeletion, kKeyPendingImport   of its only key.
//   kThresholdNotMet               of several keys too few can be used: names each and why.
Result<KeyChoice> choose_keys(const VolumeRow& row, const luks2::CheckedHeader& header,
                              const keyring::Keyring& keyring);

// The error of a volume whose keys do not suffice, `missing` being those that fail: that of its
// only key, of one that may serve later when that is enough, or kThresholdNotMet.
Error not_enough_keys(const KeyChoice& keys, std::span<const SkippedKey> missing);

// What a wrap's CMK is called in errors.
std::string key_name(const CmkId& id);

}  // namespace coffer::agent

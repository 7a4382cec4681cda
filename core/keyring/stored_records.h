// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "core/keyring/cmk_record.h"
#include "core/keyring/key_store.h"

namespace coffer::keyring {

// A record as the store holds it, and what is in it. The seal is the vault's to check.
struct ReadRecord {
  SealedRecord sealed;
  CmkRecord record;
};

// The record that `store` holds for a key, after checks that need no vault: it is well formed, and
// of the key asked for, which is not destroyed.
//   kNoSuchKey, kStore…   as KeyStore.
//   kRecordInvalid        names the key.
Result<ReadRecord> read_record(KeyStore& store, const CmkId& id);
Result<ReadRecord> read_record_by_alias(KeyStore& store, std::string_view alias);

// The same check for a row that was read already. kRecordInvalid.
Result<CmkRecord> record_of(const StoredRecord& stored);

}  // namespace coffer::keyring

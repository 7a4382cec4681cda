// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/stored_records.h"

#include <utility>

namespace coffer::keyring {

Result<CmkRecord> record_of(const StoredRecord& stored) {
  const std::string key = "key " + stored.id.str();
  auto record = CmkRecord::decode(stored.record);
  if (!record) return pass(record.error(), key);
  if (record->id != stored.id) {
    return fail(Reason::kRecordInvalid,
                key + ": the store holds the record of key " + record->id.str() + " in its place");
  }
  return record;
}

Result<ReadRecord> read_record(KeyStore& store, const CmkId& id) {
  auto sealed = store.get(id);
  if (!sealed) return tl::unexpected(sealed.error());
  StoredRecord stored{id, std::move(*sealed)};
  auto record = record_of(stored);
  if (!record) return tl::unexpected(record.error());
  if (record->state == KeyState::kDestroyed) {
    return fail(Reason::kNoSuchKey, "key " + id.str() + " is destroyed");
  }
  return ReadRecord{std::move(stored.record), std::move(*record)};
}

Result<ReadRecord> read_record_by_alias(KeyStore& store, std::string_view alias) {
  auto sealed = store.get_by_alias(alias);
  if (!sealed) return tl::unexpected(sealed.error());
  const std::string key = "key '" + printable(alias, 64) + "'";
  auto record = CmkRecord::decode(*sealed);
  if (!record) return pass(record.error(), key);
  if (record->alias != alias) {
    return fail(Reason::kRecordInvalid, key + ": the store holds the record of key " +
                                            record->id.str() + " ('" + record->alias +
                                            "') in its place");
  }
  // Its row says otherwise: a destroyed key has no alias.
  if (record->state == KeyState::kDestroyed) return fail(Reason::kNoSuchKey, key + " is destroyed");
  return ReadRecord{std::move(*sealed), std::move(*record)};
}

}  // namespace coffer::keyring

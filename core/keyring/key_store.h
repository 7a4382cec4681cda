// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/keyring/cmk_record.h"

namespace coffer::keyring {

// What the store holds under an id. Whether the record is that key's is for the reader to check.
struct StoredRecord {
  CmkId id;
  SealedRecord record;
};

// KeyStore keeps sealed records. It is trusted with availability alone: what it returns is checked
// by the vault. Thread-safe; every call may block on the disk.
//   kStoreUnavailable   cannot be read or written now; nothing changed.
//   kStoreDamaged       holds what put() never wrote.
class KeyStore {
 public:
  virtual ~KeyStore() = default;

  // Replaces the record of the same id in one durable transaction, which keeps `intent` (the audit
  // sequence under which it was made). `expected_revision` is the revision it replaces, 0 for a new
  // one. kNameTaken: another key has the alias. kInProgress: the stored revision is another one.
  virtual Result<void> put(const SealedRecord& record, std::uint64_t expected_revision,
                           std::uint64_t intent) = 0;

  virtual Result<SealedRecord> get(const CmkId& id) = 0;                  // kNoSuchKey
  virtual Result<SealedRecord> get_by_alias(std::string_view alias) = 0;  // kNoSuchKey

  // Up to `count_max` records with an id above `after`, in the order of ids.
  virtual Result<std::vector<StoredRecord>> list(const std::optional<CmkId>& after,
                                                 std::size_t count_max) = 0;

  // The audit intent under which the record stored now was made: start-up reconciles with it.
  virtual Result<std::uint64_t> intent_of(const CmkId& id) = 0;

  // The audit sequence up to which every intent is known to have its result; 0 at first. Start-up
  // looks for open intents behind it.
  virtual Result<std::uint64_t> reconciled_to() = 0;
  virtual Result<void> set_reconciled_to(std::uint64_t sequence) = 0;
};

// The maker over SQLite (WAL, synchronous=FULL) in the file `path`, made with mode 0600 if absent.
Result<std::unique_ptr<KeyStore>> open_sqlite_key_store(const std::string& path);

}  // namespace coffer::keyring

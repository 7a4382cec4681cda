// SPDX-License-Identifier: Apache-2.0
#include <mutex>
#include <utility>

#include "core/base/sqlite.h"
#include "core/keyring/key_store.h"

namespace coffer::keyring {
namespace {

// "CofK": tells this file from Coffer's other stores.
constexpr std::int32_t kApplicationId = 0x436F664B;
constexpr SqliteDatabase::Kind kKind{
    kApplicationId, 1,
    "CREATE TABLE cmk (id BLOB PRIMARY KEY CHECK (length(id) = 16), revision INTEGER NOT NULL, "
    "alias TEXT NOT NULL UNIQUE, intent INTEGER NOT NULL, record BLOB NOT NULL) STRICT; "
    "CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"};
constexpr std::string_view kReconciled = "reconciled";

Bytes copy(ByteView bytes) {
  return {bytes.begin(), bytes.end()};
}

class SqliteKeyStore final : public KeyStore {
 public:
  explicit SqliteKeyStore(SqliteDatabase database) : database_(std::move(database)) {}

  Result<void> put(const SealedRecord& sealed, std::uint64_t expected_revision,
                   std::uint64_t intent) override {
    const auto record = CmkRecord::decode(sealed);
    if (!record) return pass(record.error(), "store a key");
    const std::lock_guard lock(mutex_);
    auto transaction = SqliteTransaction::begin(database_);
    if (!transaction) return pass(transaction.error(), "store key " + record->id.str());
    if (auto fits = require_fits(*record, expected_revision); !fits) return fits;
    if (auto written = write(*record, sealed, intent); !written) {
      return pass(written.error(), "store key " + record->id.str());
    }
    auto committed = transaction->commit();
    if (!committed) return pass(committed.error(), "store key " + record->id.str());
    return {};
  }

  Result<SealedRecord> get(const CmkId& id) override {
    const std::lock_guard lock(mutex_);
    auto statement = SqliteStatement::prepare(database_, "SELECT record FROM cmk WHERE id = ?");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(id.bytes());
    return only_record(*statement, "key " + id.str());
  }

  Result<SealedRecord> get_by_alias(std::string_view alias) override {
    const std::lock_guard lock(mutex_);
    auto statement = SqliteStatement::prepare(database_, "SELECT record FROM cmk WHERE alias = ?");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(alias);
    return only_record(*statement, "key '" + printable(alias, 64) + "'");
  }

  Result<std::vector<StoredRecord>> list(const std::optional<CmkId>& after,
                                         std::size_t count_max) override {
    const std::lock_guard lock(mutex_);
    auto statement = SqliteStatement::prepare(
        database_, "SELECT id, record FROM cmk WHERE id > ? ORDER BY id LIMIT ?");
    if (!statement) return tl::unexpected(statement.error());
    // The empty blob sorts before every id.
    statement->bind(after ? after->bytes() : ByteView()).bind(std::uint64_t{count_max});
    std::vector<StoredRecord> records;
    for (;;) {
      const auto row = statement->step();
      if (!row) return pass(row.error(), "list keys");
      if (!*row) return records;
      const auto id = CmkId::from_bytes(statement->bytes(0));
      if (!id) return fail(Reason::kStoreDamaged, "list keys: " + id.error().message());
      records.push_back({*id, copy(statement->bytes(1))});
    }
  }

  Result<std::uint64_t> intent_of(const CmkId& id) override {
    const std::lock_guard lock(mutex_);
    auto statement = SqliteStatement::prepare(database_, "SELECT intent FROM cmk WHERE id = ?");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(id.bytes());
    const auto row = statement->step();
    if (!row) return pass(row.error(), "read key " + id.str());
    if (!*row) return fail(Reason::kNoSuchKey, "key " + id.str() + " is not in the store");
    return statement->number(0);
  }

  Result<std::uint64_t> reconciled_to() override {
    const std::lock_guard lock(mutex_);
    auto statement = SqliteStatement::prepare(database_, "SELECT value FROM mark WHERE name = ?");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(kReconciled);
    const auto row = statement->step();
    if (!row) return tl::unexpected(row.error());
    return *row ? statement->number(0) : 0;
  }

  Result<void> set_reconciled_to(std::uint64_t sequence) override {
    const std::lock_guard lock(mutex_);
    auto statement =
        SqliteStatement::prepare(database_, "INSERT OR REPLACE INTO mark VALUES (?, ?)");
    if (!statement) return tl::unexpected(statement.error());
    return statement->bind(kReconciled).bind(sequence).run();
  }

 private:
  // The stored revision is the one expected, and the alias is free or the key's own.
  Result<void> require_fits(const CmkRecord& record, std::uint64_t expected_revision) {
    auto stored = SqliteStatement::prepare(database_, "SELECT revision FROM cmk WHERE id = ?");
    if (!stored) return tl::unexpected(stored.error());
    stored->bind(record.id.bytes());
    const auto row = stored->step();
    if (!row) return tl::unexpected(row.error());
    if ((*row ? stored->number(0) : 0) != expected_revision) {
      return fail(Reason::kInProgress,
                  "key " + record.id.str() + " was changed by somebody else at the same time");
    }
    auto taken =
        SqliteStatement::prepare(database_, "SELECT 1 FROM cmk WHERE alias = ? AND id <> ?");
    if (!taken) return tl::unexpected(taken.error());
    const auto other = taken->bind(record.alias).bind(record.id.bytes()).step();
    if (!other) return tl::unexpected(other.error());
    if (*other) return fail(Reason::kNameTaken, "another key has the alias '" + record.alias + "'");
    return {};
  }

  Result<void> write(const CmkRecord& record, const SealedRecord& sealed, std::uint64_t intent) {
    auto statement =
        SqliteStatement::prepare(database_, "INSERT OR REPLACE INTO cmk VALUES (?, ?, ?, ?, ?)");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(record.id.bytes()).bind(record.revision).bind(record.alias).bind(intent);
    return statement->bind(sealed).run();
  }

  static Result<SealedRecord> only_record(SqliteStatement& statement, const std::string& what) {
    const auto row = statement.step();
    if (!row) return pass(row.error(), "read " + what);
    if (!*row) return fail(Reason::kNoSuchKey, what + " is not in the store");
    return copy(statement.bytes(0));
  }

  std::mutex mutex_;  // Guards database_, which is one connection for one thread at a time.
  SqliteDatabase database_;
};

}  // namespace

Result<std::unique_ptr<KeyStore>> open_sqlite_key_store(const std::string& path) {
  auto database = SqliteDatabase::open(path, kKind);
  if (!database) return pass(database.error(), "key store");
  return std::make_unique<SqliteKeyStore>(std::move(*database));
}

}  // namespace coffer::keyring

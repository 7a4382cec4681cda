// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <limits>
#include <map>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/base/sqlite.h"
#include "core/keyring/key_states.h"
#include "core/keyring/key_store.h"

namespace coffer::keyring {
namespace {

// "CofK": tells this file from Coffer's other stores.
constexpr std::int32_t kApplicationId = 0x436F664B;
// Beside each record stands what keys are found by. The record itself is what counts: readers check
// that it says the same.
constexpr SqliteDatabase::Kind kKind{
    kApplicationId, 2,
    "CREATE TABLE cmk (id BLOB PRIMARY KEY CHECK (length(id) = 16), revision INTEGER NOT NULL, "
    "alias TEXT UNIQUE, state INTEGER NOT NULL, owner INTEGER NOT NULL, origin INTEGER NOT NULL, "
    "usage INTEGER NOT NULL, algorithm INTEGER NOT NULL, created INTEGER NOT NULL, due INTEGER, "
    "planned INTEGER, unpresented INTEGER NOT NULL, intent INTEGER NOT NULL, record BLOB NOT NULL) "
    "STRICT; "
    "CREATE INDEX cmk_created ON cmk (created, id); "
    "CREATE INDEX cmk_state ON cmk (state, id); "
    "CREATE INDEX cmk_due ON cmk (due, id) WHERE due IS NOT NULL; "
    "CREATE INDEX cmk_planned ON cmk (planned) WHERE planned IS NOT NULL; "
    "CREATE INDEX cmk_unpresented ON cmk (id) WHERE unpresented <> 0; "
    "CREATE TABLE tag (cmk BLOB NOT NULL REFERENCES cmk, name TEXT NOT NULL, value TEXT NOT NULL, "
    "PRIMARY KEY (cmk, name)) STRICT, WITHOUT ROWID; "
    "CREATE INDEX tag_value ON tag (name, value, cmk); "
    "CREATE TABLE binding (cmk BLOB NOT NULL REFERENCES cmk, resource TEXT NOT NULL, "
    "PRIMARY KEY (cmk, resource)) STRICT, WITHOUT ROWID; "
    "CREATE TABLE mark (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT"};
constexpr std::string_view kReconciled = "reconciled";

Bytes copy(ByteView bytes) {
  return {bytes.begin(), bytes.end()};
}

// A statement that is put together from parts, each with what is bound in it.
class Select {
 public:
  explicit Select(std::string columns) : sql_("SELECT " + std::move(columns) + " FROM cmk") {}

  Select& where(std::string_view condition) {
    sql_ += (conditions_++ == 0 ? " WHERE " : " AND ");
    sql_ += condition;
    return *this;
  }
  Select& then(std::string_view text) {
    sql_ += text;
    return *this;
  }
  Select& with(std::uint64_t value) {
    values_.emplace_back(value);
    return *this;
  }
  Select& with(std::string value) {
    values_.emplace_back(std::move(value));
    return *this;
  }
  Select& with(ByteView value) {
    values_.emplace_back(copy(value));
    return *this;
  }

  Result<SqliteStatement> prepare(SqliteDatabase& database) const {
    auto statement = SqliteStatement::prepare(database, sql_.c_str());
    if (!statement) return statement;
    for (const auto& value : values_) {
      std::visit([&](const auto& bound) { statement->bind(bound); }, value);
    }
    return statement;
  }

 private:
  std::string sql_;
  std::size_t conditions_ = 0;
  std::vector<std::variant<std::uint64_t, std::string, Bytes>> values_;
};

template <class E>
std::uint64_t number_of(E value) {
  return static_cast<std::uint64_t>(value);
}

// As the id column shows it: without dashes, in capitals.
std::string in_hex(std::string_view text) {
  std::string hex;
  for (const char c : text) {
    if (c == '-') continue;
    hex += c >= 'a' && c <= 'f' ? static_cast<char>(c - 'a' + 'A') : c;
  }
  return hex;
}

void choose(Select& select, const KeyFilter& filter) {
  select.where("state <> ?").with(number_of(KeyState::kDestroyed));
  if (filter.state) select.where("state = ?").with(number_of(*filter.state));
  if (filter.owner) select.where("owner = ?").with(number_of(*filter.owner));
  if (filter.origin) select.where("origin = ?").with(number_of(*filter.origin));
  if (filter.usage) select.where("usage = ?").with(number_of(*filter.usage));
  if (filter.algorithm) select.where("algorithm = ?").with(number_of(*filter.algorithm));
  if (!filter.search.empty()) {
    // Dashes alone are a part of no id: hex() is written without them.
    const std::string hex = in_hex(filter.search);
    select.where(hex.empty() ? "instr(alias, ?) > 0"
                             : "(instr(alias, ?) > 0 OR instr(hex(id), ?) > 0)");
    select.with(filter.search);
    if (!hex.empty()) select.with(hex);
  }
  std::map<std::string_view, std::vector<std::string_view>> values;
  for (const auto& tag : filter.tags) values[tag.name].push_back(tag.value);
  for (const auto& [name, any_of] : values) {
    std::string marks = "?";
    for (std::size_t i = 1; i < any_of.size(); ++i) marks += ", ?";
    select.where("id IN (SELECT cmk FROM tag WHERE name = ? AND value IN (" + marks + "))");
    select.with(std::string(name));
    for (const auto value : any_of) select.with(std::string(value));
  }
}

class SqliteKeyStore final : public KeyStore {
 public:
  SqliteKeyStore(SqliteDatabase database, SqliteDatabase reader)
      : database_(std::move(database)), reader_(std::move(reader)) {}

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

  Result<std::vector<StoredRecord>> list(const KeyQuery& query) override {
    Select select("id, record");
    choose(select, query.filter);
    const auto page = [&](std::string_view behind, std::string_view order) {
      if (query.after) select.where(behind).with(query.after->bytes());
      select.then(order);
    };
    switch (query.order) {
      case KeyOrder::kById:
        page("id > ?", " ORDER BY id");
        break;
      case KeyOrder::kOldestFirst:
        page("(created, id) > (SELECT created, id FROM cmk WHERE id = ?)", " ORDER BY created, id");
        break;
      case KeyOrder::kNewestFirst:
        page("(created, id) < (SELECT created, id FROM cmk WHERE id = ?)",
             " ORDER BY created DESC, id DESC");
        break;
    }
    constexpr std::uint64_t kOffsetMax = std::numeric_limits<std::int64_t>::max();
    select.then(" LIMIT ? OFFSET ?").with(std::uint64_t{query.count_max});
    select.with(std::min(query.offset, kOffsetMax));
    const std::lock_guard lock(reader_mutex_);
    auto statement = select.prepare(reader_);
    if (!statement) return tl::unexpected(statement.error());
    return all_records(*statement, "list keys");
  }

  Result<std::uint64_t> count(const KeyFilter& filter) override {
    Select select("count(*)");
    choose(select, filter);
    const std::lock_guard lock(reader_mutex_);
    auto statement = select.prepare(reader_);
    if (!statement) return tl::unexpected(statement.error());
    return only_number(*statement, "count keys");
  }

  Result<std::vector<DueKey>> due(WallTime now, WallTime planned_max,
                                  const std::optional<DueKey>& after,
                                  std::size_t count_max) override {
    Select select("due, id");
    select.where("(due <= ? OR planned > ?)").with(usec(now)).with(usec(planned_max));
    if (after) select.where("(due, id) > (?, ?)").with(usec(after->due)).with(after->id.bytes());
    select.then(" ORDER BY due, id LIMIT ?").with(std::uint64_t{count_max});
    const std::lock_guard lock(reader_mutex_);
    auto statement = select.prepare(reader_);
    if (!statement) return tl::unexpected(statement.error());
    std::vector<DueKey> keys;
    for (;;) {
      const auto row = statement->step();
      if (!row) return pass(row.error(), "look for keys that are due");
      if (!*row) return keys;
      const auto id = CmkId::from_bytes(statement->bytes(1));
      if (!id) return fail(Reason::kStoreDamaged, "keys that are due: " + id.error().message());
      keys.push_back({wall_from_usec(statement->number(0)), *id});
    }
  }

  Result<std::optional<WallTime>> next_due(WallTime now) override {
    Select select("min(due)");
    select.where("due > ?").with(usec(now));
    const std::lock_guard lock(reader_mutex_);
    auto statement = select.prepare(reader_);
    if (!statement) return tl::unexpected(statement.error());
    const auto row = statement->step();
    if (!row) return pass(row.error(), "look for keys that are due");
    if (!*row || statement->is_null(0)) return std::nullopt;
    return wall_from_usec(statement->number(0));
  }

  Result<std::vector<StoredRecord>> unpresented(std::size_t count_max) override {
    Select select("id, record");
    select.where("unpresented <> 0").then(" ORDER BY id LIMIT ?").with(std::uint64_t{count_max});
    const std::lock_guard lock(mutex_);
    auto statement = select.prepare(database_);
    if (!statement) return tl::unexpected(statement.error());
    return all_records(*statement, "records that the vault was not shown");
  }

  Result<void> set_presented(const CmkId& id, std::uint64_t revision) override {
    const std::lock_guard lock(mutex_);
    return run("UPDATE cmk SET unpresented = 0 WHERE id = ? AND revision = ?", id.bytes(),
               revision);
  }

  Result<std::vector<StoredRecord>> everything(const std::optional<CmkId>& after,
                                               std::size_t count_max) override {
    Select select("id, record");
    if (after) select.where("id > ?").with(after->bytes());
    select.then(" ORDER BY id LIMIT ?").with(std::uint64_t{count_max});
    const std::lock_guard lock(reader_mutex_);
    auto statement = select.prepare(reader_);
    if (!statement) return tl::unexpected(statement.error());
    return all_records(*statement, "all records");
  }

  Result<void> set_tags(const CmkId& id, const std::vector<KeyTag>& tags,
                        std::uint64_t intent) override {
    return change_beside(id, intent, [&]() -> Result<void> {
      if (auto gone = run("DELETE FROM tag WHERE cmk = ?", id.bytes()); !gone) return gone;
      for (const auto& tag : tags) {
        auto insert = SqliteStatement::prepare(
            database_, "INSERT INTO tag (cmk, name, value) VALUES (?, ?, ?)");
        if (!insert) return tl::unexpected(insert.error());
        insert->bind(id.bytes()).bind(tag.name).bind(tag.value);
        if (auto written = insert->run(); !written) return written;
      }
      return {};
    });
  }

  Result<std::vector<KeyTag>> tags(const CmkId& id) override {
    const std::lock_guard lock(mutex_);
    auto statement = SqliteStatement::prepare(
        database_, "SELECT name, value FROM tag WHERE cmk = ? ORDER BY name");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(id.bytes());
    std::vector<KeyTag> tags;
    for (;;) {
      const auto row = statement->step();
      if (!row) return pass(row.error(), "read the tags of key " + id.str());
      if (!*row) return tags;
      tags.push_back({statement->text(0), statement->text(1)});
    }
  }

  Result<void> set_bound(const CmkId& id, std::string_view resource, bool bound,
                         std::uint64_t intent) override {
    return change_beside(id, intent, [&]() -> Result<void> {
      if (!bound) {
        return run("DELETE FROM binding WHERE cmk = ? AND resource = ?", id.bytes(), resource);
      }
      auto added =
          run("INSERT OR IGNORE INTO binding (cmk, resource) VALUES (?, ?)", id.bytes(), resource);
      if (!added) return added;
      const auto count = bindings_of(id);
      if (!count) return tl::unexpected(count.error());
      if (*count <= kBindingsMax) return {};
      return fail(Reason::kLimitsExceeded,
                  "at most " + std::to_string(kBindingsMax) + " resources use one key");
    });
  }

  Result<std::vector<std::string>> bindings(const CmkId& id, std::string_view after,
                                            std::size_t count_max) override {
    const std::lock_guard lock(mutex_);
    auto statement = SqliteStatement::prepare(
        database_,
        "SELECT resource FROM binding WHERE cmk = ? AND resource > ? ORDER BY resource LIMIT ?");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(id.bytes()).bind(after).bind(std::uint64_t{count_max});
    std::vector<std::string> resources;
    for (;;) {
      const auto row = statement->step();
      if (!row) return pass(row.error(), "read what uses key " + id.str());
      if (!*row) return resources;
      resources.push_back(statement->text(0));
    }
  }

  Result<std::uint64_t> count_bindings(const CmkId& id) override {
    const std::lock_guard lock(mutex_);
    return bindings_of(id);
  }

  Result<std::vector<CmkId>> bound_keys(std::string_view prefix) override {
    const std::lock_guard lock(reader_mutex_);
    auto statement = SqliteStatement::prepare(
        reader_,
        "SELECT DISTINCT cmk FROM binding WHERE substr(resource, 1, length(?1)) = ?1 ORDER BY cmk");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(prefix);
    std::vector<CmkId> keys;
    for (;;) {
      const auto row = statement->step();
      if (!row) return pass(row.error(), "look for keys that are used");
      if (!*row) return keys;
      const auto id = CmkId::from_bytes(statement->bytes(0));
      if (!id) return fail(Reason::kStoreDamaged, "keys that are used: " + id.error().message());
      keys.push_back(*id);
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
    const bool destroyed = record.state == KeyState::kDestroyed;
    auto statement = SqliteStatement::prepare(
        database_,
        "INSERT INTO cmk (id, revision, alias, state, owner, origin, usage, algorithm, created, "
        "due, planned, intent, record, unpresented) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, "
        "?, 1) ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, "
        "alias = excluded.alias, state = excluded.state, owner = excluded.owner, "
        "origin = excluded.origin, usage = excluded.usage, algorithm = excluded.algorithm, "
        "created = excluded.created, due = excluded.due, planned = excluded.planned, "
        "intent = excluded.intent, record = excluded.record, unpresented = 1");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(record.id.bytes()).bind(record.revision);
    if (destroyed) {
      statement->bind_null();
    } else {
      statement->bind(record.alias);
    }
    statement->bind(number_of(record.state)).bind(number_of(record.owner));
    statement->bind(number_of(record.origin)).bind(number_of(record.usage));
    statement->bind(number_of(record.algorithm)).bind(usec(record.created));
    bind_time(*statement, due_of(record));
    bind_time(*statement, rotation_planned_at(record));
    if (auto written = statement->bind(intent).bind(sealed).run(); !written) return written;
    if (!destroyed) return {};
    if (auto gone = run("DELETE FROM tag WHERE cmk = ?", record.id.bytes()); !gone) return gone;
    return run("DELETE FROM binding WHERE cmk = ?", record.id.bytes());
  }

  static void bind_time(SqliteStatement& statement, const std::optional<WallTime>& time) {
    if (time) {
      statement.bind(usec(*time));
    } else {
      statement.bind_null();
    }
  }

  // The caller holds mutex_.
  Result<std::uint64_t> bindings_of(const CmkId& id) {
    auto statement =
        SqliteStatement::prepare(database_, "SELECT count(*) FROM binding WHERE cmk = ?");
    if (!statement) return tl::unexpected(statement.error());
    statement->bind(id.bytes());
    return only_number(*statement, "count what uses key " + id.str());
  }

  // Runs a statement without rows. The caller holds mutex_.
  template <class... Values>
  Result<void> run(const char* sql, const Values&... values) {
    auto statement = SqliteStatement::prepare(database_, sql);
    if (!statement) return tl::unexpected(statement.error());
    (statement->bind(values), ...);
    return statement->run();
  }

  // One transaction for what stands beside the record of a key.
  template <class Change>
  Result<void> change_beside(const CmkId& id, std::uint64_t intent, Change change) {
    const std::string what = "change key " + id.str();
    const std::lock_guard lock(mutex_);
    auto transaction = SqliteTransaction::begin(database_);
    if (!transaction) return pass(transaction.error(), what);
    auto marked = SqliteStatement::prepare(
        database_, "UPDATE cmk SET intent = ? WHERE id = ? AND state <> ? RETURNING 1");
    if (!marked) return tl::unexpected(marked.error());
    marked->bind(intent).bind(id.bytes()).bind(number_of(KeyState::kDestroyed));
    const auto row = marked->step();
    if (!row) return pass(row.error(), what);
    if (!*row) return fail(Reason::kNoSuchKey, "key " + id.str() + " is not in the store");
    if (const auto last = marked->step(); !last) return pass(last.error(), what);
    if (auto changed = change(); !changed) return pass(changed.error(), what);
    auto committed = transaction->commit();
    if (!committed) return pass(committed.error(), what);
    return {};
  }

  static Result<std::uint64_t> only_number(SqliteStatement& statement, const std::string& what) {
    const auto row = statement.step();
    if (!row) return pass(row.error(), what);
    if (!*row) return fail(Reason::kStoreDamaged, what + ": no answer");
    return statement.number(0);
  }

  // Of columns id and record.
  static Result<std::vector<StoredRecord>> all_records(SqliteStatement& statement,
                                                       const std::string& what) {
    std::vector<StoredRecord> records;
    for (;;) {
      const auto row = statement.step();
      if (!row) return pass(row.error(), what);
      if (!*row) return records;
      const auto id = CmkId::from_bytes(statement.bytes(0));
      if (!id) return fail(Reason::kStoreDamaged, what + ": " + id.error().message());
      records.push_back({*id, copy(statement.bytes(1))});
    }
  }

  static Result<SealedRecord> only_record(SqliteStatement& statement, const std::string& what) {
    const auto row = statement.step();
    if (!row) return pass(row.error(), "read " + what);
    if (!*row) return fail(Reason::kNoSuchKey, what + " is not in the store");
    return copy(statement.bytes(0));
  }

  std::mutex mutex_;  // Guards database_, which is one connection for one thread at a time.
  SqliteDatabase database_;
  // Lists, counts and searches, which may go through all keys: the use of a key does not wait.
  std::mutex reader_mutex_;  // Guards reader_. Never held with the other.
  SqliteDatabase reader_;
};

}  // namespace

Result<std::unique_ptr<KeyStore>> open_sqlite_key_store(const std::string& path) {
  auto database = SqliteDatabase::open(path, kKind);
  if (!database) return pass(database.error(), "key store");
  // A million keys fit: a look-up reads no page of the file. Pages take memory as they are read.
  if (auto set = database->execute("PRAGMA cache_size = -1048576"); !set) {
    return pass(set.error(), "key store");
  }
  auto reader = SqliteDatabase::open_reader(path);
  if (!reader) return pass(reader.error(), "key store");
  return std::make_unique<SqliteKeyStore>(std::move(*database), std::move(*reader));
}

}  // namespace coffer::keyring

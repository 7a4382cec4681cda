// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/registry.h"

#include <limits>

namespace coffer::agent {
namespace {

// "CofV": tells this file from Coffer's other stores.
constexpr std::int32_t kApplicationId = 0x436F6656;
constexpr SqliteDatabase::Kind kKind{
    kApplicationId, 1,
    "CREATE TABLE volume(id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, "
    "mapped_name TEXT NOT NULL UNIQUE, body BLOB NOT NULL) STRICT, WITHOUT ROWID"};

constexpr std::uint64_t kNumberMax = std::numeric_limits<std::uint32_t>::max();

// A row whose columns say something else than its sealed body was edited.
Result<VolumeRow> read_row(const SqliteStatement& statement) {
  auto row = VolumeRow::decode(statement.bytes(3));
  if (!row) return row;
  if (row->id.str() != statement.text(0) || row->name != statement.text(1) ||
      row->mapped_name != statement.text(2)) {
    return fail(Reason::kStoreDamaged, "registry row: its columns contradict its body");
  }
  return row;
}

}  // namespace

Result<std::unique_ptr<Registry>> Registry::open(const std::string& path) {
  auto database = SqliteDatabase::open(path, kKind);
  if (!database) return pass(database.error(), "registry");
  // Came later than the rest; who does not know it leaves it alone.
  const auto made = database->execute(
      "CREATE TABLE IF NOT EXISTS rewrap(cmk TEXT PRIMARY KEY, per_minute INTEGER NOT NULL, "
      "uid INTEGER NOT NULL, started INTEGER NOT NULL) STRICT, WITHOUT ROWID");
  if (!made) return pass(made.error(), "registry");
  return std::unique_ptr<Registry>(new Registry(std::move(*database)));
}

Result<Registry::Contents> Registry::load() {
  const std::lock_guard lock(mutex_);
  auto statement = SqliteStatement::prepare(
      database_, "SELECT id, name, mapped_name, body FROM volume ORDER BY name");
  if (!statement) return pass(statement.error(), "read the registry");

  Contents contents;
  while (true) {
    const auto more = statement->step();
    if (!more) return pass(more.error(), "read the registry");
    if (!*more) return contents;
    auto row = read_row(*statement);
    if (row) {
      contents.rows.push_back(std::move(*row));
    } else {
      contents.damaged.push_back(printable(statement->text(0), 64));
    }
  }
}

Result<VolumeRow> Registry::find(const VolumeId& id) {
  const std::lock_guard lock(mutex_);
  auto statement = SqliteStatement::prepare(
      database_, "SELECT id, name, mapped_name, body FROM volume WHERE id = ?");
  if (!statement) return pass(statement.error(), "find volume " + id.str());
  statement->bind(id.str());
  const auto found = statement->step();
  if (!found) return pass(found.error(), "find volume " + id.str());
  if (!*found) return fail(Reason::kNoSuchVolume, "no volume " + id.str());
  return read_row(*statement);
}

Result<void> Registry::put(const VolumeRow& row) {
  return put_all({row});
}

Result<void> Registry::put_all(const std::vector<VolumeRow>& rows) {
  const std::lock_guard lock(mutex_);
  auto transaction = SqliteTransaction::begin(database_);
  if (!transaction) return pass(transaction.error(), "write the registry");
  for (const VolumeRow& row : rows) {
    if (auto stored = put_one(row); !stored) return stored;
  }
  if (auto done = transaction->commit(); !done) return pass(done.error(), "write the registry");
  return {};
}

// Another row with its names, and the limit.
Result<void> Registry::require_room(const VolumeRow& row) {
  auto statement = SqliteStatement::prepare(
      database_,
      "SELECT count(*), count(*) FILTER (WHERE name = ?2 OR mapped_name = ?3) FROM volume "
      "WHERE id <> ?1");
  if (!statement) return tl::unexpected(statement.error());
  statement->bind(row.id.str()).bind(row.name).bind(row.mapped_name);
  if (const auto counted = statement->step(); !counted) return tl::unexpected(counted.error());
  if (statement->number(1) > 0) {
    return fail(Reason::kNameTaken, "another volume is called " + row.name);
  }
  if (statement->number(0) >= kRowsMax) return fail(Reason::kLimitsExceeded, "registry: full");
  return {};
}

Result<void> Registry::put_one(const VolumeRow& row) {
  const Bytes body = row.encode();
  if (auto readable = VolumeRow::decode(body); !readable) {
    return fail(Reason::kInternal, "registry: refuse to store: " + readable.error().message());
  }
  const std::string doing = "store volume " + row.id.str();
  if (auto room = require_room(row); !room) return pass(room.error(), doing);

  auto statement =
      SqliteStatement::prepare(database_,
                               "INSERT INTO volume(id, name, mapped_name, body) "
                               "VALUES(?1, ?2, ?3, ?4) "
                               "ON CONFLICT(id) DO UPDATE SET name=?2, mapped_name=?3, body=?4");
  if (!statement) return pass(statement.error(), doing);
  statement->bind(row.id.str()).bind(row.name).bind(row.mapped_name).bind(body);
  if (auto done = statement->run(); !done) return pass(done.error(), doing);
  return {};
}

Result<void> Registry::erase(const VolumeId& id) {
  const std::lock_guard lock(mutex_);
  auto statement = SqliteStatement::prepare(database_, "DELETE FROM volume WHERE id = ?");
  if (!statement) return pass(statement.error(), "erase volume " + id.str());
  statement->bind(id.str());
  if (auto done = statement->run(); !done) return pass(done.error(), "erase volume " + id.str());
  return {};
}

Result<void> Registry::note_rewrap(const OpenRewrap& rewrap) {
  const std::lock_guard lock(mutex_);
  const std::string doing = "note the rewrap of key " + rewrap.key.str();
  auto statement = SqliteStatement::prepare(
      database_, "INSERT OR REPLACE INTO rewrap(cmk, per_minute, uid, started) VALUES(?,?,?,?)");
  if (!statement) return pass(statement.error(), doing);
  statement->bind(rewrap.key.str())
      .bind(std::uint64_t{rewrap.per_minute})
      .bind(std::uint64_t{rewrap.uid})
      .bind(usec(rewrap.started));
  if (auto done = statement->run(); !done) return pass(done.error(), doing);
  return {};
}

Result<void> Registry::end_rewrap(const OpenRewrap& rewrap) {
  const std::lock_guard lock(mutex_);
  const std::string doing = "end the rewrap of key " + rewrap.key.str();
  auto statement =
      SqliteStatement::prepare(database_, "DELETE FROM rewrap WHERE cmk = ? AND started = ?");
  if (!statement) return pass(statement.error(), doing);
  statement->bind(rewrap.key.str()).bind(usec(rewrap.started));
  if (auto done = statement->run(); !done) return pass(done.error(), doing);
  return {};
}

Result<std::vector<OpenRewrap>> Registry::open_rewraps() {
  const std::lock_guard lock(mutex_);
  auto statement = SqliteStatement::prepare(
      database_, "SELECT cmk, per_minute, uid, started FROM rewrap ORDER BY started, cmk");
  if (!statement) return pass(statement.error(), "read the open rewraps");
  std::vector<OpenRewrap> all;
  while (true) {
    const auto more = statement->step();
    if (!more) return pass(more.error(), "read the open rewraps");
    if (!*more) return all;
    const auto key = CmkId::parse(statement->text(0));
    const std::uint64_t per_minute = statement->number(1);
    const std::uint64_t uid = statement->number(2);
    if (!key || per_minute > kNumberMax || uid > kNumberMax) continue;
    all.push_back({*key, static_cast<std::uint32_t>(per_minute), static_cast<std::uint32_t>(uid),
                   wall_from_usec(statement->number(3))});
  }
}

}  // namespace coffer::agent

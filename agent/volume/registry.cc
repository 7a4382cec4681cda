// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/registry.h"

#include <fcntl.h>
#include <sqlite3.h>

#include "core/base/unique_fd.h"

namespace coffer::agent {
namespace {

constexpr int kSchemaVersion = 1;
constexpr int kBusyTimeoutMs = 2000;

using Statement = CHandle<sqlite3_stmt, ::sqlite3_finalize>;

tl::unexpected<Error> db_error(sqlite3* db, std::string_view step) {
  const int code = ::sqlite3_errcode(db);
  const bool damaged = code == SQLITE_CORRUPT || code == SQLITE_NOTADB;
  return fail(damaged ? Reason::kStoreDamaged : Reason::kStoreUnavailable,
              "registry: " + std::string(step) + ": " + ::sqlite3_errmsg(db));
}

Result<void> run(sqlite3* db, const char* sql) {
  if (::sqlite3_exec(db, sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return db_error(db, sql);
}

Result<Statement> prepare(sqlite3* db, const char* sql) {
  sqlite3_stmt* statement = nullptr;
  if (::sqlite3_prepare_v2(db, sql, -1, &statement, nullptr) != SQLITE_OK) {
    return db_error(db, sql);
  }
  return Statement(statement);
}

// The values live as long as the statement runs, so SQLite need not copy them.
void bind_text(sqlite3_stmt* statement, int at, std::string_view text) {
  ::sqlite3_bind_text(statement, at, text.data(), static_cast<int>(text.size()), SQLITE_STATIC);
}
void bind_blob(sqlite3_stmt* statement, int at, const Bytes& bytes) {
  ::sqlite3_bind_blob(statement, at, bytes.data(), static_cast<int>(bytes.size()), SQLITE_STATIC);
}

std::string column_text(sqlite3_stmt* statement, int at) {
  const auto* text = reinterpret_cast<const char*>(::sqlite3_column_text(statement, at));
  const auto size = static_cast<std::size_t>(::sqlite3_column_bytes(statement, at));
  return text == nullptr ? std::string() : std::string(text, size);
}

// A row whose columns say something else than its sealed body was edited.
Result<VolumeRow> read_row(sqlite3_stmt* statement) {
  const auto* body = static_cast<const std::byte*>(::sqlite3_column_blob(statement, 3));
  const auto size = static_cast<std::size_t>(::sqlite3_column_bytes(statement, 3));
  auto row = VolumeRow::decode(ByteView(body, size));
  if (!row) return row;
  if (row->id.str() != column_text(statement, 0) || row->name != column_text(statement, 1) ||
      row->mapped_name != column_text(statement, 2)) {
    return fail(Reason::kStoreDamaged, "registry row: its columns contradict its body");
  }
  return row;
}

Result<int> query_number(sqlite3* db, const char* sql) {
  const auto statement = prepare(db, sql);
  if (!statement) return tl::unexpected(statement.error());
  if (::sqlite3_step(statement->get()) != SQLITE_ROW) return db_error(db, sql);
  return ::sqlite3_column_int(statement->get(), 0);
}

}  // namespace

void Registry::CloseDb::operator()(sqlite3* db) const noexcept {
  ::sqlite3_close_v2(db);
}

Registry::Registry(Db db) : db_(std::move(db)) {}
Registry::~Registry() = default;

Result<std::unique_ptr<Registry>> Registry::open(const std::string& path) {
  // SQLite would make the file with the process's umask: make it first, for its owner alone.
  const UniqueFd made(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!made.valid()) return fail_errno(errno, "open " + path, Reason::kStoreUnavailable);

  sqlite3* opened = nullptr;
  const int code = ::sqlite3_open_v2(path.c_str(), &opened,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_FULLMUTEX, nullptr);
  Db db(opened);
  if (code != SQLITE_OK) return db_error(db.get(), "open " + path);
  ::sqlite3_busy_timeout(db.get(), kBusyTimeoutMs);

  std::unique_ptr<Registry> registry(new Registry(std::move(db)));
  if (const auto ready = registry->prepare_schema(); !ready) {
    return pass(ready.error(), "open " + path);
  }
  return registry;
}

Result<void> Registry::prepare_schema() {
  for (const char* sql : {"PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL",
                          "PRAGMA trusted_schema=OFF", "PRAGMA cell_size_check=ON"}) {
    if (const auto done = run(db_.get(), sql); !done) return done;
  }
  const auto version = query_number(db_.get(), "PRAGMA user_version");
  if (!version) return tl::unexpected(version.error());
  if (*version == kSchemaVersion) return {};
  if (*version != 0) {
    return fail(Reason::kStoreDamaged,
                "registry: format version " + std::to_string(*version) + " is not known here");
  }
  return run(db_.get(),
             "BEGIN IMMEDIATE;"
             "CREATE TABLE IF NOT EXISTS volume("
             " id TEXT PRIMARY KEY, name TEXT NOT NULL UNIQUE, mapped_name TEXT NOT NULL UNIQUE,"
             " body BLOB NOT NULL) STRICT, WITHOUT ROWID;"
             "PRAGMA user_version=1;"
             "COMMIT");
}

Result<Registry::Contents> Registry::load() {
  const std::lock_guard lock(mutex_);
  const auto statement =
      prepare(db_.get(), "SELECT id, name, mapped_name, body FROM volume ORDER BY name");
  if (!statement) return tl::unexpected(statement.error());

  Contents contents;
  int code = SQLITE_ROW;
  while ((code = ::sqlite3_step(statement->get())) == SQLITE_ROW) {
    auto row = read_row(statement->get());
    if (row) {
      contents.rows.push_back(std::move(*row));
    } else {
      contents.damaged.push_back(printable(column_text(statement->get(), 0), 64));
    }
  }
  if (code != SQLITE_DONE) return db_error(db_.get(), "read all rows");
  return contents;
}

Result<VolumeRow> Registry::find(const VolumeId& id) {
  const std::lock_guard lock(mutex_);
  const auto statement =
      prepare(db_.get(), "SELECT id, name, mapped_name, body FROM volume WHERE id=?1");
  if (!statement) return tl::unexpected(statement.error());
  const std::string text = id.str();
  bind_text(statement->get(), 1, text);

  const int code = ::sqlite3_step(statement->get());
  if (code == SQLITE_ROW) return read_row(statement->get());
  if (code == SQLITE_DONE) return fail(Reason::kNoSuchVolume, "no volume " + text);
  return db_error(db_.get(), "find " + text);
}

Result<void> Registry::put(const VolumeRow& row) {
  return put_all({row});
}

Result<void> Registry::put_all(const std::vector<VolumeRow>& rows) {
  const std::lock_guard lock(mutex_);
  if (const auto begun = run(db_.get(), "BEGIN IMMEDIATE"); !begun) return begun;
  for (const VolumeRow& row : rows) {
    if (auto stored = put_one(row); !stored) {
      static_cast<void>(run(db_.get(), "ROLLBACK"));
      return stored;
    }
  }
  auto done = run(db_.get(), "COMMIT");
  if (!done) static_cast<void>(run(db_.get(), "ROLLBACK"));
  return done;
}

Result<void> Registry::put_one(const VolumeRow& row) {
  const Bytes body = row.encode();
  if (auto readable = VolumeRow::decode(body); !readable) {
    return fail(Reason::kInternal, "registry: refuse to store: " + readable.error().message());
  }
  const auto count = query_number(db_.get(), "SELECT count(*) FROM volume");
  if (!count) return tl::unexpected(count.error());
  if (static_cast<std::size_t>(*count) >= kRowsMax) {
    return fail(Reason::kLimitsExceeded, "registry: full");
  }

  const auto statement =
      prepare(db_.get(),
              "INSERT INTO volume(id, name, mapped_name, body) VALUES(?1, ?2, ?3, ?4) "
              "ON CONFLICT(id) DO UPDATE SET name=?2, mapped_name=?3, body=?4");
  if (!statement) return tl::unexpected(statement.error());
  const std::string id = row.id.str();
  bind_text(statement->get(), 1, id);
  bind_text(statement->get(), 2, row.name);
  bind_text(statement->get(), 3, row.mapped_name);
  bind_blob(statement->get(), 4, body);
  const int code = ::sqlite3_step(statement->get());
  if (code == SQLITE_DONE) return {};
  if (code == SQLITE_CONSTRAINT) {
    return fail(Reason::kNameTaken, "another volume is called " + row.name);
  }
  return db_error(db_.get(), "store " + id);
}

Result<void> Registry::erase(const VolumeId& id) {
  const std::lock_guard lock(mutex_);
  const auto statement = prepare(db_.get(), "DELETE FROM volume WHERE id=?1");
  if (!statement) return tl::unexpected(statement.error());
  const std::string text = id.str();
  bind_text(statement->get(), 1, text);
  if (::sqlite3_step(statement->get()) == SQLITE_DONE) return {};
  return db_error(db_.get(), "erase " + text);
}

}  // namespace coffer::agent

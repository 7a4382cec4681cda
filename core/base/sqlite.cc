// SPDX-License-Identifier: Apache-2.0
#include "core/base/sqlite.h"

#include <fcntl.h>
#include <sqlite3.h>

#include <cerrno>
#include <filesystem>
#include <system_error>

#include "core/base/files.h"
#include "core/base/sqlite_copy.h"
#include "core/base/unique_fd.h"

namespace coffer {
namespace {

constexpr int kBusyTimeoutMs = 2000;
constexpr int kCellBytesMax = 1 << 20;

bool means_damaged(int code) {
  const int primary = code & 0xFF;
  return primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB || primary == SQLITE_FORMAT ||
         primary == SQLITE_MISMATCH || primary == SQLITE_ERROR;
}

tl::unexpected<Error> failure_of(::sqlite3* db, std::string_view doing) {
  const int code = db == nullptr ? SQLITE_NOMEM : ::sqlite3_extended_errcode(db);
  const std::string why = db == nullptr ? "no memory" : ::sqlite3_errmsg(db);
  return fail(means_damaged(code) ? Reason::kStoreDamaged : Reason::kStoreUnavailable,
              std::string(doing) + ": " + why + " (SQLite " + std::to_string(code) + ")");
}

// SQLite would make the file with the process's umask; made here, it is 0600 whatever that is.
Result<void> make_private_file(const std::string& path) {
  const UniqueFd fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOCTTY, 0600));
  if (fd.get() < 0) {
    return fail(Reason::kStoreUnavailable,
                "open " + path + ": " + std::system_category().message(errno));
  }
  const auto parent = std::filesystem::path(path).parent_path();
  const auto synced = sync_folder(parent.empty() ? "." : parent.string());
  if (!synced) return fail(Reason::kStoreUnavailable, synced.error().message());
  return {};
}

Result<std::uint64_t> pragma_number(SqliteDatabase& database, const char* sql) {
  auto statement = SqliteStatement::prepare(database, sql);
  if (!statement) return tl::unexpected(statement.error());
  const auto row = statement->step();
  if (!row) return tl::unexpected(row.error());
  return *row ? statement->number(0) : 0;
}

Result<void> require_sound(SqliteDatabase& database, const std::string& path) {
  auto statement = SqliteStatement::prepare(database, "PRAGMA quick_check(1)");
  if (!statement) return tl::unexpected(statement.error());
  const auto row = statement->step();
  if (!row) return tl::unexpected(row.error());
  if (*row && statement->text(0) == "ok") return {};
  return fail(Reason::kStoreDamaged, path + ": " + (*row ? statement->text(0) : "no answer"));
}

// Runs the schema on a new file, and checks that an old one is what this program knows.
Result<void> settle_schema(SqliteDatabase& database, const std::string& path,
                           const SqliteDatabase::Kind& kind) {
  const auto tables = pragma_number(database, "SELECT count(*) FROM sqlite_schema");
  if (!tables) return tl::unexpected(tables.error());
  const auto application = pragma_number(database, "PRAGMA application_id");
  if (!application) return tl::unexpected(application.error());
  const auto version = pragma_number(database, "PRAGMA user_version");
  if (!version) return tl::unexpected(version.error());
  if (*tables == 0 && *application == 0 && *version == 0) {
    auto transaction = SqliteTransaction::begin(database);
    if (!transaction) return tl::unexpected(transaction.error());
    const std::string sql = std::string(kind.schema) +
                            "; PRAGMA application_id = " + std::to_string(kind.application) +
                            "; PRAGMA user_version = " + std::to_string(kind.schema_version);
    if (auto made = database.execute(sql.c_str()); !made) return made;
    return transaction->commit();
  }
  if (*application != static_cast<std::uint64_t>(kind.application)) {
    return fail(Reason::kStoreDamaged, path + " is not a store of this kind");
  }
  if (*version != static_cast<std::uint64_t>(kind.schema_version)) {
    return fail(Reason::kStoreDamaged, path + " has schema version " + std::to_string(*version) +
                                           ", this program knows " +
                                           std::to_string(kind.schema_version));
  }
  return {};
}

}  // namespace

void SqliteDatabase::Close::operator()(::sqlite3* db) const noexcept {
  ::sqlite3_close_v2(db);
}

Result<SqliteDatabase> SqliteDatabase::connect(const std::string& path) {
  ::sqlite3* raw = nullptr;
  const int opened = ::sqlite3_open_v2(
      path.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
      nullptr);
  SqliteDatabase database(raw);
  if (opened != SQLITE_OK) return failure_of(raw, "open " + path);
  ::sqlite3_extended_result_codes(raw, 1);
  ::sqlite3_busy_timeout(raw, kBusyTimeoutMs);
  ::sqlite3_limit(raw, SQLITE_LIMIT_LENGTH, kCellBytesMax);
  ::sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  ::sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  // Temporary files would lie where nobody guards them.
  auto set = database.execute("PRAGMA cell_size_check = ON; PRAGMA temp_store = MEMORY");
  if (!set) return pass(set.error(), "open " + path);
  return database;
}

Result<SqliteDatabase> SqliteDatabase::open_reader(const std::string& path) {
  auto database = connect(path);
  if (!database) return database;
  if (auto set = database->execute("PRAGMA query_only = ON"); !set) {
    return pass(set.error(), "open " + path);
  }
  return database;
}

Result<SqliteDatabase> SqliteDatabase::open(const std::string& path, const Kind& kind) {
  if (auto made = make_private_file(path); !made) return tl::unexpected(made.error());
  auto database = connect(path);
  if (!database) return database;
  const auto ready = [&]() -> Result<void> {
    if (auto set = database->execute("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL");
        !set) {
      return set;
    }
    if (auto sound = require_sound(*database, path); !sound) return sound;
    return settle_schema(*database, path, kind);
  }();
  if (!ready) return pass(ready.error(), "open " + path);
  return database;
}

Result<void> SqliteDatabase::execute(const char* sql) {
  if (::sqlite3_exec(db_.get(), sql, nullptr, nullptr, nullptr) == SQLITE_OK) return {};
  return failure("run a statement");
}

tl::unexpected<Error> SqliteDatabase::failure(std::string_view doing) const {
  return failure_of(db_.get(), doing);
}

Result<void> copy_sqlite_file(const std::string& from, const std::string& to) {
  if (auto made = make_private_file(to); !made) return made;
  ::sqlite3* raw = nullptr;
  const int opened = ::sqlite3_open_v2(
      from.c_str(), &raw, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE,
      nullptr);
  const std::unique_ptr<::sqlite3, decltype(&::sqlite3_close_v2)> database(raw, ::sqlite3_close_v2);
  if (opened != SQLITE_OK) return failure_of(raw, "open " + from);
  ::sqlite3_extended_result_codes(raw, 1);
  ::sqlite3_busy_timeout(raw, kBusyTimeoutMs);
  ::sqlite3_db_config(raw, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
  ::sqlite3_db_config(raw, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, nullptr);
  const auto doing = "copy " + from;
  ::sqlite3_stmt* prepared = nullptr;
  const int ready = ::sqlite3_prepare_v2(raw, "VACUUM INTO ?1", -1, &prepared, nullptr);
  const std::unique_ptr<::sqlite3_stmt, decltype(&::sqlite3_finalize)> statement(
      prepared, ::sqlite3_finalize);
  if (ready != SQLITE_OK) return failure_of(raw, doing);
  if (::sqlite3_bind_text(prepared, 1, to.c_str(), -1, SQLITE_TRANSIENT) != SQLITE_OK ||
      ::sqlite3_step(prepared) != SQLITE_DONE) {
    return failure_of(raw, doing);
  }
  return {};
}

void SqliteStatement::Finalize::operator()(::sqlite3_stmt* statement) const noexcept {
  ::sqlite3_finalize(statement);
}

Result<SqliteStatement> SqliteStatement::prepare(SqliteDatabase& database, const char* sql) {
  ::sqlite3_stmt* raw = nullptr;
  if (::sqlite3_prepare_v2(database.handle(), sql, -1, &raw, nullptr) != SQLITE_OK) {
    return database.failure("prepare a statement");
  }
  return SqliteStatement(database, raw);
}

SqliteStatement& SqliteStatement::bind(ByteView bytes) {
  // An empty blob, not NULL, for an empty view.
  const int done = bytes.empty() ? ::sqlite3_bind_zeroblob(statement_.get(), ++bound_, 0)
                                 : ::sqlite3_bind_blob64(statement_.get(), ++bound_, bytes.data(),
                                                         bytes.size(), SQLITE_TRANSIENT);
  bad_ = bad_ || done != SQLITE_OK;
  return *this;
}

SqliteStatement& SqliteStatement::bind(std::string_view text) {
  const char* data = text.empty() ? "" : text.data();
  bad_ = ::sqlite3_bind_text64(statement_.get(), ++bound_, data, text.size(), SQLITE_TRANSIENT,
                               SQLITE_UTF8) != SQLITE_OK ||
         bad_;
  return *this;
}

SqliteStatement& SqliteStatement::bind(std::uint64_t value) {
  bad_ = ::sqlite3_bind_int64(statement_.get(), ++bound_, static_cast<sqlite3_int64>(value)) !=
             SQLITE_OK ||
         bad_;
  return *this;
}

SqliteStatement& SqliteStatement::bind_null() {
  bad_ |= ::sqlite3_bind_null(statement_.get(), ++bound_) != SQLITE_OK;
  return *this;
}

Result<bool> SqliteStatement::step() {
  if (bad_) return database_->failure("bind a value");
  switch (::sqlite3_step(statement_.get())) {
    case SQLITE_ROW:
      return true;
    case SQLITE_DONE:
      return false;
    default:
      return database_->failure("run a statement");
  }
}

Result<void> SqliteStatement::run() {
  const auto row = step();
  if (!row) return tl::unexpected(row.error());
  return {};
}

ByteView SqliteStatement::bytes(int column) const {
  const void* data = ::sqlite3_column_blob(statement_.get(), column);
  const int size = ::sqlite3_column_bytes(statement_.get(), column);
  return {static_cast<const std::byte*>(data),
          data == nullptr ? 0 : static_cast<std::size_t>(size)};
}

std::string SqliteStatement::text(int column) const {
  return std::string(as_text(bytes(column)));
}

bool SqliteStatement::is_null(int column) const {
  return ::sqlite3_column_type(statement_.get(), column) == SQLITE_NULL;
}

std::uint64_t SqliteStatement::number(int column) const {
  return static_cast<std::uint64_t>(::sqlite3_column_int64(statement_.get(), column));
}

Result<SqliteTransaction> SqliteTransaction::begin(SqliteDatabase& database) {
  if (auto begun = database.execute("BEGIN IMMEDIATE"); !begun) {
    return tl::unexpected(begun.error());
  }
  return SqliteTransaction(database);
}

Result<void> SqliteTransaction::commit() {
  if (auto done = database_->execute("COMMIT"); !done) return done;
  database_ = nullptr;
  return {};
}

SqliteTransaction::~SqliteTransaction() {
  if (database_ == nullptr) return;
  // Some errors have undone it already; then there is nothing to roll back.
  if (::sqlite3_get_autocommit(database_->handle()) == 0) {
    static_cast<void>(database_->execute("ROLLBACK"));
  }
}

}  // namespace coffer

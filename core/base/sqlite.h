// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/bytes.h"
#include "core/base/result.h"

struct sqlite3;
struct sqlite3_stmt;

namespace coffer {

// SqliteDatabase is one connection to one file, set up for small state that must survive a power
// cut: write-ahead log, synchronous=FULL, STRICT tables, cell sizes checked. It is not thread-safe:
// whoever owns it puts a mutex beside it.
//
// Errors of every call:
//   kStoreUnavailable   cannot be read or written now: disk full, read-only, I/O error, locked by
//                       another process, no memory. Nothing changed.
//   kStoreDamaged       the file is not a database, is malformed, or is not of the expected schema.
class SqliteDatabase {
 public:
  // What the file is: `application` is written into its header, and `schema` is run on a new file.
  struct Kind {
    std::int32_t application = 0;
    std::int32_t schema_version = 1;
    std::string_view schema;
  };

  // Opens `path`, made with mode 0600 if absent, and checks it whole (quick_check).
  //   kStoreDamaged   also: of another application, or of a newer schema than this program knows.
  static Result<SqliteDatabase> open(const std::string& path, const Kind& kind);

  // A further connection, that only reads, to a file that open() opened and checked. What it reads
  // waits for no writer and holds up none: each statement sees what was committed before it began.
  static Result<SqliteDatabase> open_reader(const std::string& path);

  SqliteDatabase(SqliteDatabase&&) noexcept = default;
  SqliteDatabase& operator=(SqliteDatabase&&) noexcept = default;

  // Runs statements without parameters and results.
  Result<void> execute(const char* sql);

  ::sqlite3* handle() const noexcept { return db_.get(); }
  // The error of the last call on this connection, with `doing` in front.
  tl::unexpected<Error> failure(std::string_view doing) const;

 private:
  struct Close {
    void operator()(::sqlite3* db) const noexcept;
  };
  explicit SqliteDatabase(::sqlite3* db) : db_(db) {}
  static Result<SqliteDatabase> connect(const std::string& path);

  std::unique_ptr<::sqlite3, Close> db_;
};

// A statement being run: bind in order, then step through its rows.
class SqliteStatement {
 public:
  static Result<SqliteStatement> prepare(SqliteDatabase& database, const char* sql);

  SqliteStatement& bind(ByteView bytes);
  SqliteStatement& bind(std::string_view text);
  SqliteStatement& bind(std::uint64_t value);  // At most 2^63 - 1.
  SqliteStatement& bind_null();

  // True: there is a row to read. False: done.
  Result<bool> step();
  Result<void> run();  // A statement without rows.

  // Cells of the current row. Views end with the next step().
  ByteView bytes(int column) const;
  std::string text(int column) const;
  std::uint64_t number(int column) const;
  bool is_null(int column) const;

 private:
  struct Finalize {
    void operator()(::sqlite3_stmt* statement) const noexcept;
  };
  SqliteStatement(SqliteDatabase& database, ::sqlite3_stmt* statement)
      : database_(&database), statement_(statement) {}

  SqliteDatabase* database_;
  std::unique_ptr<::sqlite3_stmt, Finalize> statement_;
  int bound_ = 0;
  bool bad_ = false;  // A bind failed.
};

// A transaction that writes (BEGIN IMMEDIATE); undone unless commit() succeeded.
class SqliteTransaction {
 public:
  static Result<SqliteTransaction> begin(SqliteDatabase& database);
  Result<void> commit();

  SqliteTransaction(SqliteTransaction&& other) noexcept
      : database_(std::exchange(other.database_, nullptr)) {}
  SqliteTransaction& operator=(SqliteTransaction&&) = delete;
  ~SqliteTransaction();

 private:
  explicit SqliteTransaction(SqliteDatabase& database) : database_(&database) {}
  SqliteDatabase* database_;  // Null once committed.
};

}  // namespace coffer

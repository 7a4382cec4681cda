// SPDX-License-Identifier: Apache-2.0
#include "core/base/sqlite_copy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/base/sqlite.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

constexpr SqliteDatabase::Kind kKind{0x636f7079, 3, "CREATE TABLE t (n INTEGER) STRICT"};

class SqliteCopyTest : public testing::Test {
 protected:
  std::string at(const char* name) const { return (dir_.path() / name).string(); }

  static std::uint64_t sum(const std::string& path) {
    auto database = SqliteDatabase::open(path, kKind);
    EXPECT_THAT(database, Succeeds());
    if (!database) return 0;
    auto statement = SqliteStatement::prepare(*database, "SELECT coalesce(sum(n), 0) FROM t");
    EXPECT_THAT(statement, Succeeds());
    EXPECT_THAT(statement->step(), Succeeds());
    return statement->number(0);
  }

  TempDir dir_;
};

TEST_F(SqliteCopyTest, TakesWhatIsCommittedWhileAnotherConnectionWrites) {
  auto database = SqliteDatabase::open(at("from"), kKind);
  ASSERT_THAT(database, Succeeds());
  ASSERT_THAT(database->execute("INSERT INTO t VALUES (1), (2)"), Succeeds());
  auto transaction = SqliteTransaction::begin(*database);
  ASSERT_THAT(transaction, Succeeds());
  ASSERT_THAT(database->execute("INSERT INTO t VALUES (40)"), Succeeds());
  ASSERT_THAT(copy_sqlite_file(at("from"), at("before")), Succeeds());
  ASSERT_THAT(transaction->commit(), Succeeds());
  ASSERT_THAT(copy_sqlite_file(at("from"), at("after")), Succeeds());
  // One file each, of the same kind.
  EXPECT_FALSE(std::filesystem::exists(at("after-wal")));
  EXPECT_EQ(std::filesystem::status(at("after")).permissions(), std::filesystem::perms(0600));
  EXPECT_EQ(sum(at("before")), 3U);
  EXPECT_EQ(sum(at("after")), 43U);
}

TEST_F(SqliteCopyTest, NeedsADatabaseAndAPlaceForIt) {
  EXPECT_THAT(copy_sqlite_file(at("absent"), at("to")), FailsWith(Reason::kStoreUnavailable));
  EXPECT_FALSE(std::filesystem::exists(at("absent")));
  std::ofstream(at("junk")) << std::string(8192, 'x');
  std::filesystem::remove(at("to"));
  EXPECT_THAT(copy_sqlite_file(at("junk"), at("to")), FailsWith(Reason::kStoreDamaged));
  ASSERT_THAT(SqliteDatabase::open(at("from"), kKind), Succeeds());
  EXPECT_THAT(copy_sqlite_file(at("from"), at("no/folder")), FailsWith(Reason::kStoreUnavailable));
}

}  // namespace
}  // namespace coffer::tests

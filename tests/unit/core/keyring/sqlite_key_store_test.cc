// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <future>
#include <thread>

#include "core/base/files.h"
#include "core/base/sqlite.h"
#include "core/keyring/key_store.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::keyring {
namespace {

using tests::FailsWith;
using tests::Succeeds;

SealedRecord record_of(const CmkId& id, const std::string& alias, std::uint64_t revision) {
  CmkRecord record{.id = id};
  record.alias = alias;
  record.revision = revision;
  record.versions.push_back({.material = Bytes(60)});
  SealedRecord sealed = record.encode();
  sealed.resize(sealed.size() + CmkRecord::kSealBytes);
  return sealed;
}

class SqliteKeyStoreTest : public testing::Test {
 protected:
  void SetUp() override { open(); }
  void open() {
    store_.reset();
    auto opened = open_sqlite_key_store(path_);
    ASSERT_THAT(opened, Succeeds());
    store_ = std::move(*opened);
  }
  // As somebody who edits the file.
  void edit(const std::string& sql) const {
    ::sqlite3* db = nullptr;
    ASSERT_EQ(::sqlite3_open(path_.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(::sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << ::sqlite3_errmsg(db);
    ::sqlite3_close(db);
  }

  tests::TempDir dir_;
  std::string path_ = (dir_.path() / "keyring.db").string();
  std::unique_ptr<KeyStore> store_;
  const CmkId a_ = *CmkId::parse("aaaaaaaa-0000-4000-8000-000000000001");
  const CmkId b_ = *CmkId::parse("bbbbbbbb-0000-4000-8000-000000000002");
};

// A write that waits, as for another program's, holds up neither lists nor searches.
TEST_F(SqliteKeyStoreTest, ListsAndSearchesGoOnBesideAWrite) {
  ASSERT_THAT(store_->put(record_of(a_, "a", 1), 0, 17), Succeeds());
  ::sqlite3* other = nullptr;
  ASSERT_EQ(::sqlite3_open(path_.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(::sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  auto put =
      std::async(std::launch::async, [&] { return store_->put(record_of(b_, "b", 1), 0, 18); });
  KeyQuery query;
  query.filter.search = "a";
  for (int i = 0; i < 20; ++i) {
    const auto found = store_->list(query);
    ASSERT_THAT(found, Succeeds());
    ASSERT_EQ(found->size(), 1U);
    ASSERT_EQ(*store_->count({}), 1U);
  }
  EXPECT_EQ(put.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  ::sqlite3_close(other);
  EXPECT_THAT(put.get(), Succeeds());
  EXPECT_EQ(*store_->count({}), 2U);
}

TEST_F(SqliteKeyStoreTest, KeepsWhatItWasGivenAcrossARestart) {
  const auto first = record_of(a_, "a", 1);
  ASSERT_THAT(store_->put(first, 0, 17), Succeeds());
  open();
  EXPECT_EQ(*store_->get(a_), first);
  EXPECT_EQ(*store_->get_by_alias("a"), first);
  EXPECT_EQ(*store_->intent_of(a_), 17U);
  const auto second = record_of(a_, "a2", 2);
  ASSERT_THAT(store_->put(second, 1, 18), Succeeds());
  EXPECT_EQ(*store_->get(a_), second);
  EXPECT_THAT(store_->get_by_alias("a"), FailsWith(Reason::kNoSuchKey));
  EXPECT_EQ(*store_->intent_of(a_), 18U);
}

TEST_F(SqliteKeyStoreTest, IsReadableByItsOwnerAlone) {
  ASSERT_THAT(store_->put(record_of(a_, "a", 1), 0, 1), Succeeds());
  for (const auto& file : std::filesystem::directory_iterator(dir_.path())) {
    struct ::stat status{};
    ASSERT_EQ(::stat(file.path().c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777U, 0600U) << file.path();
  }
}

TEST_F(SqliteKeyStoreTest, AnotherRevisionThanExpectedIsRefused) {
  ASSERT_THAT(store_->put(record_of(a_, "a", 1), 0, 1), Succeeds());
  EXPECT_THAT(store_->put(record_of(a_, "a", 1), 0, 2), FailsWith(Reason::kInProgress));
  EXPECT_THAT(store_->put(record_of(a_, "a", 3), 2, 2), FailsWith(Reason::kInProgress));
  EXPECT_THAT(store_->put(record_of(b_, "b", 2), 1, 2), FailsWith(Reason::kInProgress));
  EXPECT_EQ(*store_->intent_of(a_), 1U);
}

TEST_F(SqliteKeyStoreTest, AnAliasBelongsToOneKey) {
  ASSERT_THAT(store_->put(record_of(a_, "same", 1), 0, 1), Succeeds());
  EXPECT_THAT(store_->put(record_of(b_, "same", 1), 0, 2), FailsWith(Reason::kNameTaken));
  EXPECT_THAT(store_->put(record_of(a_, "same", 2), 1, 3), Succeeds());
}

TEST_F(SqliteKeyStoreTest, WhatIsNoRecordIsNotStored) {
  EXPECT_THAT(store_->put(Bytes(100), 0, 1), FailsWith(Reason::kRecordInvalid));
}

TEST_F(SqliteKeyStoreTest, UnknownKeysAreNoSuchKey) {
  EXPECT_THAT(store_->get(a_), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(store_->get_by_alias("a"), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(store_->intent_of(a_), FailsWith(Reason::kNoSuchKey));
}

TEST_F(SqliteKeyStoreTest, ListsInTheOrderOfIdsAndPages) {
  ASSERT_THAT(store_->put(record_of(b_, "b", 1), 0, 1), Succeeds());
  ASSERT_THAT(store_->put(record_of(a_, "a", 1), 0, 2), Succeeds());
  const auto all = store_->list({});
  ASSERT_EQ(all->size(), 2U);
  EXPECT_EQ((*all)[0].id, a_);
  EXPECT_EQ((*all)[1].id, b_);
  EXPECT_EQ(store_->list({.count_max = 1})->size(), 1U);
  EXPECT_EQ(store_->list({.after = a_})->at(0).id, b_);
  EXPECT_TRUE(store_->list({.after = b_})->empty());
}

TEST_F(SqliteKeyStoreTest, RemembersUpToWhereItIsReconciled) {
  EXPECT_EQ(*store_->reconciled_to(), 0U);
  ASSERT_THAT(store_->set_reconciled_to(42), Succeeds());
  open();
  EXPECT_EQ(*store_->reconciled_to(), 42U);
}

TEST_F(SqliteKeyStoreTest, AFileThatIsNoDatabaseIsDamaged) {
  store_.reset();
  std::ofstream(path_, std::ios::trunc) << std::string(8192, 'x');
  std::filesystem::remove(path_ + "-wal");
  EXPECT_THAT(open_sqlite_key_store(path_), FailsWith(Reason::kStoreDamaged));
}

TEST_F(SqliteKeyStoreTest, AnotherProgramsDatabaseIsDamagedAndNotTouched) {
  const auto other = (dir_.path() / "other.db").string();
  ASSERT_THAT(SqliteDatabase::open(other, {1, 1, "CREATE TABLE t (x INTEGER) STRICT"}), Succeeds());
  const auto before = read_file(other, 1 << 20);
  EXPECT_THAT(open_sqlite_key_store(other), FailsWith(Reason::kStoreDamaged));
  EXPECT_EQ(*read_file(other, 1 << 20), *before);
}

TEST_F(SqliteKeyStoreTest, ANewerSchemaIsRefused) {
  store_.reset();
  edit("PRAGMA user_version = 3");
  EXPECT_THAT(open_sqlite_key_store(path_), FailsWith(Reason::kStoreDamaged));
}

TEST_F(SqliteKeyStoreTest, ALostTableIsDamaged) {
  edit("DROP TABLE cmk");
  EXPECT_THAT(store_->get(a_), FailsWith(Reason::kStoreDamaged));
}

TEST_F(SqliteKeyStoreTest, ADamagedPageIsDamaged) {
  for (int i = 0; i < 50; ++i) {
    const auto id = *CmkId::random();
    ASSERT_THAT(store_->put(record_of(id, "k" + std::to_string(i), 1), 0, 1), Succeeds());
  }
  store_.reset();  // Closing puts the log into the file.
  std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(4096);
  file << std::string(4096, '\xFF');
  file.close();
  EXPECT_THAT(open_sqlite_key_store(path_), FailsWith(Reason::kStoreDamaged));
}

TEST_F(SqliteKeyStoreTest, AFolderThatIsNotThereIsUnavailable) {
  EXPECT_THAT(open_sqlite_key_store((dir_.path() / "no" / "such" / "keyring.db").string()),
              FailsWith(Reason::kStoreUnavailable));
}

TEST_F(SqliteKeyStoreTest, ALockHeldByAnotherProcessIsUnavailable) {
  ::sqlite3* other = nullptr;
  ASSERT_EQ(::sqlite3_open(path_.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(::sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_THAT(store_->put(record_of(a_, "a", 1), 0, 1), FailsWith(Reason::kStoreUnavailable));
  ASSERT_EQ(::sqlite3_exec(other, "ROLLBACK", nullptr, nullptr, nullptr), SQLITE_OK);
  ::sqlite3_close(other);
  EXPECT_THAT(store_->put(record_of(a_, "a", 1), 0, 1), Succeeds());
}

TEST_F(SqliteKeyStoreTest, AFullDiskIsUnavailableAndChangesNothing) {
  // SQLite's own limit stands in for the disk's: the same code, SQLITE_FULL.
  auto database = SqliteDatabase::open((dir_.path() / "full.db").string(),
                                       {7, 1, "CREATE TABLE t (x BLOB) STRICT"});
  ASSERT_THAT(database, Succeeds());
  ASSERT_THAT(database->execute("PRAGMA max_page_count = 4"), Succeeds());
  auto transaction = SqliteTransaction::begin(*database);
  ASSERT_THAT(transaction, Succeeds());
  auto statement = SqliteStatement::prepare(*database, "INSERT INTO t VALUES (?)");
  ASSERT_THAT(statement, Succeeds());
  const Bytes large(100'000);
  EXPECT_THAT(statement->bind(large).run(), FailsWith(Reason::kStoreUnavailable));
}

TEST_F(SqliteKeyStoreTest, AReadOnlyFileIsUnavailable) {
  auto database = SqliteDatabase::open((dir_.path() / "ro.db").string(),
                                       {7, 1, "CREATE TABLE t (x INTEGER) STRICT"});
  ASSERT_THAT(database, Succeeds());
  ASSERT_THAT(database->execute("PRAGMA query_only = ON"), Succeeds());
  EXPECT_THAT(database->execute("INSERT INTO t VALUES (1)"), FailsWith(Reason::kStoreUnavailable));
}

TEST_F(SqliteKeyStoreTest, OfManyThreadsThatReplaceOneRevisionOneWins) {
  ASSERT_THAT(store_->put(record_of(a_, "a", 1), 0, 1), Succeeds());
  std::array<bool, 4> won{};
  std::vector<std::thread> threads;
  threads.reserve(won.size());
  for (std::size_t i = 0; i < won.size(); ++i) {
    threads.emplace_back(
        [&, i] { won[i] = store_->put(record_of(a_, "a", 2), 1, 2 + i).has_value(); });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(std::ranges::count(won, true), 1);
}

}  // namespace
}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
// What stands beside the records of a key store: what keys are found by, what is due, tags and
// bindings.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <memory>

#include "core/base/sqlite.h"
#include "core/keyring/key_store.h"
#include "tests/fakes/fake_key_store.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::keyring {
namespace {

using std::chrono::hours;
using testing::ElementsAre;
using testing::IsEmpty;
using tests::FailsWith;
using tests::Succeeds;

const WallTime kNow = wall_from_usec(1'800'000'000'000'000);

class SqliteKeyQueriesTest : public testing::Test {
 protected:
  void SetUp() override {
    auto opened = open_sqlite_key_store((dir_.path() / "keyring.db").string());
    ASSERT_THAT(opened, Succeeds());
    store_ = std::move(*opened);
  }

  static CmkRecord record_of(const CmkId& id, const std::string& alias) {
    CmkRecord record{.id = id};
    record.alias = alias;
    record.created = kNow;
    record.versions.push_back({.material = Bytes(60)});
    return record;
  }
  static SealedRecord sealed(const CmkRecord& record) {
    SealedRecord bytes = record.encode();
    bytes.resize(bytes.size() + CmkRecord::kSealBytes);
    return bytes;
  }
  void put(const CmkRecord& record) {
    ASSERT_THAT(store_->put(sealed(record), record.revision - 1, ++intent_), Succeeds());
  }
  void put_next(CmkRecord& record) {
    ++record.revision;
    put(record);
  }
  std::vector<CmkId> ids(const KeyQuery& query) {
    const auto rows = store_->list(query);
    EXPECT_THAT(rows, Succeeds());
    std::vector<CmkId> out;
    for (const auto& row : *rows) out.push_back(row.id);
    EXPECT_LE(out.size(), *store_->count(query.filter));
    return out;
  }
  static void destroy(CmkRecord& record) {
    record.state = KeyState::kDestroyed;
    record.delete_at.reset();
    record.versions[0].state = VersionState::kDestroyed;
    record.versions[0].material.clear();
  }

  tests::TempDir dir_;
  std::unique_ptr<KeyStore> store_;
  std::uint64_t intent_ = 0;
  const CmkId a_ = *CmkId::parse("aaaaaaaa-0000-4000-8000-000000000001");
  const CmkId b_ = *CmkId::parse("bbbbbbbb-0000-4000-8000-000000000002");
  const CmkId c_ = *CmkId::parse("cccccccc-0000-4000-8000-000000000003");
};

TEST_F(SqliteKeyQueriesTest, KeysAreFoundByWhatTheirRecordsSay) {
  put(record_of(a_, "disk-a"));
  CmkRecord b = record_of(b_, "Tape");
  b.owner = KeyOwner::kService;
  b.state = KeyState::kDisabled;
  b.algorithm = KeyAlgorithm::kSm4;
  put(b);
  CmkRecord c = record_of(c_, "disk-c");
  c.origin = KeyOrigin::kImported;
  put(c);
  EXPECT_THAT(ids({}), ElementsAre(a_, b_, c_));
  EXPECT_THAT(ids({.filter = {.state = KeyState::kDisabled}}), ElementsAre(b_));
  EXPECT_THAT(ids({.filter = {.owner = KeyOwner::kUser}}), ElementsAre(a_, c_));
  EXPECT_THAT(ids({.filter = {.origin = KeyOrigin::kImported}}), ElementsAre(c_));
  EXPECT_THAT(ids({.filter = {.usage = KeyUsage::kSignVerify}}), IsEmpty());
  EXPECT_THAT(ids({.filter = {.algorithm = KeyAlgorithm::kSm4}}), ElementsAre(b_));
  EXPECT_EQ(*store_->count({.owner = KeyOwner::kUser}), 2U);

  EXPECT_THAT(ids({.filter = {.search = "disk"}}), ElementsAre(a_, c_));
  EXPECT_THAT(ids({.filter = {.search = "-"}}), ElementsAre(a_, c_)) << "dashes of aliases alone";
  EXPECT_THAT(ids({.filter = {.search = "bbbb-0000-4000"}}), ElementsAre(b_)) << "a part of an id";
  EXPECT_THAT(ids({.filter = {.search = "%"}}), IsEmpty());
  EXPECT_THAT(ids({.filter = {.search = "' OR 1=1 --"}}), IsEmpty());
  EXPECT_THAT(ids({.filter = {.owner = KeyOwner::kUser, .search = "disk-c"}}), ElementsAre(c_));
}

TEST_F(SqliteKeyQueriesTest, PagesFollowEachOtherInEveryOrder) {
  CmkRecord a = record_of(a_, "a");
  a.created = kNow + hours(1);
  put(a);
  put(record_of(b_, "b"));
  put(record_of(c_, "c"));
  EXPECT_THAT(ids({.order = KeyOrder::kOldestFirst}), ElementsAre(b_, c_, a_));
  EXPECT_THAT(ids({.order = KeyOrder::kNewestFirst}), ElementsAre(a_, c_, b_));
  EXPECT_THAT(ids({.order = KeyOrder::kNewestFirst, .offset = 1, .count_max = 1}), ElementsAre(c_));
  EXPECT_THAT(ids({.offset = ~std::uint64_t{0}}), IsEmpty());
  EXPECT_THAT(ids({.after = a_, .count_max = 1}), ElementsAre(b_));
  EXPECT_THAT(ids({.order = KeyOrder::kOldestFirst, .after = b_}), ElementsAre(c_, a_));
  EXPECT_THAT(ids({.order = KeyOrder::kNewestFirst, .after = a_, .count_max = 1}), ElementsAre(c_));
  EXPECT_THAT(ids({.order = KeyOrder::kNewestFirst, .after = *CmkId::random()}), IsEmpty());
}

TEST_F(SqliteKeyQueriesTest, KeysThatSomethingIsBoundToAreFoundByWhatItIs) {
  for (const auto& [id, alias] : {std::pair(a_, "a"), {b_, "b"}, {c_, "c"}}) {
    put(record_of(id, alias));
  }
  for (const char* resource : {"volume:1", "volume:2", "backup:1"}) {
    ASSERT_THAT(store_->set_bound(b_, resource, true, 7), Succeeds());
  }
  ASSERT_THAT(store_->set_bound(c_, "volume", true, 7), Succeeds());
  EXPECT_THAT(store_->bound_keys("volume:").value(), ElementsAre(b_));
  EXPECT_THAT(store_->bound_keys("").value(), ElementsAre(b_, c_));
}

// What the store that other tests use has to do alike: true is SQLite's.
class KeyStoreDueTest : public SqliteKeyQueriesTest, public testing::WithParamInterface<bool> {
 protected:
  void SetUp() override {
    SqliteKeyQueriesTest::SetUp();
    if (!GetParam()) store_ = std::make_unique<tests::FakeKeyStore>();
  }
};
INSTANTIATE_TEST_SUITE_P(Stores, KeyStoreDueTest, testing::Bool(), [](const auto& made) {
  return std::string(made.param ? "Sqlite" : "Fake");
});

TEST_P(KeyStoreDueTest, TheLongestDueComesFirst) {
  EXPECT_EQ(*store_->next_due(kNow), std::nullopt);
  CmkRecord rotates = record_of(a_, "a");
  rotates.rotation_days = 7;
  rotates.next_rotation = kNow + hours(2);
  put(rotates);
  CmkRecord doomed = record_of(b_, "b");
  doomed.state = KeyState::kPendingDelete;
  doomed.delete_at = kNow + hours(1);
  put(doomed);
  CmkRecord expires = record_of(c_, "c");
  expires.origin = KeyOrigin::kImported;
  expires.material_valid_to = kNow + hours(3);
  put(expires);

  const auto due = [&](WallTime now, std::size_t count_max, std::optional<DueKey> after = {}) {
    return *store_->due(now, kNow + hours(1), after, count_max);
  };
  const DueKey a{kNow + hours(2), a_};
  const DueKey b{kNow + hours(1), b_};
  const DueKey c{kNow + hours(3), c_};
  EXPECT_EQ(*store_->next_due(kNow), doomed.delete_at);
  EXPECT_EQ(*store_->next_due(kNow + hours(1)), rotates.next_rotation);
  EXPECT_EQ(*store_->next_due(kNow + hours(3)), std::nullopt);
  EXPECT_THAT(due(kNow, 10), IsEmpty());
  EXPECT_THAT(due(kNow + hours(2), 10), ElementsAre(b, a));
  EXPECT_THAT(due(kNow + hours(9), 2), ElementsAre(b, a));
  EXPECT_THAT(due(kNow + hours(9), 2, a), ElementsAre(c));

  rotates.state = KeyState::kDisabled;
  put_next(rotates);
  destroy(doomed);
  put_next(doomed);
  EXPECT_THAT(due(kNow + hours(9), 10), ElementsAre(c)) << "a disabled key waits";
}

TEST_P(KeyStoreDueTest, ARotationPlannedByAClockThatWasAheadIsFound) {
  CmkRecord rotates = record_of(a_, "a");
  rotates.rotation_days = 7;
  rotates.next_rotation = kNow + std::chrono::days(7) + hours(2);
  put(rotates);
  EXPECT_THAT(*store_->due(kNow, kNow + hours(2), {}, 10), IsEmpty());
  EXPECT_THAT(*store_->due(kNow, kNow + hours(1), {}, 10),
              ElementsAre(DueKey{*rotates.next_rotation, a_}));
}

TEST_P(KeyStoreDueTest, WhatTheVaultWasNotShownIsKnownUntilItWas) {
  CmkRecord a = record_of(a_, "a");
  put(a);
  put(record_of(b_, "b"));
  ASSERT_EQ(store_->unpresented(10)->size(), 2U);
  ASSERT_THAT(store_->set_presented(a_, a.revision), Succeeds());
  const auto before = a.revision;
  EXPECT_EQ(store_->unpresented(10)->at(0).id, b_);
  put_next(a);
  ASSERT_THAT(store_->set_presented(a_, before), Succeeds()) << "not this revision";
  EXPECT_EQ(store_->unpresented(10)->size(), 2U);
  EXPECT_EQ(store_->unpresented(1)->size(), 1U);
}

TEST_P(KeyStoreDueTest, EverythingIsToldPageByPageWithDestroyedKeys) {
  CmkRecord a = record_of(a_, "a");
  put(a);
  put(record_of(b_, "b"));
  destroy(a);
  put_next(a);
  const auto all = store_->everything({}, 10);
  ASSERT_THAT(all, Succeeds());
  ASSERT_EQ(all->size(), 2U);
  EXPECT_EQ(CmkRecord::decode(all->at(0).record)->state, KeyState::kDestroyed);
  EXPECT_EQ(store_->everything({}, 1)->at(0).id, all->at(0).id);
  EXPECT_EQ(store_->everything(all->at(0).id, 10)->at(0).id, all->at(1).id);
  EXPECT_TRUE(store_->everything(all->at(1).id, 10)->empty());
}

TEST_F(SqliteKeyQueriesTest, TagsFindKeysAndAreReplacedAtOnce) {
  put(record_of(a_, "a"));
  put(record_of(b_, "b"));
  ASSERT_THAT(store_->set_tags(a_, {{"team", "storage"}, {"env", "prod"}}, 40), Succeeds());
  ASSERT_THAT(store_->set_tags(b_, {{"team", "storage"}}, 41), Succeeds());
  EXPECT_EQ(*store_->intent_of(a_), 40U);
  EXPECT_THAT(*store_->tags(a_), ElementsAre(KeyTag{"env", "prod"}, KeyTag{"team", "storage"}));
  EXPECT_THAT(ids({.filter = {.tags = {{"team", "storage"}}}}), ElementsAre(a_, b_));
  EXPECT_THAT(ids({.filter = {.tags = {{"team", "storage"}, {"env", "prod"}}}}), ElementsAre(a_));
  EXPECT_THAT(ids({.filter = {.tags = {{"team", ""}}}}), IsEmpty());
  // Of one name any value, of several names each.
  EXPECT_THAT(ids({.filter = {.tags = {{"team", "other"}, {"team", "storage"}}}}),
              ElementsAre(a_, b_));
  EXPECT_THAT(ids({.filter = {.tags = {{"team", "storage"}, {"env", "test"}, {"env", "prod"}}}}),
              ElementsAre(a_));
  ASSERT_THAT(store_->set_tags(a_, {}, 42), Succeeds());
  EXPECT_THAT(*store_->tags(a_), IsEmpty());
  EXPECT_THAT(store_->set_tags(c_, {{"team", "storage"}}, 43), FailsWith(Reason::kNoSuchKey));

  // All or nothing: a name twice is refused by the table, and nothing is lost.
  EXPECT_THAT(store_->set_tags(b_, {{"x", "1"}, {"x", "2"}}, 44), testing::Not(Succeeds()));
  EXPECT_THAT(*store_->tags(b_), ElementsAre(KeyTag{"team", "storage"}));
  EXPECT_EQ(*store_->intent_of(b_), 41U);
}

TEST_P(KeyStoreDueTest, BindingsAreKeptOnceEachAndPaged) {
  CmkRecord a = record_of(a_, "a");
  put(a);
  for (const char* resource : {"volume:2", "volume:1", "volume:2"}) {
    ASSERT_THAT(store_->set_bound(a_, resource, true, 50), Succeeds());
  }
  EXPECT_EQ(*store_->intent_of(a_), 50U);
  EXPECT_EQ(*store_->count_bindings(a_), 2U);
  EXPECT_THAT(*store_->bindings(a_, "", 10), ElementsAre("volume:1", "volume:2"));
  EXPECT_THAT(*store_->bindings(a_, "", 1), ElementsAre("volume:1"));
  EXPECT_THAT(*store_->bindings(a_, "volume:1", 10), ElementsAre("volume:2"));
  // They outlive a change of the record.
  put_next(a);
  EXPECT_EQ(*store_->count_bindings(a_), 2U);
  ASSERT_THAT(store_->set_bound(a_, "volume:2", false, 51), Succeeds());
  ASSERT_THAT(store_->set_bound(a_, "volume:9", false, 52), Succeeds());
  EXPECT_THAT(*store_->bindings(a_, "", 10), ElementsAre("volume:1"));
  EXPECT_THAT(store_->set_bound(b_, "volume:1", true, 53), FailsWith(Reason::kNoSuchKey));
}

TEST_F(SqliteKeyQueriesTest, AKeyIsBoundToSoMuchAndNoMore) {
  put(record_of(a_, "a"));
  ASSERT_THAT(store_->set_bound(a_, "volume:1", true, 50), Succeeds());
  ::sqlite3* other = nullptr;
  ASSERT_EQ(::sqlite3_open((dir_.path() / "keyring.db").c_str(), &other), SQLITE_OK);
  ASSERT_EQ(::sqlite3_exec(other,
                           "WITH RECURSIVE n (i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE "
                           "i < 65536) INSERT INTO binding SELECT id, 'more:' || i FROM n, cmk",
                           nullptr, nullptr, nullptr),
            SQLITE_OK);
  ::sqlite3_close(other);
  EXPECT_EQ(*store_->count_bindings(a_), kBindingsMax);
  EXPECT_THAT(store_->set_bound(a_, "volume:2", true, 51), FailsWith(Reason::kLimitsExceeded));
  EXPECT_THAT(store_->set_bound(a_, "volume:1", true, 52), Succeeds()) << "it is bound already";
  ASSERT_THAT(store_->set_bound(a_, "volume:1", false, 53), Succeeds());
  EXPECT_THAT(store_->set_bound(a_, "volume:2", true, 54), Succeeds());
}

TEST_F(SqliteKeyQueriesTest, OfADestroyedKeyTheRecordAloneIsLeft) {
  CmkRecord a = record_of(a_, "a");
  put(a);
  ASSERT_THAT(store_->set_tags(a_, {{"team", "storage"}}, 60), Succeeds());
  ASSERT_THAT(store_->set_bound(a_, "volume:1", true, 61), Succeeds());
  destroy(a);
  put_next(a);
  EXPECT_THAT(ids({}), IsEmpty());
  EXPECT_EQ(*store_->count({}), 0U);
  EXPECT_THAT(store_->get_by_alias("a"), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(*store_->tags(a_), IsEmpty());
  EXPECT_EQ(*store_->count_bindings(a_), 0U);
  EXPECT_THAT(store_->set_tags(a_, {}, 62), FailsWith(Reason::kNoSuchKey));
  EXPECT_EQ(*store_->get(a_), sealed(a)) << "so that a copy does not bring the key back";
  put(record_of(b_, "a"));
}

}  // namespace
}  // namespace coffer::keyring

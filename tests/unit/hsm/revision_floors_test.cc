// SPDX-License-Identifier: Apache-2.0
#include "hsm/revision_floors.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include <filesystem>

#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

keyring::Digest digest(int value) {
  keyring::Digest made{};
  made[0] = static_cast<std::byte>(value);
  return made;
}

// A record of that revision with that current version.
keyring::CmkRecord record_at(const CmkId& key, std::uint64_t revision, std::uint32_t version) {
  keyring::CmkRecord record{.id = key, .revision = revision};
  for (std::uint32_t number = 1; number <= version; ++number) {
    record.versions.push_back({.number = number, .material = Bytes(1)});
  }
  return record;
}

// The same promises of both makers: true is the durable one.
class RevisionFloorsTest : public testing::TestWithParam<bool> {
 protected:
  void SetUp() override {
    if (GetParam()) {
      open();
    } else {
      floors_ = make_memory_floors();
    }
  }
  void open() {
    floors_.reset();
    auto opened = open_sqlite_floors(path_);
    ASSERT_THAT(opened, Succeeds());
    floors_ = std::move(*opened);
  }

  keyring::CmkRecord at(std::uint64_t revision, std::uint32_t version) const {
    return record_at(key_, revision, version);
  }

  tests::TempDir dir_;
  std::string path_ = (dir_.path() / "floors.db").string();
  std::unique_ptr<RevisionFloors> floors_;
  const CmkId key_ = *CmkId::parse("aaaaaaaa-0000-4000-8000-000000000001");
};

TEST_P(RevisionFloorsTest, RiseAndNeverFall) {
  EXPECT_EQ(*floors_->floor_of(key_), KeyFloor());
  EXPECT_THAT(floors_->present(at(3, 2), digest(3)), Succeeds());
  EXPECT_THAT(floors_->present(at(3, 2), digest(3)), Succeeds());
  EXPECT_THAT(floors_->present(at(2, 9), digest(2)), FailsWith(Reason::kRecordSuperseded));
  EXPECT_THAT(floors_->present(at(3, 9), digest(4)), FailsWith(Reason::kRecordSuperseded));
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{3, 2, 1}));
  // An older record that was taken back: its revision is new, its versions are fewer.
  EXPECT_THAT(floors_->present(at(9, 1), digest(9)), Succeeds());
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{9, 2, 1}));
  EXPECT_EQ(*floors_->floor_of(*CmkId::random()), KeyFloor());
}

TEST_P(RevisionFloorsTest, WhatIsGoneStaysSoUntilItIsBroughtAgain) {
  auto record = at(3, 3);
  record.versions[1].material.clear();
  record.versions[2].material.clear();
  ASSERT_THAT(floors_->present(record, digest(3)), Succeeds());
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{3, 3, 1, false, {2, 3}}));
  record.revision = 4;  // Imported material that came back.
  record.versions[2].material = Bytes(1);
  ASSERT_THAT(floors_->present(record, digest(4)), Succeeds());
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{4, 3, 1, false, {2}}));
  record.revision = 5;  // Without its destroyed ones at the front.
  record.versions.erase(record.versions.begin(), record.versions.begin() + 2);
  ASSERT_THAT(floors_->present(record, digest(5)), Succeeds());
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{5, 3, 3, false, {}}));
  record.revision = 6;
  record.state = keyring::KeyState::kDestroyed;
  record.versions[0].material.clear();
  ASSERT_THAT(floors_->present(record, digest(6)), Succeeds());
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{6, 3, 3, true, {3}}));
}

class DurableFloorsTest : public RevisionFloorsTest {};

TEST_P(DurableFloorsTest, DurableOnesSurviveARestart) {
  ASSERT_THAT(floors_->present(at(3, 1), digest(3)), Succeeds());
  open();
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{3, 1, 1}));
  EXPECT_THAT(floors_->present(at(3, 1), digest(4)), FailsWith(Reason::kRecordSuperseded));
  EXPECT_THAT(floors_->present(at(2, 1), digest(2)), FailsWith(Reason::kRecordSuperseded));
}

TEST_P(DurableFloorsTest, CoverWhatTheyCameFromAndNothingElse) {
  ASSERT_THAT(floors_->present(at(3, 2), digest(3)), Succeeds());
  floors_.reset();
  const auto older = (dir_.path() / "older.db").string();
  std::filesystem::copy_file(path_, older);
  open();
  const auto cover = [&](RevisionFloors& floors) { return floors_cover(floors, older).value(); };
  EXPECT_TRUE(cover(*floors_));
  ASSERT_THAT(floors_->present(at(9, 1), digest(9)), Succeeds()) << "the highest version stays";
  EXPECT_TRUE(cover(*floors_));
  const auto others = make_memory_floors();
  EXPECT_FALSE(cover(*others)) << "they know nothing of the key";
  ASSERT_THAT(others->present(at(9, 1), digest(9)), Succeeds());
  EXPECT_FALSE(cover(*others)) << "a version's number would be given again";
  ASSERT_THAT(others->present(at(10, 2), digest(10)), Succeeds());
  EXPECT_TRUE(cover(*others));
}

TEST_P(DurableFloorsTest, ADestroyedKeyIsKnownAfterARestart) {
  auto record = at(3, 2);
  record.state = keyring::KeyState::kDestroyed;
  for (auto& version : record.versions) version.material.clear();
  ASSERT_THAT(floors_->present(record, digest(3)), Succeeds());
  open();
  EXPECT_EQ(*floors_->floor_of(key_), (KeyFloor{3, 2, 1, true, {1, 2}}));
}

TEST_P(DurableFloorsTest, AFloorThatCannotBeWrittenIsUnavailableAndTheOldOneHolds) {
  ASSERT_THAT(floors_->present(at(3, 1), digest(3)), Succeeds());
  ::sqlite3* other = nullptr;
  ASSERT_EQ(::sqlite3_open(path_.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(::sqlite3_exec(other, "BEGIN IMMEDIATE", nullptr, nullptr, nullptr), SQLITE_OK);
  EXPECT_THAT(floors_->present(at(4, 1), digest(4)), FailsWith(Reason::kStoreUnavailable));
  EXPECT_THAT(floors_->present(at(3, 1), digest(3)), Succeeds()) << "needs no write";
  ::sqlite3_close(other);
  EXPECT_THAT(floors_->present(at(4, 1), digest(4)), Succeeds());
}

TEST_P(DurableFloorsTest, AMalformedFloorIsDamaged) {
  ASSERT_THAT(floors_->present(at(3, 1), digest(3)), Succeeds());
  floors_.reset();
  ::sqlite3* other = nullptr;
  ASSERT_EQ(::sqlite3_open(path_.c_str(), &other), SQLITE_OK);
  ASSERT_EQ(
      ::sqlite3_exec(other, "PRAGMA ignore_check_constraints = ON; UPDATE floor SET digest = x'00'",
                     nullptr, nullptr, nullptr),
      SQLITE_OK);
  ::sqlite3_close(other);
  auto opened = open_sqlite_floors(path_);
  // quick_check looks at constraints too; if it does not, the read does.
  if (opened) {
    EXPECT_THAT((*opened)->floor_of(key_), FailsWith(Reason::kStoreDamaged));
  } else {
    EXPECT_THAT(opened, FailsWith(Reason::kStoreDamaged));
  }
}

INSTANTIATE_TEST_SUITE_P(Sqlite, DurableFloorsTest, testing::Values(true));
INSTANTIATE_TEST_SUITE_P(Makers, RevisionFloorsTest, testing::Bool(),
                         [](const auto& made) { return made.param ? "Sqlite" : "Memory"; });

}  // namespace
}  // namespace coffer::hsm

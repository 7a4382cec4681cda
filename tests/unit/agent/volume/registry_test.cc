// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/registry.h"

#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include <filesystem>
#include <fstream>

#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using agent::Registry;
using agent::RowState;
using agent::VolumeRow;

VolumeRow ready_row(const std::string& name) {
  VolumeRow row;
  row.id = VolumeId::random().value();
  row.name = name;
  row.mapped_name = name;
  row.device = {"/dev/disk/by-id/virtio-" + name, "serial", "wwn"};
  row.device_bytes = std::uint64_t{1} << 40;
  row.state = RowState::kReady;
  row.profile = Bytes(20, std::byte{1});
  row.context = Bytes(40, std::byte{2});
  row.wraps = {Bytes(80, std::byte{3})};
  row.keys = {CmkId::random().value()};
  row.locked_by_admin = true;
  row.locked_boot_id = "boot";
  row.created = wall_from_usec(1'700'000'000'000'000);
  return row;
}

class RegistryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string made = (std::filesystem::temp_directory_path() / "coffer-registry-XXXXXX").string();
    ASSERT_NE(::mkdtemp(made.data()), nullptr);
    folder = made;
    path = made + "/registry.db";
  }
  void TearDown() override { std::filesystem::remove_all(folder); }

  void run_sql(const std::string& sql) const {
    sqlite3* db = nullptr;
    ASSERT_EQ(::sqlite3_open(path.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(::sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << ::sqlite3_errmsg(db);
    ::sqlite3_close(db);
  }

  std::filesystem::path folder;
  std::string path;
};

TEST_F(RegistryTest, ARowComesBackAsItWas) {
  const VolumeRow row = ready_row("data");
  {
    const auto registry = Registry::open(path);
    ASSERT_THAT(registry, Succeeds());
    ASSERT_THAT((*registry)->put(row), Succeeds());
  }
  const auto registry = Registry::open(path);
  ASSERT_THAT(registry, Succeeds());
  EXPECT_EQ((*registry)->find(row.id).value(), row);
  const auto contents = (*registry)->load();
  ASSERT_THAT(contents, Succeeds());
  EXPECT_EQ(contents->rows, std::vector<VolumeRow>{row});
}

TEST_F(RegistryTest, TheFileIsForItsOwnerAlone) {
  ASSERT_THAT(Registry::open(path), Succeeds());
  struct stat status{};
  ASSERT_EQ(::stat(path.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 07777U, 0600U);
}

TEST_F(RegistryTest, ANameBelongsToOneVolume) {
  const auto registry = Registry::open(path);
  ASSERT_THAT((*registry)->put(ready_row("data")), Succeeds());
  EXPECT_THAT((*registry)->put(ready_row("data")), FailsWith(Reason::kNameTaken));
  EXPECT_EQ((*registry)->load()->rows.size(), 1U);
}

TEST_F(RegistryTest, AllRowsOfOneCallAreStoredOrNone) {
  const auto registry = Registry::open(path);
  EXPECT_THAT((*registry)->put_all({ready_row("a"), ready_row("b"), ready_row("a")}),
              FailsWith(Reason::kNameTaken));
  EXPECT_TRUE((*registry)->load()->rows.empty());
}

TEST_F(RegistryTest, AnErasedRowIsGone) {
  const auto registry = Registry::open(path);
  const VolumeRow row = ready_row("data");
  ASSERT_THAT((*registry)->put(row), Succeeds());
  EXPECT_THAT((*registry)->erase(row.id), Succeeds());
  EXPECT_THAT((*registry)->find(row.id), FailsWith(Reason::kNoSuchVolume));
  EXPECT_THAT((*registry)->erase(row.id), Succeeds());
}

TEST_F(RegistryTest, AnEditedRowIsLeftOutAndTheOthersStay) {
  const VolumeRow edited = ready_row("edited");
  {
    const auto registry = Registry::open(path);
    ASSERT_THAT((*registry)->put(edited), Succeeds());
    ASSERT_THAT((*registry)->put(ready_row("good")), Succeeds());
  }
  run_sql("UPDATE volume SET body = zeroblob(100) WHERE name = 'edited'");
  const auto registry = Registry::open(path);
  const auto contents = (*registry)->load();
  ASSERT_THAT(contents, Succeeds());
  EXPECT_EQ(contents->rows.size(), 1U);
  EXPECT_EQ(contents->damaged, std::vector<std::string>{edited.id.str()});
  EXPECT_THAT((*registry)->find(edited.id), FailsWith(Reason::kStoreDamaged));
}

TEST_F(RegistryTest, ColumnsThatContradictTheBodyAreDamage) {
  const VolumeRow row = ready_row("data");
  ASSERT_THAT(Registry::open(path).value()->put(row), Succeeds());
  run_sql("UPDATE volume SET name = 'other'");
  EXPECT_THAT(Registry::open(path).value()->find(row.id), FailsWith(Reason::kStoreDamaged));
}

TEST_F(RegistryTest, ANewerFormatIsRefusedWithoutAWrite) {
  ASSERT_THAT(Registry::open(path), Succeeds());
  run_sql("PRAGMA user_version = 2");
  EXPECT_THAT(Registry::open(path), FailsWith(Reason::kStoreDamaged));
}

TEST_F(RegistryTest, AStoreOfAnotherKindIsRefused) {
  run_sql("CREATE TABLE cmk(id BLOB PRIMARY KEY); PRAGMA application_id = 1");
  EXPECT_THAT(Registry::open(path), FailsWith(Reason::kStoreDamaged));
}

TEST_F(RegistryTest, AMappedNameBelongsToOneVolumeToo) {
  const auto registry = Registry::open(path);
  VolumeRow row = ready_row("data");
  ASSERT_THAT((*registry)->put(row), Succeeds());
  row.locked_by_admin = false;
  EXPECT_THAT((*registry)->put(row), Succeeds()) << "its own name is free to it";
  VolumeRow other = ready_row("other");
  other.mapped_name = "data";
  EXPECT_THAT((*registry)->put(other), FailsWith(Reason::kNameTaken));
}

TEST_F(RegistryTest, OpenRewrapsComeBackUntilTheyEnd) {
  const agent::OpenRewrap first{CmkId::random().value(), 60, 1000, wall_from_usec(5)};
  const agent::OpenRewrap other{CmkId::random().value(), 0, 0, wall_from_usec(6)};
  {
    const auto registry = Registry::open(path);
    ASSERT_THAT((*registry)->note_rewrap(first), Succeeds());
    ASSERT_THAT((*registry)->note_rewrap(other), Succeeds());
  }
  const auto registry = Registry::open(path);
  EXPECT_EQ((*registry)->open_rewraps().value(), (std::vector{first, other}));

  // A later one of the same key takes its place, and does not end with it.
  agent::OpenRewrap later = first;
  later.started = wall_from_usec(7);
  ASSERT_THAT((*registry)->note_rewrap(later), Succeeds());
  ASSERT_THAT((*registry)->end_rewrap(first), Succeeds());
  EXPECT_EQ((*registry)->open_rewraps().value(), (std::vector{other, later}));
  ASSERT_THAT((*registry)->end_rewrap(later), Succeeds());
  ASSERT_THAT((*registry)->end_rewrap(other), Succeeds());
  EXPECT_TRUE((*registry)->open_rewraps()->empty());
}

TEST_F(RegistryTest, ARewrapThatCannotBeReadIsLeftOut) {
  const agent::OpenRewrap good{CmkId::random().value(), 60, 1000, wall_from_usec(5)};
  ASSERT_THAT((*Registry::open(path))->note_rewrap(good), Succeeds());
  run_sql("INSERT INTO rewrap VALUES('no key', 1, 1, 1)");
  run_sql("INSERT INTO rewrap VALUES('" + CmkId::random()->str() + "', 99999999999, 1, 1)");
  EXPECT_EQ((*Registry::open(path))->open_rewraps().value(), std::vector{good});
}

// One that was made before there were any.
TEST_F(RegistryTest, AnOlderFileGetsTheTableOfRewraps) {
  const VolumeRow row = ready_row("data");
  ASSERT_THAT((*Registry::open(path))->put(row), Succeeds());
  run_sql("DROP TABLE rewrap");
  const auto registry = Registry::open(path);
  ASSERT_THAT(registry, Succeeds());
  EXPECT_TRUE((*registry)->open_rewraps()->empty());
  EXPECT_EQ((*registry)->find(row.id).value(), row);
}

TEST_F(RegistryTest, AFileThatIsNoDatabaseIsRefused) {
  std::ofstream(path) << std::string(8192, 'x');
  EXPECT_THAT(Registry::open(path), FailsWith(Reason::kStoreDamaged));
}

TEST_F(RegistryTest, AFolderThatIsNotThereIsUnavailable) {
  const auto opened = Registry::open(folder.string() + "/none/registry.db");
  ASSERT_FALSE(opened.has_value());
}

TEST_F(RegistryTest, ARowThatCouldNotBeReadBackIsNotStored) {
  const auto registry = Registry::open(path);
  VolumeRow row = ready_row("data");
  row.wraps.clear();
  EXPECT_THAT((*registry)->put(row), FailsWith(Reason::kInternal));
}

TEST(VolumeRowTest, ARowWithoutTheSizeOfItsDeviceIsDamage) {
  VolumeRow row = ready_row("data");
  row.device_bytes = 0;
  EXPECT_THAT(VolumeRow::decode(row.encode()), FailsWith(Reason::kStoreDamaged));
}

TEST(VolumeRowTest, EveryByteIsProtected) {
  const Bytes good = ready_row("data").encode();
  ASSERT_THAT(VolumeRow::decode(good), Succeeds());
  for (std::size_t i = 0; i < good.size(); ++i) {
    Bytes bad = good;
    bad[i] ^= std::byte{1};
    EXPECT_THAT(VolumeRow::decode(bad), FailsWith(Reason::kStoreDamaged)) << "byte " << i;
    EXPECT_THAT(VolumeRow::decode(ByteView(good).first(i)), FailsWith(Reason::kStoreDamaged));
  }
}

TEST(VolumeNameTest, NamesAreFitForAMapping) {
  for (const char* good : {"a", "data-1", "A_b.c", "0123456789"}) {
    EXPECT_THAT(agent::require_volume_name(good), Succeeds()) << good;
  }
  for (const std::string& bad :
       {std::string(), std::string("."), std::string(".."), std::string("a/b"), std::string("a b"),
        std::string("control"), std::string("\xc3\xa4"), std::string(65, 'a')}) {
    EXPECT_THAT(agent::require_volume_name(bad), FailsWith(Reason::kInvalidArgs)) << bad;
  }
}

}  // namespace
}  // namespace coffer::tests

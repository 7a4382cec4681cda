// SPDX-License-Identifier: Apache-2.0
// The keyring over its real store and journal: edited files, and stops at any instant.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sqlite3.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <filesystem>
#include <thread>

#include "tests/support/temp_dir.h"
#include "tests/unit/core/keyring/keyring_host.h"

namespace coffer::tests {
namespace {

using keyring::CmkRecord;
using keyring::KeyState;

constexpr const char* kChildFolder = "COFFER_TEST_KEYRING_FOLDER";

class KeyringOnDiskTest : public testing::Test {
 protected:
  std::string folder() const { return dir_.path().string(); }

  // As somebody who edits the file while nobody has it open.
  void edit(const std::string& sql) const {
    ::sqlite3* db = nullptr;
    ASSERT_EQ(::sqlite3_open((folder() + "/keyring.db").c_str(), &db), SQLITE_OK);
    EXPECT_EQ(::sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << ::sqlite3_errmsg(db);
    ::sqlite3_close(db);
  }

  TempDir dir_;
};

TEST_F(KeyringOnDiskTest, EverythingIsThereAfterARestart) {
  std::optional<CmkId> id;
  std::optional<keyring::WrappedKey> blob;
  {
    KeyringHost host(folder());
    id = host.create("default")->id;
    blob = *host.make_dek(*id);
    ASSERT_THAT(host.ring->rotate(*id, host.actor), Succeeds());
  }
  KeyringHost host(folder());
  EXPECT_EQ(*host.ring->reconcile(), 0U);
  EXPECT_EQ(host.ring->find("default")->versions.size(), 2U);
  EXPECT_THAT(host.deliver(*blob), Succeeds());
}

TEST_F(KeyringOnDiskTest, ARecordEditedInTheFileIsRefusedAndNamed) {
  std::optional<CmkId> id;
  std::optional<keyring::WrappedKey> blob;
  {
    KeyringHost host(folder());
    id = host.create("default")->id;
    blob = *host.make_dek(*id);
    ASSERT_THAT(host.ring->disable(*id, host.actor), Succeeds());
  }
  // The state's byte, behind magic, version, id and revision: Disabled becomes Enabled.
  edit(
      "UPDATE cmk SET record = CAST(substr(record, 1, 29) || x'01' || substr(record, 31) AS BLOB)");
  KeyringHost host(folder());
  EXPECT_EQ(host.ring->get(*id)->state, KeyState::kEnabled);
  const auto refused = host.deliver(*blob);
  EXPECT_THAT(refused, FailsWith(Reason::kRecordInvalid));
  EXPECT_NE(refused.error().message().find(id->str()), std::string::npos);
  EXPECT_TRUE(host.sink.taken().empty());
}

TEST_F(KeyringOnDiskTest, RecordsSwappedInTheFileAreRefusedAndNamed) {
  std::optional<CmkId> a;
  std::optional<CmkId> b;
  std::optional<keyring::WrappedKey> blob;
  {
    KeyringHost host(folder());
    a = host.create("a")->id;
    b = host.create("b")->id;
    blob = *host.make_dek(*a);
  }
  edit("UPDATE cmk SET record = (SELECT record FROM cmk AS other WHERE other.id <> cmk.id)");
  KeyringHost host(folder());
  const auto refused = host.deliver(*blob);
  EXPECT_THAT(refused, FailsWith(Reason::kRecordInvalid));
  EXPECT_NE(refused.error().message().find(a->str()), std::string::npos);
}

TEST_F(KeyringOnDiskTest, AStoreFilePutBackToAnOlderStateIsRefused) {
  std::optional<CmkId> id;
  std::optional<keyring::WrappedKey> blob;
  {
    KeyringHost host(folder());
    id = host.create("default")->id;
    blob = *host.make_dek(*id);
  }
  std::filesystem::copy(folder() + "/keyring.db", folder() + "/kept.db");
  {
    KeyringHost host(folder());
    ASSERT_THAT(host.ring->disable(*id, host.actor), Succeeds());
  }
  std::filesystem::copy(folder() + "/kept.db", folder() + "/keyring.db",
                        std::filesystem::copy_options::overwrite_existing);
  KeyringHost host(folder());
  EXPECT_THAT(host.deliver(*blob), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(KeyringOnDiskTest, DeliveriesGoOnWhileTheKeyIsRotated) {
  KeyringHost host(folder());
  const auto id = host.create("default")->id;
  const auto blob = *host.make_dek(id);
  std::atomic<bool> stop{false};
  std::array<std::optional<Error>, 3> failed;
  std::vector<std::thread> threads;
  for (auto& mine : failed) {
    threads.emplace_back([&host, &blob, &stop, &mine] {
      while (!stop && !mine) {
        if (const auto done = host.deliver(blob); !done) mine = done.error();
      }
    });
  }
  for (int i = 0; i < 10; ++i) EXPECT_THAT(host.ring->rotate(id, host.actor), Succeeds());
  stop = true;
  for (auto& thread : threads) thread.join();
  for (const auto& error : failed) EXPECT_FALSE(error) << error->str();
}

// Not a test of its own: changes keys without end, one byte to standard output after each, until
// the test below kills it.
TEST(KeyringChild, DISABLED_ChangesKeysUntilItIsKilled) {
  const char* folder = ::getenv(kChildFolder);
  ASSERT_NE(folder, nullptr);
  KeyringHost host(folder);
  const auto id = host.ring->find("default")->id;
  for (;;) {
    const bool done = host.ring->disable(id, host.actor) && host.ring->enable(id, host.actor) &&
                      host.ring->rotate(id, host.actor) && host.make_dek(id);
    if (!done || ::write(3, "x", 1) != 1) return;
  }
}

// Starts the child, waits for `rounds` of its bytes and kills it: in the middle of whatever comes
// next.
void kill_after(const std::string& folder, std::size_t rounds) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], 3);
  ::posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  std::string program = "/proc/self/exe";
  std::string filter = "--gtest_filter=KeyringChild.*";
  std::string disabled = "--gtest_also_run_disabled_tests";
  std::string output = "--gtest_output=";
  std::array<char*, 5> arguments{program.data(), filter.data(), disabled.data(), output.data(),
                                 nullptr};
  std::string variable = std::string(kChildFolder) + "=" + folder;
  std::array<char*, 2> environment{variable.data(), nullptr};
  ::pid_t child = -1;
  ASSERT_EQ(::posix_spawn(&child, program.c_str(), &actions, nullptr, arguments.data(),
                          environment.data()),
            0);
  ::posix_spawn_file_actions_destroy(&actions);
  ::close(ends[1]);
  char byte = 0;
  std::size_t seen = 0;
  while (seen < rounds && ::read(ends[0], &byte, 1) == 1) ++seen;
  EXPECT_EQ(seen, rounds) << "the child ended by itself";
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  ::close(ends[0]);
}

TEST_F(KeyringOnDiskTest, AKillAtAnyInstantLeavesEveryKeyWholeAndEveryIntentClosed) {
  std::optional<keyring::WrappedKey> oldest;
  {
    KeyringHost host(folder());
    oldest = *host.make_dek(host.create("default")->id);
  }
  for (std::size_t round = 0; round < 8; ++round) {
    kill_after(folder(), 1 + round % 3);
    if (HasFatalFailure()) return;
    KeyringHost host(folder());
    ASSERT_THAT(host.ring->reconcile(), Succeeds());
    const auto record = host.ring->find("default");
    ASSERT_THAT(record, Succeeds());
    ASSERT_THAT(host.vault->present(*host.ring->sealed_record(record->id)), Succeeds());
    ASSERT_THAT(host.ring->enable(record->id, host.actor), Succeeds());
    EXPECT_THAT(host.deliver(*oldest), Succeeds());
    EXPECT_THAT(host.make_dek(record->id), Succeeds());
    host.expect_everything_recorded();
  }
}

}  // namespace
}  // namespace coffer::tests

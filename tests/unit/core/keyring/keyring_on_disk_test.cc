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
#include <set>
#include <thread>

#include "core/audit/journal.h"
#include "core/keyring/keyring.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

using keyring::CmkRecord;
using keyring::DekDelivery;
using keyring::DekRequest;
using keyring::KeyContext;
using keyring::Keyring;
using keyring::KeyState;

constexpr const char* kChildFolder = "COFFER_TEST_KEYRING_FOLDER";

KeyContext volume_context() {
  KeyContext context;
  context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  return context;
}

// Everything that cofferd and its vault have on disk, opened in `folder`.
struct Host {
  explicit Host(const std::string& folder) {
    auto store_opened = keyring::open_sqlite_key_store(folder + "/keyring.db");
    EXPECT_THAT(store_opened, Succeeds());
    store = std::move(*store_opened);
    auto vault_opened = hsm::open_development_vault(
        {.token = {folder + "/token"}, .floors_path = folder + "/floors.db", .limits = {}}, sink);
    EXPECT_THAT(vault_opened, Succeeds());
    vault = std::move(*vault_opened);
    auto log_opened = audit::Journal::open(
        folder + "/audit",
        {.node = *HostId::parse("7a1d0b9c-0000-4000-8000-aabbccddeeff"), .segment_bytes = 65536});
    EXPECT_THAT(log_opened, Succeeds());
    log = std::move(*log_opened);
    ring.emplace(Keyring::Parts{*vault, *store, *log, system_clock()});
    ticket = *keyring::draw_ticket();
  }

  Result<keyring::WrappedKey> make_dek(const CmkId& id) {
    const DekRequest request{volume_context(), 1};
    return std::move(ring->make_deks(id, {&request, 1}, ticket, 0, actor, soon()).front());
  }
  Result<void> deliver(const keyring::WrappedKey& blob) {
    const DekDelivery delivery{{blob, volume_context()}, 0, 1};
    return std::move(ring->deliver({&delivery, 1}, ticket, soon()).front());
  }
  Result<CmkRecord> create(const std::string& alias) {
    keyring::CmkParameters parameters;
    parameters.alias = alias;
    return ring->create(parameters, actor);
  }

  FakeDekSink sink;
  std::unique_ptr<keyring::KeyStore> store;
  std::unique_ptr<keyring::KeyVault> vault;
  std::unique_ptr<audit::Journal> log;
  std::optional<Keyring> ring;
  audit::Actor actor{};
  keyring::Ticket ticket{};
};

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
    Host host(folder());
    id = host.create("default")->id;
    blob = *host.make_dek(*id);
    ASSERT_THAT(host.ring->rotate(*id, host.actor), Succeeds());
  }
  Host host(folder());
  EXPECT_EQ(*host.ring->reconcile(), 0U);
  EXPECT_EQ(host.ring->find("default")->versions.size(), 2U);
  EXPECT_THAT(host.deliver(*blob), Succeeds());
}

TEST_F(KeyringOnDiskTest, ARecordEditedInTheFileIsRefusedAndNamed) {
  std::optional<CmkId> id;
  std::optional<keyring::WrappedKey> blob;
  {
    Host host(folder());
    id = host.create("default")->id;
    blob = *host.make_dek(*id);
    ASSERT_THAT(host.ring->disable(*id, host.actor), Succeeds());
  }
  // The state's byte, behind magic, version, id and revision: Disabled becomes Enabled.
  edit(
      "UPDATE cmk SET record = CAST(substr(record, 1, 29) || x'01' || substr(record, 31) AS BLOB)");
  Host host(folder());
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
    Host host(folder());
    a = host.create("a")->id;
    b = host.create("b")->id;
    blob = *host.make_dek(*a);
  }
  edit("UPDATE cmk SET record = (SELECT record FROM cmk AS other WHERE other.id <> cmk.id)");
  Host host(folder());
  const auto refused = host.deliver(*blob);
  EXPECT_THAT(refused, FailsWith(Reason::kRecordInvalid));
  EXPECT_NE(refused.error().message().find(a->str()), std::string::npos);
}

TEST_F(KeyringOnDiskTest, AStoreFilePutBackToAnOlderStateIsRefused) {
  std::optional<CmkId> id;
  std::optional<keyring::WrappedKey> blob;
  {
    Host host(folder());
    id = host.create("default")->id;
    blob = *host.make_dek(*id);
  }
  std::filesystem::copy(folder() + "/keyring.db", folder() + "/kept.db");
  {
    Host host(folder());
    ASSERT_THAT(host.ring->disable(*id, host.actor), Succeeds());
  }
  std::filesystem::copy(folder() + "/kept.db", folder() + "/keyring.db",
                        std::filesystem::copy_options::overwrite_existing);
  Host host(folder());
  EXPECT_THAT(host.deliver(*blob), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(KeyringOnDiskTest, DeliveriesGoOnWhileTheKeyIsRotated) {
  Host host(folder());
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
  Host host(folder);
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
    Host host(folder());
    oldest = *host.make_dek(host.create("default")->id);
  }
  for (std::size_t round = 0; round < 8; ++round) {
    kill_after(folder(), 1 + round % 3);
    if (HasFatalFailure()) return;
    Host host(folder());
    ASSERT_THAT(host.ring->reconcile(), Succeeds());
    const auto record = host.ring->find("default");
    ASSERT_THAT(record, Succeeds());
    ASSERT_THAT(host.vault->present(*host.ring->sealed_record(record->id)), Succeeds());
    ASSERT_THAT(host.ring->enable(record->id, host.actor), Succeeds());
    EXPECT_THAT(host.deliver(*oldest), Succeeds());
    EXPECT_THAT(host.make_dek(record->id), Succeeds());

    std::set<std::uint64_t> open;
    audit::Filter filter;
    filter.operation = "key.*";
    do {
      const auto page = host.log->query(filter, 10'000);
      ASSERT_THAT(page, Succeeds());
      for (const auto& one : page->records) {
        if (one.event.kind == audit::Kind::kIntent) open.insert(one.sequence);
        if (one.event.kind == audit::Kind::kResult) open.erase(one.event.intent_sequence);
      }
      filter.from_sequence = page->next_sequence;
    } while (filter.from_sequence != 0);
    EXPECT_TRUE(open.empty());
    EXPECT_TRUE(host.log->verify(0, 0)->intact);
  }
}

}  // namespace
}  // namespace coffer::tests

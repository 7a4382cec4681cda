// SPDX-License-Identifier: Apache-2.0
// Changes of keys by a process that is killed as it is about to change a file: at some of these
// points, and at every one with COFFER_KILL_POINTS=all.
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>

#include "core/base/files.h"
#include "core/crypto/rsa.h"
#include "core/keyring/due_work.h"
#include "tests/fakes/fake_clock.h"
#include "tests/support/kill_point.h"
#include "tests/support/temp_dir.h"
#include "tests/unit/core/keyring/keyring_host.h"

namespace coffer::tests {
namespace {

using keyring::CmkRecord;
using keyring::ImportWrapping;
using keyring::KeyOrigin;
using keyring::KeyState;
using keyring::WrappedKey;
using std::chrono::days;

constexpr const char* kFolderVariable = "COFFER_TEST_KILL_FOLDER";
constexpr const char* kOperationVariable = "COFFER_TEST_KILL_OPERATION";
constexpr std::size_t kPointsOfAShortRun = 8;  // Of each operation.

CmkId id_of(const KeyringHost& host, const std::string& alias) {
  const auto record = host.ring->find(alias);
  EXPECT_THAT(record, Succeeds()) << alias;
  return record ? record->id : CmkId(Uuid());
}

// What is wrapped under keys before the kill lies beside them.
void keep(const KeyringHost& host, const std::string& name, const WrappedKey& blob) {
  ASSERT_THAT(write_file_durably(host.folder + "/" + name, blob.encode()), Succeeds());
}
WrappedKey kept(const KeyringHost& host, const std::string& name) {
  return *WrappedKey::decode(*read_file(host.folder + "/" + name, 4096));
}

// Keys as the operations need them: `disks` with two versions, `doomed` a week before its end,
// `brought` without its material.
void prepare(const std::string& folder) {
  const FakeClock clock;
  KeyringHost host(folder, clock);
  const CmkId disks = host.create("disks")->id;
  keep(host, "disks.1", *host.make_dek(disks));
  ASSERT_THAT(host.ring->rotate(disks, host.actor), Succeeds());
  keep(host, "disks.2", *host.make_dek(disks));
  const CmkId doomed = host.create("doomed")->id;
  keep(host, "doomed.1", *host.make_dek(doomed));
  ASSERT_THAT(host.ring->disable(doomed, host.actor), Succeeds());
  ASSERT_THAT(host.ring->schedule_deletion(doomed, 7, host.actor), Succeeds());
  ASSERT_THAT(host.create("brought", KeyOrigin::kImported), Succeeds());
}

// An operation on these keys. Done again after a kill it has to succeed, whatever was done before.
struct Operation {
  std::string name;
  std::function<void(KeyringHost&, FakeClock&)> run;
  // The same keys, after it was done to its end.
  std::function<void(KeyringHost&)> check;
};

void rotate(KeyringHost& host, FakeClock&) {
  EXPECT_THAT(host.ring->rotate(id_of(host, "disks"), host.actor), Succeeds());
}

void rewrap(KeyringHost& host, FakeClock&) {
  std::vector<keyring::Rewrapped> keys;
  for (const auto* name : {"disks.1", "disks.2"}) {
    keys.push_back({{kept(host, name), host.volume_context()}, host.volume_context()});
  }
  const auto made = host.ring->rewrap(id_of(host, "disks"), keys, host.actor);
  for (std::size_t i = 0; i < made.size(); ++i) {
    ASSERT_THAT(made[i], Succeeds());
    keep(host, "rewrapped." + std::to_string(i), *made[i]);
  }
}

void archive(KeyringHost& host, FakeClock&) {
  const CmkId id = id_of(host, "disks");
  EXPECT_THAT(host.ring->archive(id, host.actor), Succeeds());
  EXPECT_THAT(host.make_dek(id), FailsWith(Reason::kKeyArchived));
  EXPECT_THAT(host.ring->cancel_archive(id, host.actor), Succeeds());
}

void import(KeyringHost& host, FakeClock&) {
  const CmkId id = id_of(host, "brought");
  const auto offer = host.ring->prepare_import(id, ImportWrapping::kRsaOaepSha256, host.actor);
  ASSERT_THAT(offer, Succeeds());
  const Bytes material(32, std::byte{0x42});
  const auto to = crypto::RsaPublicKey::parse(offer->public_key);
  const auto wrapped = to->encrypt(crypto::kOaepSha256, material);
  ASSERT_THAT(wrapped, Succeeds());
  EXPECT_THAT(host.ring->import_material(id, {offer->token, *wrapped, {}}, host.actor), Succeeds());
}

// Rescued from its deletion, and to be deleted again, later.
void rescue(KeyringHost& host, FakeClock&) {
  const CmkId id = id_of(host, "doomed");
  if (host.ring->get(id)->state == KeyState::kPendingDelete) {
    EXPECT_THAT(host.ring->cancel_deletion(id, host.actor), Succeeds());
  }
  EXPECT_THAT(host.ring->schedule_deletion(id, 30, host.actor), Succeeds());
}

void delete_material(KeyringHost& host, FakeClock& clock) {
  import(host, clock);
  const CmkId id = id_of(host, "brought");
  const auto made = host.make_dek(id);
  ASSERT_THAT(made, Succeeds());
  keep(host, "brought.1", *made);
  EXPECT_THAT(host.ring->delete_material(id, host.actor), Succeeds());
  EXPECT_THAT(host.deliver(*made), FailsWith(Reason::kKeyPendingImport));
}

void destroy(KeyringHost& host, FakeClock& clock) {
  clock.advance(days(7));
  EXPECT_THAT(host.ring->run_due(host.actor), Succeeds());
  clock.advance(keyring::DueWork::kSureAfter);
  const auto report = host.ring->run_due(host.actor);
  ASSERT_THAT(report, Succeeds());
  EXPECT_TRUE(report->failed.empty());
}

// The store is lost, and its keys come back from copies of their records.
void restore(KeyringHost& host, FakeClock&) {
  const auto copies = keyring::open_sqlite_key_store(host.folder + "/copies.db");
  ASSERT_THAT(copies, Succeeds());
  std::vector<keyring::SealedRecord> records;
  for (const auto* alias : {"disks", "brought", "doomed"}) {
    records.push_back(*(*copies)->get_by_alias(alias));
  }
  for (const auto& one : host.ring->adopt(records, host.actor)) EXPECT_THAT(one, Succeeds());
  EXPECT_THAT(host.ring->enable(id_of(host, "disks"), host.actor), Succeeds());
}

void describe(KeyringHost& host, FakeClock&) {
  const CmkId id = id_of(host, "disks");
  EXPECT_THAT(host.ring->describe(id, "disks", "of the night", host.actor), Succeeds());
  EXPECT_THAT(host.ring->set_tags(id, {{"room", "3"}}, host.actor), Succeeds());
  EXPECT_THAT(host.ring->bind(id, "volume/a", host.actor), Succeeds());
}

void expect_doomed_can_be_rescued(KeyringHost& host, const CmkRecord& key) {
  if (key.state != KeyState::kPendingDelete) return;
  ASSERT_THAT(host.ring->cancel_deletion(key.id, host.actor), Succeeds());
  ASSERT_THAT(host.ring->enable(key.id, host.actor), Succeeds());
  EXPECT_THAT(host.deliver(kept(host, "doomed.1")), Succeeds());
  ASSERT_THAT(host.ring->disable(key.id, host.actor), Succeeds());
  ASSERT_THAT(host.ring->schedule_deletion(key.id, 7, host.actor), Succeeds());
}

std::vector<Operation> operations() {
  const auto opens = [](const char* name) {
    return [name](KeyringHost& host) { EXPECT_THAT(host.deliver(kept(host, name)), Succeeds()); };
  };
  return {
      {"Rotate", rotate,
       [](KeyringHost& host) { EXPECT_GE(host.ring->find("disks")->current().number, 3U); }},
      {"Rewrap", rewrap, opens("rewrapped.1")},
      {"Archive", archive,
       [](KeyringHost& host) { EXPECT_THAT(host.make_dek(id_of(host, "disks")), Succeeds()); }},
      {"Import", import,
       [](KeyringHost& host) { EXPECT_THAT(host.make_dek(id_of(host, "brought")), Succeeds()); }},
      {"Rescue", rescue,
       [](KeyringHost& host) {
         const auto key = host.ring->find("doomed");
         ASSERT_THAT(key, Succeeds());
         EXPECT_EQ(key->state, KeyState::kPendingDelete);
         expect_doomed_can_be_rescued(host, *key);
       }},
      {"DeleteMaterial", delete_material,
       [](KeyringHost& host) {
         EXPECT_THAT(host.make_dek(id_of(host, "brought")), FailsWith(Reason::kKeyPendingImport));
         FakeClock clock;
         import(host, clock);
         EXPECT_THAT(host.deliver(kept(host, "brought.1")), Succeeds());
       }},
      {"Destroy", destroy,
       [](KeyringHost& host) {
         EXPECT_THAT(host.ring->find("doomed"), FailsWith(Reason::kNoSuchKey));
         EXPECT_THAT(host.deliver(kept(host, "doomed.1")), FailsWith(Reason::kNoSuchKey));
       }},
      {"Restore", restore,
       [](KeyringHost& host) { EXPECT_THAT(host.make_dek(id_of(host, "disks")), Succeeds()); }},
      {"Describe", describe,
       [](KeyringHost& host) {
         const CmkId id = id_of(host, "disks");
         EXPECT_EQ(host.ring->get(id)->description, "of the night");
         EXPECT_EQ(host.ring->tags(id)->size(), 1U);
         EXPECT_EQ(host.ring->bindings(id, "", 10)->size(), 1U);
       }},
  };
}

void expect_disks_open(KeyringHost& host, const CmkRecord& key) {
  if (key.state == KeyState::kDisabled) {
    ASSERT_THAT(host.ring->enable(key.id, host.actor), Succeeds());
  }
  EXPECT_THAT(host.deliver(kept(host, "disks.1")), Succeeds());
  EXPECT_THAT(host.deliver(kept(host, "disks.2")), Succeeds());
}

// Every key that is there is whole, and opens what it wrapped. `doomed` may be gone.
void expect_whole_keys(KeyringHost& host) {
  const auto page = host.ring->list({});
  ASSERT_THAT(page, Succeeds());
  EXPECT_TRUE(page->damaged.empty());
  for (const CmkRecord& key : page->keys) {
    EXPECT_THAT(host.vault->present(*host.ring->sealed_record(key.id)), Succeeds()) << key.alias;
    if (key.alias == "disks") expect_disks_open(host, key);
    if (key.alias == "doomed") expect_doomed_can_be_rescued(host, key);
  }
}

// Not a test of its own: one operation in the process that is killed.
TEST(KillPointsChild, DISABLED_DoesOneOperation) {
  const char* folder = std::getenv(kFolderVariable);
  const char* name = std::getenv(kOperationVariable);
  ASSERT_TRUE(folder != nullptr && name != nullptr);
  FakeClock clock;
  KeyringHost host(folder, clock);
  ASSERT_THAT(host.ring->reconcile(), Succeeds());
  for (const Operation& operation : operations()) {
    if (operation.name == name) operation.run(host, clock);
  }
}

class KeyKillPointsTest : public testing::TestWithParam<Operation> {
 protected:
  void SetUp() override {
    prepare(before());
    if (GetParam().name == "Restore") {
      // The store is closed, so there is nothing beside its file.
      std::filesystem::rename(before() + "/keyring.db", before() + "/copies.db");
    }
  }

  std::string before() const { return before_.path().string(); }

  static Result<WatchedRun> run_in(const std::string& folder, std::optional<std::size_t> kill_at) {
    return run_to_kill_point(
        {"/proc/self/exe", "--gtest_filter=KillPointsChild.*", "--gtest_also_run_disabled_tests",
         "--gtest_output="},
        {std::string(kFolderVariable) + "=" + folder,
         std::string(kOperationVariable) + "=" + GetParam().name, "ASAN_OPTIONS=detect_leaks=0"},
        kill_at);
  }

  // What a start after the kill finds.
  void expect_all_is_well(const std::string& folder) {
    FakeClock clock;
    KeyringHost host(folder, clock);
    const auto closed = host.ring->reconcile();
    ASSERT_THAT(closed, Succeeds());
    if (*closed != 0) ++left_open_;
    expect_whole_keys(host);
    host.expect_everything_recorded();
    GetParam().run(host, clock);
    GetParam().check(host);
    host.expect_everything_recorded();
  }

  std::size_t left_open() const { return left_open_; }
  void kill_at(std::size_t point) {
    SCOPED_TRACE("killed at point " + std::to_string(point));
    const TempDir scratch;
    const std::string folder = scratch.path().string() + "/host";
    std::filesystem::copy(before(), folder, std::filesystem::copy_options::recursive);
    const auto run = run_in(folder, point);
    ASSERT_THAT(run, Succeeds());
    // Threads do not always come to the same number of calls.
    EXPECT_TRUE(run->killed || run->status == 0);
    expect_all_is_well(folder);
  }

 private:
  TempDir before_;
  std::size_t left_open_ = 0;  // Kills that left an intent without its result.
};

TEST_P(KeyKillPointsTest, LeaveKeysWholeAndEverythingRecorded) {
  const TempDir scratch;
  const std::string folder = scratch.path().string() + "/host";
  std::filesystem::copy(before(), folder, std::filesystem::copy_options::recursive);
  const auto whole = run_in(folder, std::nullopt);
  ASSERT_THAT(whole, Succeeds());
  ASSERT_EQ(whole->status, 0);
  ASSERT_GT(whole->points, kPointsOfAShortRun);

  const char* wanted = std::getenv("COFFER_KILL_POINTS");
  const bool all = wanted != nullptr && std::string(wanted) == "all";
  const std::size_t count = all ? whole->points : kPointsOfAShortRun;
  for (std::size_t i = 0; i < count && !HasFailure(); ++i) kill_at(i * whole->points / count);
  std::cout << GetParam().name << ": killed at " << count << " of " << whole->points
            << " points, in the midst of a change at " << left_open() << "\n";
  EXPECT_GT(left_open(), 0U);
}

INSTANTIATE_TEST_SUITE_P(Operations, KeyKillPointsTest, testing::ValuesIn(operations()),
                         [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
// A cold backup, and `coffer init --restore` onto an empty token: every volume opens afterwards,
// whatever instant a run was cut off at.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "hsm/backup_manifest.h"
#include "hsm/cold_backup.h"
#include "tests/integration/hsm/restore_host.h"

namespace coffer::hsm {
namespace {

TEST_F(RestoreTest, AllVolumesOpenOnATokenMadeAnewByOneCommand) {
  make_host("host");
  const auto id = tests::read_text(places("host").host_id());
  const auto made = back_up("host");
  ASSERT_EQ(made.status, 0) << made.output;
  EXPECT_THAT(made.output, HasSubstr("keys             9\n"));
  EXPECT_EQ(tests::mode_of(backup()), 0700U);
  const auto before = CmkRecord::decode(*record_of("host", "default"));
  lose("host");

  const auto done = restore("host");
  ASSERT_EQ(done.status, 0) << done.output;
  EXPECT_THAT(done.output, HasSubstr("restored: 7 keys open; 2 not in use"));
  expect_complete("host");
  EXPECT_EQ(tests::read_text(places("host").host_id()), id);
  expect_volume_opens("host");
  // What the drill used is counted; nothing went back.
  const auto after = CmkRecord::decode(*record_of("host", "default"));
  EXPECT_GE(after->revision, before->revision);
  EXPECT_GE(after->current().wraps_leased, before->current().wraps_leased);
  EXPECT_EQ(CmkRecord::decode(*record_of("host", "off"))->state, KeyState::kDisabled);

  const auto again = restore("host");
  EXPECT_THAT(again.output, HasSubstr("NameTaken"));
}

TEST_F(RestoreTest, WhatTheVaultSawIsRefusedThereToo) {
  make_host("host");
  // An older record than the backup's.
  const auto old = *record_of("host", "default");
  HostSetup setup(places("host"));
  const auto turned = setup.as_agent(
      places("host").agent_state(), SecretBytes(), std::chrono::seconds(90),
      [](const HostSetup::Agent& agent) -> Result<void> {
        const auto key = agent.keyring.find("default");
        if (!key) return tl::unexpected(key.error());
        const auto rotated = agent.keyring.rotate(key->id, admin());
        return rotated ? Result<void>() : Result<void>(tl::unexpected(rotated.error()));
      });
  ASSERT_THAT(turned, Succeeds());
  ASSERT_EQ(back_up("host").status, 0);
  lose("host");
  ASSERT_EQ(restore("host").status, 0);
  const auto vault = start_vault("host");
  ASSERT_TRUE(vault);
  EXPECT_THAT(vault->client().present(old), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(RestoreTest, RestoreThatStoppedAfterAnyStepIsFinishedByTheNext) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  lose("host");
  for (const std::string step :
       {"mark", "host-id", "staging", "token", "credential", "floors", "state", "config",
        "registry.db", "keyring.db", "stores", "drill", "in-place", "published"}) {
    const auto stopped = restore(step, {"--stop-after", step});
    EXPECT_EQ(stopped.status, 99) << step << "\n" << stopped.output;
    const bool all_done = step == "published";
    EXPECT_EQ(fs::exists(places(step).host_id()), all_done) << step;
    // Nothing else is begun in between; after the last step all is there.
    if (step != "in-place") {
      const auto other = init(step, {"--yes"});
      EXPECT_THAT(other.output, HasSubstr(all_done ? "is set up already" : "a restore was begun"))
          << step;
    }
    const auto finished = restore(step);
    EXPECT_EQ(finished.status == 0, !all_done) << step << "\n" << finished.output;
    expect_complete(step);
    expect_volume_opens(step);
    lose(step);
  }
}

TEST_F(RestoreTest, BackupThatStoppedAfterAnyStepIsNoneAndIsMadeByTheNext) {
  make_host("host");
  for (const std::string step : {"folder", "floors.db", "registry.db", "keyring.db", "manifest"}) {
    EXPECT_EQ(back_up("host", {"--stop-after", step}).status, 99) << step;
    EXPECT_FALSE(fs::exists(backup())) << step;
    EXPECT_THAT(restore("other").output, HasSubstr("NoSuchFile")) << step;
    const auto made = back_up("host");
    EXPECT_EQ(made.status, 0) << step << "\n" << made.output;
    EXPECT_FALSE(fs::exists(backup() + ".partial")) << step;
    EXPECT_THAT(check_backup(backup()), Succeeds()) << step;
    fs::remove_all(backup());
  }
  ASSERT_EQ(back_up("host").status, 0);
  EXPECT_THAT(back_up("host").output, HasSubstr("NameTaken"));
  expect_nothing("other");
}

TEST_F(RestoreTest, BackupTakesNoPlaceThatIsTakenAndNoHostThatHasNothing) {
  make_host("host");
  fs::create_directories(backup() + ".partial");
  std::ofstream(backup() + ".partial/mine") << "x";
  EXPECT_THAT(back_up("host").output, HasSubstr("NameTaken"));
  EXPECT_EQ(tests::read_text(backup() + ".partial/mine"), "x");
  fs::remove_all(backup() + ".partial");
  EXPECT_THAT(make_backup(places("host"), backup() + "/", nullptr),
              FailsWith(Reason::kInvalidArgs));

  fs::create_directories(dir_.path() / "bare");
  EXPECT_THAT(back_up("bare").output, HasSubstr("NoSuchFile"));
  ASSERT_EQ(init("bare", {"--yes", "--no-first-key"}).status, 0);
  HostSetup setup(places("bare"));
  fs::create_directories(places("bare").agent_state());
  const RunAs agent{tests::kAgentUser};
  ASSERT_THAT(agent.change_owner(places("bare").agent_state()), Succeeds());
  EXPECT_THAT(back_up("bare").output, HasSubstr("StoreUnavailable"));
  // As its agent leaves it that has begun.
  ASSERT_THAT(setup.as_agent(places("bare").agent_state(), SecretBytes(), std::chrono::seconds(90),
                             [](const HostSetup::Agent&) -> Result<void> { return {}; }),
              Succeeds());
  EXPECT_THAT(back_up("bare").output, HasSubstr("NoSuchKey"));
  EXPECT_FALSE(fs::exists(backup()));
  EXPECT_FALSE(fs::exists(backup() + ".partial"));
}

TEST_F(RestoreTest, KeysUnderTwoRootKeysAreNoBackup) {
  ASSERT_EQ(init("host", {"--yes"}).status, 0);
  ASSERT_EQ(init("other", {"--yes"}).status, 0);
  HostSetup other(places("other"));
  ASSERT_THAT(other.as_agent(places("other").agent_state(), SecretBytes(), std::chrono::seconds(90),
                             make_keys),
              Succeeds());
  const auto theirs = record_of("other", "sm4");
  ASSERT_TRUE(theirs);
  const auto store = keyring::open_sqlite_key_store(places("host").agent_state() + "/keyring.db");
  ASSERT_THAT(store, Succeeds());
  ASSERT_THAT((*store)->put(*theirs, 0, 1), Succeeds());
  const auto failed = back_up("host");
  EXPECT_THAT(failed.output, HasSubstr("RecordInvalid")) << failed.output;
  EXPECT_FALSE(fs::exists(backup()));
}

TEST_F(RestoreTest, FullDiskLeavesNoBackupAndARestoreThatCanBeFinished) {
  make_host("host");
  // Files of more than 16 KiB cannot be written: what a full disk does, in the middle of a file.
  const auto cramped = [](std::vector<std::string> words) {
    words.insert(words.begin(), {"/bin/sh", "-c", "trap '' XFSZ; ulimit -f 32; exec \"$@\"", "sh"});
    return words;
  };
  const auto failed = tests::run_command(cramped(backup_words("host")));
  EXPECT_NE(failed.status, 0) << failed.output;
  EXPECT_FALSE(fs::exists(backup()));
  EXPECT_FALSE(fs::exists(backup() + ".partial"));
  ASSERT_EQ(back_up("host").status, 0);
  lose("host");

  auto words = init_words("host");
  words.insert(words.end(), {"--restore", backup()});
  fs::create_directories(dir_.path() / "host");
  const auto cut = tests::run_command(cramped(words), {.input_path = typed(), .output_path = {}});
  EXPECT_NE(cut.status, 0) << cut.output;
  EXPECT_FALSE(fs::exists(places("host").host_id()));
  const auto done = restore("host");
  EXPECT_EQ(done.status, 0) << done.output;
  expect_complete("host");
  expect_volume_opens("host");
}

TEST_F(RestoreTest, SharesOfAnotherRootKeyMakeNothing) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  ASSERT_EQ(init("other", {"--yes"}).status, 0);
  const auto others = shares_of("other");
  const auto refused =
      init("fresh", {"--restore", backup(), "--from-shares", others[0], others[1]});
  EXPECT_THAT(refused.output, HasSubstr("ConfirmMismatch")) << refused.output;
  expect_nothing("fresh");
  const auto silent = init("fresh", {"--restore", backup()});
  EXPECT_NE(silent.status, 0);
  expect_nothing("fresh");
}

TEST_F(RestoreTest, TokenWithAnotherRootKeyIsRefusedAndOneWithTheSameIsTaken) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  ASSERT_EQ(init("other", {"--yes"}).status, 0);
  const auto take = [&](const std::string& from) {
    const auto config = *VaultConfig::read(places(from).config());
    return restore("fresh", {"--token", config.uri_text, "--pin-file", places(from).credential(),
                             "--softhsm-conf", config.softhsm_conf});
  };
  const auto refused = take("other");
  EXPECT_THAT(refused.output, HasSubstr("NameTaken")) << refused.output;
  EXPECT_THAT(refused.output, HasSubstr("the token holds the root key")) << refused.output;
  EXPECT_FALSE(fs::exists(places("fresh").config()));
  EXPECT_FALSE(fs::exists(places("fresh").restore_mark()));

  const auto taken = take("host");
  EXPECT_EQ(taken.status, 0) << taken.output;
  EXPECT_THAT(taken.output, HasSubstr("was there already"));
  expect_complete("fresh");
}

TEST_F(RestoreTest, HostWithStateOfItsOwnOrAnotherIdIsLeftAlone) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  ASSERT_EQ(init("other", {"--yes"}).status, 0);
  EXPECT_THAT(restore("other").output, HasSubstr("NameTaken"));
  // As after the loss of its token alone.
  fs::remove(places("other").config());
  fs::remove_all(places("other").vault_state());
  EXPECT_THAT(restore("other").output, HasSubstr("WrongHost"));
  fs::remove(places("other").host_id());
  const auto own = restore("other");
  EXPECT_THAT(own.output, HasSubstr("NameTaken")) << own.output;
  EXPECT_FALSE(fs::exists(places("other").vault_state()));
}

TEST_F(RestoreTest, DamagedBackupIsRefusedBeforeAnythingIsMade) {
  make_host("host");
  ASSERT_EQ(back_up("host").status, 0);
  const auto manifest = BackupManifest::parse(tests::read_text(fs::path(backup()) / "manifest"));
  ASSERT_THAT(manifest, Succeeds());
  ASSERT_EQ(manifest->files.size(), 3U);
  for (const auto& file : manifest->files) {
    const auto path = fs::path(backup()) / file.name;
    const auto whole = tests::read_text(path);
    auto bad = whole;
    bad[bad.size() / 2] = static_cast<char>(bad[bad.size() / 2] ^ 1);
    std::ofstream(path, std::ios::binary) << bad;
    EXPECT_THAT(restore("fresh").output, HasSubstr("StoreDamaged")) << file.name;
    std::ofstream(path, std::ios::binary) << whole << "x";
    EXPECT_THAT(restore("fresh").output, HasSubstr("StoreDamaged")) << file.name;
    fs::remove(path);
    EXPECT_THAT(restore("fresh").output, HasSubstr("NoSuchFile")) << file.name;
    std::ofstream(path, std::ios::binary) << whole;
  }
  std::ofstream(fs::path(backup()) / "manifest", std::ios::app) << "x";
  EXPECT_THAT(restore("fresh").output, HasSubstr("ConfigInvalid"));
  expect_nothing("fresh");
}

TEST_F(RestoreTest, RecordThatDoesNotOpenFailsTheDrillByNameAndNothingIsInPlace) {
  make_host("host");
  const auto record = *record_of("host", "off");
  ASSERT_NO_FATAL_FAILURE(spoil("host", "off"));
  ASSERT_EQ(back_up("host").status, 0);
  lose("host");

  const auto failed = restore("host");
  EXPECT_THAT(failed.output, HasSubstr("RecordInvalid")) << failed.output;
  EXPECT_THAT(failed.output, HasSubstr(CmkRecord::decode(record)->id.str())) << failed.output;
  EXPECT_FALSE(fs::exists(places("host").host_id()));
  EXPECT_FALSE(fs::exists(places("host").agent_state()));
}

}  // namespace
}  // namespace coffer::hsm

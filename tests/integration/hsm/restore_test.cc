// SPDX-License-Identifier: Apache-2.0
// A cold backup, and `coffer init --restore` onto an empty token: every volume opens afterwards,
// whatever instant a run was cut off at.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sqlite3.h>

#include <fstream>
#include <optional>

#include "agent/volume/registry.h"
#include "core/audit/record.h"
#include "core/keyring/key_store.h"
#include "hsm/backup_manifest.h"
#include "hsm/cold_backup.h"
#include "hsm/vault_config.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/integration/hsm/init_host.h"
#include "tests/support/result_matchers.h"
#include "tests/support/vault_process.h"

namespace coffer::hsm {
namespace {
namespace fs = std::filesystem;

using keyring::CmkRecord;
using keyring::KeyState;
using ::testing::HasSubstr;
using tests::CommandEnd;
using tests::FailsWith;
using tests::Succeeds;

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

audit::Actor admin() {
  audit::Actor actor;
  actor.origin = audit::Origin::kCli;
  actor.uid = 0;
  return actor;
}

// One key of each kind that a drill uses or only looks at.
Result<void> make_keys(const HostSetup::Agent& agent) {
  using keyring::KeyAlgorithm;
  using keyring::KeyUsage;
  struct Kind {
    const char* alias;
    KeyAlgorithm algorithm;
    KeyUsage usage;
  };
  std::vector<CmkId> ids;
  for (const Kind& kind : {Kind{"sm4", KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt},
                           Kind{"ec", KeyAlgorithm::kEcP256, KeyUsage::kSignVerify},
                           Kind{"sm2", KeyAlgorithm::kSm2, KeyUsage::kSignVerify},
                           Kind{"sm2-open", KeyAlgorithm::kSm2, KeyUsage::kAsymmetricDecrypt},
                           Kind{"rsa-open", KeyAlgorithm::kRsa2048, KeyUsage::kAsymmetricDecrypt},
                           Kind{"rsa", KeyAlgorithm::kRsa2048, KeyUsage::kSignVerify},
                           Kind{"off", KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt},
                           Kind{"old", KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt}}) {
    keyring::CmkParameters parameters;
    parameters.alias = kind.alias;
    parameters.algorithm = kind.algorithm;
    parameters.usage = kind.usage;
    const auto made = agent.keyring.create(parameters, admin());
    if (!made) return pass(made.error(), kind.alias);
    ids.push_back(made->id);
  }
  if (const auto off = agent.keyring.disable(ids[6], admin()); !off)
    return tl::unexpected(off.error());
  if (const auto old = agent.keyring.archive(ids[7], admin()); !old)
    return tl::unexpected(old.error());
  return {};
}

class RestoreTest : public tests::InitHostTest {
 protected:
  static constexpr const char* kVolume = "data";

  // A host with keys and a volume; its backup in `backup()`, two of its shares in `typed()`.
  void make_host(const std::string& host) {
    const auto made = init(host, {"--yes"});
    ASSERT_EQ(made.status, 0) << made.output;
    HostSetup setup(places(host));
    ASSERT_THAT(setup.as_agent(places(host).agent_state(), SecretBytes(), std::chrono::seconds(90),
                               make_keys),
                Succeeds());
    make_volume(host);
    for (const auto& share : {shares_of(host)[2], shares_of(host)[0]})
      std::ofstream(typed(), std::ios::app) << tests::read_text(share);
  }
  void lose(const std::string& host) const { fs::remove_all(dir_.path() / host); }

  std::string backup() const { return (dir_.path() / "backup").string(); }
  std::string typed() const { return (dir_.path() / "typed").string(); }

  CommandEnd back_up(const std::string& host, std::vector<std::string> more = {}) const {
    auto words = backup_words(host);
    words.insert(words.end(), more.begin(), more.end());
    return tests::run_command(std::move(words));
  }
  std::vector<std::string> backup_words(const std::string& host) const {
    return {(tests::bin_dir() / "coffer").string(),
            "backup",
            backup(),
            "--prefix",
            (dir_.path() / host).string(),
            "--agent-program",
            (tests::bin_dir() / "cofferd").string(),
            "--vault-user",
            tests::kVaultUser,
            "--agent-user",
            tests::kAgentUser};
  }
  CommandEnd restore(const std::string& host, const std::vector<std::string>& more = {}) const {
    std::vector<std::string> words{"--restore", backup()};
    words.insert(words.end(), more.begin(), more.end());
    return init(host, words, typed());
  }

  // A vault of the host's token, as its unit would run it, for as long as the object lives.
  std::unique_ptr<tests::VaultProcess> start_vault(const std::string& host) {
    worker_ = std::make_unique<tests::DeliverySocket>(dir_.path(), sink_);
    tests::VaultProcess::Options options;
    options.config = *VaultConfig::read(places(host).config());
    options.config->pin_file = places(host).credential();
    options.files = dir_.path();
    options.deliver_socket = worker_->path();
    auto started = tests::VaultProcess::start(options);
    EXPECT_THAT(started, Succeeds());
    return started ? std::move(*started) : nullptr;
  }
  std::optional<keyring::SealedRecord> record_of(const std::string& host,
                                                 const std::string& alias) const {
    const auto store = keyring::open_sqlite_key_store(places(host).agent_state() + "/keyring.db");
    EXPECT_THAT(store, Succeeds());
    if (!store) return std::nullopt;
    const auto record = (*store)->get_by_alias(alias);
    EXPECT_THAT(record, Succeeds());
    return record ? std::optional(*record) : std::nullopt;
  }

  void make_volume(const std::string& host) {
    const auto record = record_of(host, "default");
    ASSERT_TRUE(record);
    keyring::KeyContext context;
    context.volume = *VolumeId::random();
    context.cipher = "aes-xts-plain64";
    context.key_bytes = 64;
    context.generation = 1;
    const auto vault = start_vault(host);
    ASSERT_TRUE(vault);
    const auto wrapped =
        vault->client().make_deks(*record, {&context, 1}, *keyring::draw_ticket(), 0, soon());
    ASSERT_THAT(wrapped.front(), Succeeds());
    ASSERT_EQ(sink_.taken().size(), 1U);
    dek_ = sink_.taken().front().dek;

    agent::VolumeRow row;
    row.id = *context.volume;
    row.name = kVolume;
    row.mapped_name = kVolume;
    row.device = {"/dev/disk/by-id/virtio-data", "serial", "wwn"};
    row.device_bytes = std::uint64_t{1} << 30U;
    row.state = agent::RowState::kReady;
    row.profile = Bytes(20, std::byte{1});
    row.context = context.encode();
    row.wraps = {wrapped.front()->encode()};
    row.keys = {CmkRecord::decode(*record)->id};
    const auto registry = agent::Registry::open(places(host).agent_state() + "/registry.db");
    ASSERT_THAT(registry, Succeeds());
    ASSERT_THAT((*registry)->put(row), Succeeds());
    const RunAs agent{tests::kAgentUser};
    for (const auto& entry : fs::directory_iterator(places(host).agent_state()))
      ASSERT_THAT(agent.change_owner(entry.path().string()), Succeeds());
  }

  // The volume's key, by the restored registry, key record and token, is what it was.
  void expect_volume_opens(const std::string& host) {
    const auto registry = agent::Registry::open(places(host).agent_state() + "/registry.db");
    ASSERT_THAT(registry, Succeeds());
    const auto rows = (*registry)->load();
    ASSERT_THAT(rows, Succeeds());
    ASSERT_EQ(rows->rows.size(), 1U);
    const auto& row = rows->rows.front();
    EXPECT_EQ(row.name, kVolume);
    const std::vector<keyring::Presented> keys{{*keyring::WrappedKey::decode(row.wraps.front()),
                                                *keyring::KeyContext::decode(row.context)}};
    const auto record = record_of(host, "default");
    ASSERT_TRUE(record);
    const auto vault = start_vault(host);
    ASSERT_TRUE(vault);
    const std::vector<std::uint32_t> indexes{0};
    const auto delivered =
        vault->client().deliver(*record, keys, *keyring::draw_ticket(), indexes, soon());
    ASSERT_THAT(delivered.front(), Succeeds());
    EXPECT_EQ(sink_.taken().back().dek, dek_);
  }
  void expect_complete(const std::string& host) const {
    EXPECT_TRUE(fs::exists(places(host).host_id()));
    EXPECT_FALSE(fs::exists(places(host).pending_host_id()));
    EXPECT_FALSE(fs::exists(places(host).restore_mark()));
    EXPECT_FALSE(fs::exists(places(host).staging()));
    EXPECT_FALSE(fs::exists(places(host).agent_state() + ".restore"));
  }
  // Nothing of a token or of a host's state is there.
  void expect_nothing(const std::string& host) const {
    EXPECT_FALSE(fs::exists(places(host).host_id()));
    EXPECT_FALSE(fs::exists(places(host).pending_host_id()));
    EXPECT_FALSE(fs::exists(places(host).restore_mark()));
    EXPECT_FALSE(fs::exists(places(host).vault_state()));
    EXPECT_FALSE(fs::exists(places(host).agent_state()));
  }

  tests::FakeDekSink sink_;
  std::unique_ptr<tests::DeliverySocket> worker_;
  Bytes dek_;
};

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
  auto edited = record;
  edited.back() ^= std::byte{1};  // Its seal, which no backup can check.
  const auto path = places("host").agent_state() + "/keyring.db";
  sqlite3* db = nullptr;
  ASSERT_EQ(::sqlite3_open(path.c_str(), &db), SQLITE_OK);
  sqlite3_stmt* statement = nullptr;
  ASSERT_EQ(::sqlite3_prepare_v2(db, "UPDATE cmk SET record = ?1 WHERE record = ?2", -1, &statement,
                                 nullptr),
            SQLITE_OK)
      << ::sqlite3_errmsg(db);
  ::sqlite3_bind_blob(statement, 1, edited.data(), static_cast<int>(edited.size()), nullptr);
  ::sqlite3_bind_blob(statement, 2, record.data(), static_cast<int>(record.size()), nullptr);
  EXPECT_EQ(::sqlite3_step(statement), SQLITE_DONE);
  EXPECT_EQ(::sqlite3_changes(db), 1);
  ::sqlite3_finalize(statement);
  ::sqlite3_close(db);
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

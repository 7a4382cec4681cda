// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/provision.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "agent/volume/adopt.h"
#include "agent/volume/recover.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::Recovered;
using agent::RowState;
using agent::VolumeState;

// Provisions on the test's own thread, so that the power can be cut after each step.
class ProvisionTest : public EngineFixture {
 protected:
  agent::LifeParts parts() {
    return {.unlock = {worker, *keyring, *log, system_clock(), host_id},
            .registry = *registry,
            .state_folder = folder.string(),
            .boot_id = boot_id,
            .boot_deadline = std::chrono::seconds(40)};
  }
  agent::LifeCall call() {
    agent::LifeCall made;
    made.deadline = Deadline::after(std::chrono::seconds(20));
    return made;
  }
  agent::ProvisionCall provision_call() {
    return {.call = call(),
            .id = VolumeId::random().value(),
            .device = "/dev/vda",
            .options = {.name = "data", .file_system = "ext4"}};
  }
  // Provisions /dev/vda and leaves it as a crash does that comes behind `step`; the row.
  agent::VolumeRow cut_off_behind(std::string_view step) {
    plug("vda");
    std::optional<agent::VolumeRow> row;
    auto traced = parts();
    traced.reached = [&](std::string_view reached) {
      if (reached == step) row = registry->load()->rows.front();
    };
    EXPECT_THAT(agent::provision(provision_call(), *watch.list(), traced), Succeeds());
    EXPECT_THAT(worker.deactivate("data", row->id, agent::DeactivateMode::kPlain,
                                  Deadline::after(std::chrono::seconds(1))),
                Succeeds());
    EXPECT_THAT(registry->put(*row), Succeeds());
    stop();
    return *row;
  }
};

// What a power cut leaves: the store as it is on the disk at that instant, and the device.
struct Picture {
  std::vector<agent::VolumeRow> rows;
  std::map<std::string, FakeDisk> disks;
};

TEST_F(ProvisionTest, EveryStopIsCompletedOrUndoneAtTheNextStart) {
  plug("vda");
  std::map<std::string, Picture> pictures;
  std::vector<std::string> steps;
  auto traced = parts();
  traced.reached = [&](std::string_view step) {
    steps.emplace_back(step);
    pictures[std::string(step)] = {registry->load()->rows, worker.disks()};
  };
  const auto made = agent::provision(provision_call(), *watch.list(), traced);
  ASSERT_THAT(made, Succeeds());
  EXPECT_EQ(steps, (std::vector<std::string>{"row", "bound", "key", "print", "written", "ready",
                                             "open", "file system"}));

  for (const std::string& step : steps) {
    SCOPED_TRACE("stopped after " + step);
    stop();
    for (const char* name : {"registry.db", "registry.db-wal", "registry.db-shm"}) {
      std::filesystem::remove(folder / name);
    }
    for (const auto& [name, mapping] : worker.mappings()) {
      ASSERT_THAT(worker.deactivate(name, *mapping.volume, agent::DeactivateMode::kPlain,
                                    Deadline::after(std::chrono::seconds(1))),
                  Succeeds());
    }
    {
      const auto stopped = agent::Registry::open((folder / "registry.db").string());
      ASSERT_THAT((*stopped)->put_all(pictures[step].rows), Succeeds());
    }
    worker.restore(pictures[step].disks);
    start();
    run_until_idle();

    const bool undone = step == "row" || step == "bound" || step == "key" || step == "print";
    const auto rows = registry->load()->rows;
    EXPECT_EQ(rows.size(), undone ? 0U : 1U);
    EXPECT_TRUE(
        run_until([&] { return keyring->bindings(key_id(), "", 10)->size() == rows.size(); }));
    EXPECT_EQ(worker.disk("/dev/vda").header.has_value(), !undone);
    if (undone) continue;
    EXPECT_EQ(rows.front().state, RowState::kReady);
    run_until([&] { return state(made->row.id) == VolumeState::kUnlocked; });
    EXPECT_EQ(volume(made->row.id).file_system, "ext4");
    EXPECT_EQ(worker.disk("/dev/vda").file_system, "ext4");
  }
}

// A row that a crash left in `provisioning` after its header was written.
class CutOffTest : public ProvisionTest {
 protected:
  void SetUp() override {
    ProvisionTest::SetUp();
    id = cut_off_behind("written").id;
  }
  Result<void> forget() {
    std::optional<Result<void>> result;
    engine->forget(id, admin(), [&](Result<void> done) { result = std::move(done); });
    run_until([&] { return result.has_value(); });
    return *result;
  }
  bool recover_ended() {
    for (const auto& job : engine->jobs()) {
      if (job.operation == "recover" && job.state > agent::JobState::kRunning) return true;
    }
    return false;
  }

  VolumeId id{Uuid()};
};

TEST_F(CutOffTest, OneWhoseDeviceNeverReturnsCanBeForgotten) {
  config.retry_min = std::chrono::seconds(60);
  unplug("vda");
  start();
  run_until([&] { return recover_ended(); });
  EXPECT_EQ(state(id), VolumeState::kProvisioning);
  EXPECT_THAT(forget(), Succeeds());
  EXPECT_TRUE(registry->load()->rows.empty());
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "volume.forget"), 1U);
  EXPECT_EQ(audit.count(audit::Kind::kResult, "volume.forget"), 1U);
}

TEST_F(CutOffTest, OneWhoseDeviceIsThereIsCompletedNotForgotten) {
  worker.hold("check_written");
  start();
  run_until([&] { return worker.called("check_written") > 0; });
  EXPECT_THAT(forget(), FailsWith(Reason::kInProgress));
  worker.let_go("check_written");
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
  EXPECT_EQ(registry->load()->rows.size(), 1U);
}

TEST_F(CutOffTest, OneWhoseDeviceIsDeadCanBeForgotten) {
  config.retry_min = std::chrono::seconds(60);
  worker.fail_next("check_written", Reason::kIoError);
  start();
  run_until([&] { return recover_ended(); });
  EXPECT_THAT(forget(), Succeeds());
  EXPECT_TRUE(registry->load()->rows.empty());
}

TEST_F(CutOffTest, AdoptingItCompletesIt) {
  config.retry_min = std::chrono::seconds(60);
  worker.fail_next("check_written", Reason::kIoError);
  start();
  run_until([&] { return recover_ended(); });
  EXPECT_EQ(finish(engine->adopt("/dev/vda", {}, admin())).state, agent::JobState::kDone);
  EXPECT_EQ(registry->find(id)->state, RowState::kReady);
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
  EXPECT_EQ(volume(id).file_system, "ext4");
}

// A volume as a crash leaves it that came after `ready`; its id.
class FirstOpeningTest : public ProvisionTest {
 protected:
  VolumeId cut_off_when_ready() {
    const VolumeId id = cut_off_behind("ready").id;
    worker.disk("/dev/vda").file_system.clear();
    return id;
  }
  // Opening it by itself fails, and is not tried again soon. The token, which is found at some time
  // in between, and a scan are reasons to try once more: they are over when this returns.
  void start_without_opening(const VolumeId& id) {
    config.retry_min = std::chrono::seconds(60);
    config.boot_retry_wait = std::chrono::seconds(0);
    worker.fail_every("expect", Reason::kWorkerLost);
    start();
    run_until([&] { return engine->providers().front().state == "up"; });
    run_until_idle();  // May have met an attempt that was under way, and leave the next one due.
    run_until_idle();
    EXPECT_EQ(state(id), VolumeState::kFailed);
    worker.succeed_again();
  }
  void run_sql(const std::string& sql) const {
    sqlite3* database = nullptr;
    ASSERT_EQ(::sqlite3_open((folder / "registry.db").c_str(), &database), SQLITE_OK);
    EXPECT_EQ(::sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    ::sqlite3_close(database);
  }
};

TEST_F(FirstOpeningTest, TheFileSystemIsMadeWhenTheTokenIsBack) {
  const VolumeId id = cut_off_when_ready();
  vault->go_away(Reason::kHsmAbsent);
  start();
  run_until([&] { return state(id) == VolumeState::kFailed; });
  EXPECT_TRUE(run_until([&] { return engine->boot_status().finished; }));

  vault->come_back();
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
  EXPECT_EQ(volume(id).file_system, "ext4");
}

TEST_F(FirstOpeningTest, TheFileSystemIsMadeWhenTheKeyIsEnabled) {
  const VolumeId id = cut_off_when_ready();
  start_without_opening(id);
  ASSERT_THAT(change_key(key_id(), keyring::CmkChange::kDisable, true), Succeeds());
  run_until_idle();  // Looks for its chance once more.
  EXPECT_EQ(worker.called("make_file_system"), 1) << "provisioning";

  ASSERT_THAT(change_key(key_id(), keyring::CmkChange::kEnable), Succeeds());
  EXPECT_TRUE(run_until([&] { return engine->volume(id)->file_system == "ext4"; }));
}

TEST_F(FirstOpeningTest, OneThatIsStillBeingMadeIsWaitedFor) {
  const VolumeId id = cut_off_when_ready();
  worker.fail_next("make_file_system", Reason::kBusy);
  start();
  run_until([&] { return engine->volume(id)->file_system == "ext4"; });
  EXPECT_EQ(state(id), VolumeState::kUnlocked);
}

TEST_F(FirstOpeningTest, AFileSystemThatCannotBeMadeIsNotTriedOnWhatItsAdminUses) {
  const VolumeId id = cut_off_when_ready();
  worker.fail_next("make_file_system", Reason::kForeignData);
  start();
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
  stop();
  start();
  run_until_idle();
  EXPECT_EQ(worker.called("make_file_system"), 2) << "provisioning and one start";
  EXPECT_EQ(volume(id).file_system, "");
}

TEST_F(FirstOpeningTest, OneThatItsAdminOpensIsItsAdminsBeforeItIsOpen) {
  const VolumeId id = cut_off_when_ready();
  start_without_opening(id);
  worker.hold("wait_results");
  const int waited = worker.called("wait_results");
  const auto job = engine->unlock({id}, {}, admin());
  run_until([&] { return worker.called("wait_results") > waited; });
  EXPECT_NE(registry->find(id)->last_unlock, WallTime{});
  worker.let_go("wait_results");
  EXPECT_EQ(finish(job).state, agent::JobState::kDone);
  EXPECT_EQ(worker.called("make_file_system"), 1) << "provisioning";
}

TEST_F(FirstOpeningTest, OneWhoseUseCannotBeNotedIsNotOpened) {
  const VolumeId id = cut_off_when_ready();
  start_without_opening(id);
  run_sql("CREATE TRIGGER full BEFORE UPDATE ON volume BEGIN SELECT RAISE(ABORT, 'full'); END");
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kStoreUnavailable);
  EXPECT_TRUE(worker.mappings().empty());
}

TEST_F(FirstOpeningTest, AnUnlockThatFailsUsesNothing) {
  const VolumeId id = cut_off_when_ready();
  start_without_opening(id);
  worker.fail_next("expect", Reason::kWorkerLost);
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kWorkerLost);
  EXPECT_EQ(registry->find(id)->last_unlock, WallTime{});
  run_until_idle();
  EXPECT_EQ(volume(id).file_system, "ext4") << "by the scan";
}

TEST_F(FirstOpeningTest, TheBootWaitsForOneThatIsTriedAgain) {
  const VolumeId id = cut_off_when_ready();
  worker.fail_next("expect", Reason::kWorkerLost);
  start();
  run_until([&] { return engine->boot_status().finished; });
  EXPECT_EQ(state(id), VolumeState::kUnlocked);
}

TEST_F(FirstOpeningTest, AnAdminsLockComesFirst) {
  const VolumeId id = cut_off_when_ready();
  registry = agent::Registry::open((folder / "registry.db").string()).value();
  auto row = registry->find(id).value();
  row.locked_by_admin = true;
  row.locked_boot_id = boot_id;
  ASSERT_THAT(registry->put(row), Succeeds());
  registry.reset();
  start();
  run_until_idle();
  EXPECT_EQ(state(id), VolumeState::kLocked);
  EXPECT_EQ(worker.disk("/dev/vda").file_system, "");
}

TEST_F(ProvisionTest, AFailureBeforeTheFirstByteLeavesNothing) {
  plug("vda");
  for (const char* failing : {"expect", "deliver", "build_header", "write_header"}) {
    SCOPED_TRACE(failing);
    worker.fail_next(failing, Reason::kIoError);
    EXPECT_FALSE(agent::provision(provision_call(), *watch.list(), parts()).has_value());
    EXPECT_TRUE(registry->load()->rows.empty());
    EXPECT_FALSE(worker.disk("/dev/vda").header.has_value());
  }
}

TEST_F(ProvisionTest, WithoutARecordNothingIsMade) {
  plug("vda");
  audit.fail_always();
  EXPECT_THAT(agent::provision(provision_call(), *watch.list(), parts()),
              FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(worker.delivered(), 0);
  EXPECT_TRUE(registry->load()->rows.empty());
}

TEST_F(ProvisionTest, ADeviceOfAnotherVolumeIsRefused) {
  plug("vda");
  provision("/dev/vda", "first");
  auto second = provision_call();
  second.options.name = "second";
  EXPECT_THAT(agent::provision(second, *watch.list(), parts()), FailsWith(Reason::kForeignData));
  second.options.name = "first";
  EXPECT_THAT(agent::provision(second, *watch.list(), parts()), FailsWith(Reason::kNameTaken));
  EXPECT_EQ(worker.disk("/dev/vda").writes, 1U);
}

TEST_F(ProvisionTest, OnlyDevicesUnderDevAreTaken) {
  plug("vda");
  for (const char* path : {"/etc/passwd", "vda", "/dev/../etc/passwd", ""}) {
    auto asked = provision_call();
    asked.device = path;
    EXPECT_THAT(agent::provision(asked, *watch.list(), parts()), FailsWith(Reason::kInvalidArgs));
  }
  auto asked = provision_call();
  asked.device = "/dev/vdx";
  EXPECT_THAT(agent::provision(asked, *watch.list(), parts()), FailsWith(Reason::kDeviceAbsent));
}

TEST_F(ProvisionTest, ADeviceWithoutIdentityNeedsItsConfirmation) {
  worker.plug("/dev/loop0");
  agent::Disk disk;
  disk.node = "/dev/loop0";
  disk.major = 252;
  disk.minor = worker.disk("/dev/loop0").identity.minor;
  watch.plug(disk);
  plug("vdh");
  auto asked = provision_call();
  asked.device = "/dev/loop0";
  const auto refused = agent::provision(asked, *watch.list(), parts());
  EXPECT_THAT(refused, FailsWith(Reason::kForeignData));
  EXPECT_THAT(refused.error().message(), ::testing::HasSubstr("yes-empty"));
  asked.options.confirmation = "yes";
  EXPECT_THAT(agent::provision(asked, *watch.list(), parts()), FailsWith(Reason::kConfirmMismatch));

  asked.options.confirmation = "yes-empty";
  auto detached = asked;
  detached.options.header_device = "/dev/vdh";
  EXPECT_THAT(agent::provision(detached, *watch.list(), parts()), FailsWith(Reason::kUnsupported));
  EXPECT_EQ(worker.disk("/dev/loop0").writes, 0U);
  EXPECT_THAT(agent::provision(asked, *watch.list(), parts()), Succeeds());
}

TEST_F(ProvisionTest, ADiskThatUdevDidNotNameIsRefused) {
  plug("vda");
  provision("/dev/vda", "first");
  plug("vdb");
  const auto disks = *watch.list();
  // The engine looks at the disks meanwhile: they change under the fake's lock alone.
  const auto change = [&](const std::string& node, const auto& how) {
    auto now = worker.disks();
    how(now.at(node).identity);
    worker.restore(std::move(now));
  };
  const auto before = worker.disks().at("/dev/vdb").identity;
  const auto renumber = [](auto& identity) { identity.minor += 100; };
  change("/dev/vda", renumber);
  change("/dev/vdb", renumber);
  auto asked = provision_call();
  asked.device = "/dev/vdb";
  asked.options.name = "second";
  EXPECT_THAT(agent::provision(asked, disks, parts()), FailsWith(Reason::kDeviceChanged));
  EXPECT_THAT(
      agent::identify({.call = call(), .device = "/dev/vda", .options = {}}, disks, parts()),
      FailsWith(Reason::kDeviceChanged));

  change("/dev/vdb", [&](auto& identity) {
    identity = before;
    identity.sequence = 8;
  });
  auto named = disks;
  named.back().sequence = 7;
  EXPECT_THAT(agent::provision(asked, named, parts()), FailsWith(Reason::kDeviceChanged));
  EXPECT_EQ(worker.disk("/dev/vdb").writes, 0U);
}

TEST_F(ProvisionTest, ADryRunChecksAndChangesNothing) {
  plug("vda");
  auto dry = provision_call();
  dry.options.dry_run = true;
  EXPECT_THAT(agent::provision(dry, *watch.list(), parts()), Succeeds());
  EXPECT_EQ(worker.disk("/dev/vda").writes, 0U);
  EXPECT_TRUE(registry->load()->rows.empty());
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "volume.provision"), 0U);
}

TEST_F(ProvisionTest, ARowWhoseDeviceIsAwayWaitsForIt) {
  plug("vda");
  agent::VolumeRow row;
  row.id = VolumeId::random().value();
  row.name = "later";
  row.mapped_name = "later";
  row.device.path = "/dev/disk/by-id/virtio-later";
  row.device_bytes = 1U << 30U;
  row.header_print = Bytes(32, std::byte{1});
  ASSERT_THAT(registry->put(row), Succeeds());
  EXPECT_EQ(agent::recover(row, *watch.list(), call(), parts()).value(), Recovered::kWaits);
  EXPECT_THAT(registry->find(row.id), Succeeds());
}

// A row whose device was written when the power went, and an agent that starts on it.
class RecoverTest : public ProvisionTest {
 protected:
  void SetUp() override {
    ProvisionTest::SetUp();
    plug("vda");
    auto traced = parts();
    traced.reached = [&](std::string_view step) {
      if (step == "written") rows = registry->load()->rows;
    };
    auto asked = provision_call();
    asked.options.file_system.clear();
    ASSERT_THAT(agent::provision(asked, *watch.list(), traced), Succeeds());
    ASSERT_THAT(worker.deactivate("data", rows.front().id, agent::DeactivateMode::kPlain,
                                  Deadline::after(std::chrono::seconds(1))),
                Succeeds());
    stop();
    const auto stopped = agent::Registry::open((folder / "registry.db").string());
    ASSERT_THAT((*stopped)->put_all(rows), Succeeds());
  }
  std::vector<agent::VolumeRow> rows;
};

TEST_F(RecoverTest, AFailureThatPassesIsTriedAgain) {
  for (const Reason reason :
       {Reason::kWorkerLost, Reason::kBusy, Reason::kTimedOut, Reason::kDeviceChanged}) {
    {
      const auto stopped = agent::Registry::open((folder / "registry.db").string());
      ASSERT_THAT((*stopped)->put_all(rows), Succeeds());
    }
    worker.fail_next("check_written", reason);
    start();
    EXPECT_TRUE(
        run_until([&] { return registry->find(rows.front().id)->state == RowState::kReady; }));
    stop();
  }
}

TEST_F(RecoverTest, AWorkerThatIsBackIsAskedAtOnce) {
  config.retry_min = std::chrono::hours(1);
  worker.fail_next("check_written", Reason::kWorkerLost);
  start();
  EXPECT_TRUE(run_until([&] {
    const auto now = engine->volume(rows.front().id);
    return now && now->last_error.has_value();
  }));
  EXPECT_EQ(registry->find(rows.front().id)->state, RowState::kProvisioning);
  engine->worker_connected(true);
  EXPECT_TRUE(
      run_until([&] { return registry->find(rows.front().id)->state == RowState::kReady; }));
}

TEST_F(ProvisionTest, AForeignDiskIsNeverWiped) {
  plug("vda");
  worker.disk("/dev/vda").foreign = "ext4";
  agent::VolumeRow row;
  row.id = VolumeId::random().value();
  row.name = "gone";
  row.mapped_name = "gone";
  row.device.path = "/dev/disk/by-id/virtio-vda";
  row.device_bytes = 1U << 30U;
  row.header_print = Bytes(32, std::byte{1});
  ASSERT_THAT(registry->put(row), Succeeds());
  EXPECT_EQ(agent::recover(row, *watch.list(), call(), parts()).value(), Recovered::kUndone);
  EXPECT_EQ(worker.disk("/dev/vda").writes, 0U);
}

TEST_F(ProvisionTest, AnotherDiskThanUdevNamedIsNotLookedAt) {
  plug("vda");
  agent::VolumeRow row;
  row.id = VolumeId::random().value();
  row.name = "moved";
  row.mapped_name = "moved";
  row.device.path = "/dev/disk/by-id/virtio-vda";
  row.device_bytes = 1U << 30U;
  row.header_print = Bytes(32, std::byte{1});
  ASSERT_THAT(registry->put(row), Succeeds());
  const auto disks = *watch.list();
  worker.disk("/dev/vda").identity.minor += 1;
  EXPECT_THAT(agent::recover(row, disks, call(), parts()), FailsWith(Reason::kDeviceChanged));
  EXPECT_EQ(worker.called("check_written"), 0);
  EXPECT_THAT(registry->find(row.id), Succeeds());
}

TEST_F(ProvisionTest, TheFstabLineMountsWheneverTheVolumeOpens) {
  agent::VolumeRow row;
  row.name = row.mapped_name = "data";
  row.file_system = "ext4";
  EXPECT_EQ(agent::fstab_line(row, std::chrono::seconds(40)),
            "/dev/mapper/data /srv/data ext4 "
            "nofail,x-systemd.wanted-by=local-fs.target,x-systemd.wanted-by=dev-mapper-data.device,"
            "x-systemd.before=systemd-user-sessions.service,x-systemd.device-timeout=40s 0 2");
}

TEST_F(ProvisionTest, TheFstabLineNamesTheDevicesUnitAsSystemdDoes) {
  agent::VolumeRow row;
  row.name = row.mapped_name = "my-data@1:a_b.c";
  EXPECT_THAT(agent::fstab_line(row, std::chrono::seconds(40)),
              testing::HasSubstr(R"(/dev/mapper/my-data@1:a_b.c /srv/my-data@1:a_b.c auto )"));
  EXPECT_THAT(agent::fstab_line(row, std::chrono::seconds(40)),
              testing::HasSubstr(R"(wanted-by=dev-mapper-my\x2ddata\x401:a_b.c.device,)"));
}

}  // namespace
}  // namespace coffer::tests

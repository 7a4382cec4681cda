// SPDX-License-Identifier: Apache-2.0
#include "agent/host_engine.h"

#include <gtest/gtest.h>

#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::JobState;
using agent::LockMode;
using agent::VolumeState;
using ::testing::HasSubstr;

class HostEngineTest : public EngineFixture {};

TEST_F(HostEngineTest, AProvisionedVolumeIsOpenAndRecorded) {
  const VolumeId id = provision(plug("vda"), "data", {.file_system = "ext4"});

  EXPECT_EQ(state(id), VolumeState::kUnlocked);
  EXPECT_EQ(volume(id).device, "/dev/disk/by-id/virtio-vda");
  EXPECT_EQ(worker.disk("/dev/vda").file_system, "ext4");
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "volume.provision"), 1U);
  EXPECT_EQ(audit.count(audit::Kind::kResult, "volume.provision"), 1U);
  EXPECT_EQ(registry->find(id)->state, agent::RowState::kReady);
}

TEST_F(HostEngineTest, ALockedVolumeOpensAgain) {
  const VolumeId id = provision(plug("vda"), "data");

  EXPECT_EQ(finish(engine->lock({id}, {}, admin())).state, JobState::kDone);
  EXPECT_EQ(state(id), VolumeState::kLocked);
  EXPECT_TRUE(worker.mappings().empty());

  EXPECT_EQ(finish(engine->unlock({id}, {}, admin())).state, JobState::kDone);
  EXPECT_EQ(state(id), VolumeState::kUnlocked);
  EXPECT_EQ(worker.mappings().size(), 1U);
}

TEST_F(HostEngineTest, EightVolumesOpenInOneBatchAfterABoot) {
  for (int i = 0; i < 8; ++i) {
    const std::string name = "vd" + std::string(1, static_cast<char>('a' + i));
    provision(plug(name), "data" + std::to_string(i));
  }
  stop();
  for (const auto& [name, mapping] : worker.mappings()) {
    ASSERT_THAT(worker.deactivate(name, *mapping.volume, agent::DeactivateMode::kPlain,
                                  Deadline::after(std::chrono::seconds(1))),
                Succeeds());
  }
  const int expects_before = worker.called("expect");
  boot_id = "boot-2";
  start();
  run_until([&] { return engine->boot_status().finished; });

  EXPECT_EQ(worker.mappings().size(), 8U);
  EXPECT_EQ(worker.called("expect"), expects_before + 1);
  EXPECT_EQ(engine->manager().unlocked_count, 8U);
}

TEST_F(HostEngineTest, ARestartAdoptsWhatIsOpenAndClosesNothing) {
  const VolumeId id = provision(plug("vda"), "data");
  const int delivered = worker.delivered();
  stop();
  start();
  run_until([&] { return engine->boot_status().finished; });

  EXPECT_EQ(state(id), VolumeState::kUnlocked);
  EXPECT_EQ(worker.delivered(), delivered);
  EXPECT_EQ(worker.mappings().size(), 1U);
}

TEST_F(HostEngineTest, UnrecordedUnlockNeverTouchesTheKey) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  const int delivered = worker.delivered();
  audit.fail_always();

  const auto error = error_of(engine->unlock({id}, {}, admin()));
  EXPECT_EQ(error->reason(), Reason::kAuditUnavailable);
  EXPECT_EQ(worker.delivered(), delivered);
  EXPECT_TRUE(worker.mappings().empty());
}

TEST_F(HostEngineTest, LockingGoesOnWithoutTheJournal) {
  const VolumeId id = provision(plug("vda"), "data");
  audit.fail_always();

  EXPECT_EQ(finish(engine->lock({id}, {}, admin())).state, JobState::kDone);
  EXPECT_TRUE(worker.mappings().empty());

  audit.succeed_again();
  finish(engine->unlock({id}, {}, admin()));
  EXPECT_EQ(audit.count(audit::Kind::kResult, "volume.lock"), 1U);
}

TEST_F(HostEngineTest, AnAdminsLockHoldsThroughARestartAndEndsWithTheBoot) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  stop();
  start();
  run_until_idle();
  EXPECT_EQ(state(id), VolumeState::kLocked);
  EXPECT_TRUE(volume(id).locked_by_admin);

  stop();
  boot_id = "boot-2";
  start();
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
  EXPECT_FALSE(volume(id).locked_by_admin);
}

TEST_F(HostEngineTest, ALockThatAKillCutOffDoesNotHoldAnOpenVolume) {
  const VolumeId id = provision(plug("vda"), "data");
  auto row = registry->find(id).value();
  row.locked_by_admin = true;  // As lock_volume() stores it before it takes the mapping away.
  row.locked_boot_id = boot_id;
  ASSERT_THAT(registry->put(row), Succeeds());
  stop();
  start();
  run_until_idle();
  EXPECT_EQ(state(id), VolumeState::kUnlocked);
  EXPECT_FALSE(volume(id).locked_by_admin);
  run_until([&] { return !registry->find(id)->locked_by_admin; });

  const auto disks = worker.disks();
  unplug("vda");
  run_until([&] { return state(id) == VolumeState::kAbsent; });
  worker.restore(disks);
  plug("vda");
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
}

TEST_F(HostEngineTest, ATokenThatIsBackOpensWhatWaitedForIt) {
  const VolumeId id = provision(plug("vda"), "data");
  stop();
  ASSERT_THAT(worker.deactivate("data", id, agent::DeactivateMode::kPlain,
                                Deadline::after(std::chrono::seconds(1))),
              Succeeds());
  vault->go_away(Reason::kHsmPinLocked);
  start();
  run_until([&] { return state(id) == VolumeState::kFailed; });
  EXPECT_EQ(volume(id).last_error->reason(), Reason::kHsmPinLocked);
  EXPECT_TRUE(run_until([&] { return engine->boot_status().finished; }));

  vault->come_back();
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
}

TEST_F(HostEngineTest, APluggedVolumeOpensByItself) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  finish(engine->unlock({id}, {}, admin()));
  const auto disks = worker.disks();
  unplug("vda");
  run_until([&] { return state(id) == VolumeState::kAbsent; });
  EXPECT_TRUE(worker.mappings().empty());

  worker.restore(disks);
  plug("vda");
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
}

TEST_F(HostEngineTest, AVolumeUnpluggedInUseIsReportedAndItsMappingGoesLater) {
  const VolumeId id = provision(plug("vda"), "data");
  worker.set_open_count("data", 1);
  unplug("vda");
  run_until([&] { return state(id) == VolumeState::kAbsent; });
  EXPECT_THAT(volume(id).state_reason, HasSubstr("unplugged"));
  EXPECT_TRUE(worker.mappings().at("data").deferred);
}

TEST_F(HostEngineTest, OneDamagedVolumeDoesNotStopTheOthers) {
  const VolumeId good = provision(plug("vda"), "good");
  const VolumeId bad = provision(plug("vdb"), "bad");
  finish(engine->lock({good, bad}, {}, admin()));
  worker.disk("/dev/vdb").header.reset();
  worker.disk("/dev/vdb").header_error = Error(Reason::kHeaderDamaged, "hdr.checksum: wrong");

  const auto job = engine->unlock({good, bad}, {}, admin());
  EXPECT_EQ(finish(job).state, JobState::kPartial);
  EXPECT_EQ(state(good), VolumeState::kUnlocked);
  EXPECT_EQ(volume(bad).last_error->reason(), Reason::kHeaderDamaged);
  EXPECT_EQ(audit.count(audit::Kind::kRefused, "volume.unlock"), 1U);
}

TEST_F(HostEngineTest, OperationsOnOneVolumeRunInOrderAndOthersMeanwhile) {
  const VolumeId a = provision(plug("vda"), "a");
  const VolumeId b = provision(plug("vdb"), "b");
  finish(engine->lock({a, b}, {}, admin()));

  const int scans = worker.called("scan");
  worker.hold("deliver");
  const auto first = engine->unlock({a}, {}, admin());
  const auto second = engine->lock({a}, {}, admin());
  run_until([&] { return worker.called("scan") > scans; });
  const auto other = engine->lock({b}, {}, admin());
  EXPECT_EQ(finish(other).state, JobState::kDone);
  EXPECT_EQ(engine->job(*first)->state, JobState::kRunning);
  EXPECT_EQ(engine->job(*second)->state, JobState::kQueued);

  worker.let_go("deliver");
  EXPECT_EQ(finish(first).state, JobState::kDone);
  EXPECT_EQ(finish(second).state, JobState::kDone);
  EXPECT_EQ(state(a), VolumeState::kLocked);
}

TEST_F(HostEngineTest, ALockDoesNotWaitForProvisioningThatHangs) {
  const VolumeId id = provision(plug("vda"), "data");
  const int begun = worker.called("check_empty");
  worker.hold("check_empty");
  std::vector<Result<agent::JobId>> hanging;
  for (int i = 0; i < 8; ++i) {
    const std::string name = "vd" + std::string(1, static_cast<char>('b' + i));
    hanging.push_back(engine->provision(plug(name), {.name = name}, admin()));
  }
  run_until([&] { return worker.called("check_empty") >= begun + 6; });
  EXPECT_EQ(finish(engine->lock({id}, {}, admin())).state, JobState::kDone);
  EXPECT_EQ(state(id), VolumeState::kLocked);

  worker.let_go("check_empty");
  for (const auto& job : hanging) EXPECT_EQ(finish(job).state, JobState::kDone);
}

TEST_F(HostEngineTest, ADisabledKeyOpensNothingUntilItIsEnabled) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  ASSERT_THAT(change_key(key_id(), keyring::CmkChange::kDisable, true), Succeeds());

  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kKeyDisabled);

  ASSERT_THAT(change_key(key_id(), keyring::CmkChange::kEnable), Succeeds());
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
}

TEST_F(HostEngineTest, ALostRegistryIsRepairedByAdopt) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  stop();
  for (const char* name : {"registry.db", "registry.db-wal", "registry.db-shm", "keyring.db",
                           "keyring.db-wal", "keyring.db-shm"}) {
    std::filesystem::remove(folder / name);
  }
  start();
  run_until_idle();
  EXPECT_THAT(engine->volume(id), FailsWith(Reason::kNoSuchVolume));

  EXPECT_EQ(finish(engine->adopt("/dev/vda", {}, admin())).state, JobState::kDone);
  EXPECT_EQ(volume(id).name, "data");
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kKeyDisabled);

  ASSERT_THAT(change_key(key_id(), keyring::CmkChange::kEnable), Succeeds());
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
}

TEST_F(HostEngineTest, ABusyVolumeStaysOpenAndIsNotHeldLocked) {
  const VolumeId id = provision(plug("vda"), "data");
  worker.set_open_count("data", 1);

  EXPECT_EQ(error_of(engine->lock({id}, {}, admin()))->reason(), Reason::kBusy);
  EXPECT_EQ(state(id), VolumeState::kUnlocked);
  EXPECT_FALSE(volume(id).locked_by_admin);

  EXPECT_EQ(finish(engine->lock({id}, {.mode = LockMode::kDeferred}, admin())).state,
            JobState::kDone);
  EXPECT_EQ(state(id), VolumeState::kLocking);
}

TEST_F(HostEngineTest, AWorkerThatIsLostFailsByNameAndTheNextUnlockCompletes) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  worker.fail_next("expect", Reason::kWorkerLost);

  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kWorkerLost);
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
}

TEST_F(HostEngineTest, CancelEndsWhatHasNotBegun) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  worker.hold("scan");
  const auto first = engine->unlock({id}, {}, admin());
  const auto second = engine->verify({id}, admin());
  EXPECT_THAT(engine->cancel(*second, admin()), Succeeds());
  EXPECT_EQ(finish(second).state, JobState::kCancelled);

  EXPECT_THAT(engine->cancel(*first, admin()), Succeeds());
  worker.let_go("scan");
  EXPECT_EQ(finish(first).state, JobState::kCancelled);
  EXPECT_EQ(state(id), VolumeState::kLocked);
  EXPECT_THAT(engine->cancel(4711, admin()), FailsWith(Reason::kNoSuchJob));
}

TEST_F(HostEngineTest, AForgottenVolumeIsGoneAndItsDeviceUntouched) {
  const VolumeId id = provision(plug("vda"), "data");
  const auto writes = worker.disk("/dev/vda").writes;
  std::optional<Result<void>> result;
  const auto keep = [&](Result<void> done) { result = std::move(done); };
  engine->forget(id, admin(), keep);
  EXPECT_THAT(*result, FailsWith(Reason::kBusy));
  finish(engine->lock({id}, {}, admin()));
  run_until_idle();
  result.reset();
  engine->forget(id, admin(), keep);
  run_until([&] { return result.has_value(); });
  EXPECT_THAT(*result, Succeeds());
  EXPECT_THAT(engine->volume(id), FailsWith(Reason::kNoSuchVolume));
  EXPECT_EQ(worker.disk("/dev/vda").writes, writes);
}

TEST_F(HostEngineTest, ADeviceThatIsNotEmptyNeedsItsExactConfirmation) {
  const std::string path = plug("vda");
  worker.disk(path).foreign = "ext4 file system";

  EXPECT_EQ(error_of(engine->provision(path, {.name = "x"}, admin()))->reason(),
            Reason::kForeignData);
  EXPECT_EQ(
      error_of(engine->provision(path, {.name = "x", .confirmation = "no"}, admin()))->reason(),
      Reason::kConfirmMismatch);
  EXPECT_EQ(worker.disk(path).writes, 0U);
  EXPECT_TRUE(registry->load()->rows.empty());

  provision(path, "x", {.confirmation = "yes-ext4 file system"});
}

TEST_F(HostEngineTest, AVolumeWhoseOldMappingLingersIsNotOpenedOverIt) {
  const VolumeId id = provision(plug("vda"), "data");
  auto disks = worker.disks();
  disks.at("/dev/vda").identity.minor = 99;
  worker.set_open_count("data", 1);
  unplug("vda");
  run_until([&] { return state(id) == VolumeState::kAbsent; });
  worker.restore(disks);
  plug("vda");
  run_until_idle();
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kBusy);

  worker.set_open_count("data", 0);
  ASSERT_THAT(worker.deactivate("data", id, agent::DeactivateMode::kPlain,
                                Deadline::after(std::chrono::seconds(1))),
              Succeeds());
  finish(engine->scan(admin()));
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
}

TEST_F(HostEngineTest, SettledComesAfterUdevAndIsReportedApart) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  watch.settle_by_hand();
  const auto job = engine->unlock({id}, {}, admin());
  run_until([&] { return state(id) == VolumeState::kUnlocked; });
  EXPECT_EQ(engine->job(*job)->state, JobState::kRunning);

  watch.settle("data");
  EXPECT_EQ(finish(job).state, JobState::kDone);
  EXPECT_GT(engine->job_items(*job)->front().settled.count(), 0);
}

}  // namespace
}  // namespace coffer::tests

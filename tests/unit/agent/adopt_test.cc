// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/adopt.h"

#include <gtest/gtest.h>
#include <sqlite3.h>

#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::JobState;
using agent::VolumeState;
using ::testing::HasSubstr;

// A locked volume on /dev/vda.
class AdoptTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    id = provision(plug("vda"), "data");
    finish(engine->lock({id}, {}, admin()));
    run_until_idle();
  }

  // What is on /dev/vda, on another disk.
  std::string copy_to(const std::string& name) {
    const std::string path = plug(name);
    worker.disk(path).header = worker.disk("/dev/vda").header;
    worker.disk(path).key_digest = worker.disk("/dev/vda").key_digest;
    return path;
  }

  VolumeId id{Uuid()};
};

TEST_F(AdoptTest, AVolumeThatWasMovedIsRegisteredWhereItIs) {
  const std::string path = copy_to("vdb");
  worker.disk(path).identity.size_bytes += 4096;
  unplug("vda");
  run_until_idle();

  EXPECT_EQ(finish(engine->adopt(path, {}, admin())).state, JobState::kDone);
  EXPECT_EQ(volume(id).device, "/dev/disk/by-id/virtio-vdb");
  EXPECT_EQ(registry->find(id)->device_bytes, worker.disk(path).identity.size_bytes);
  EXPECT_EQ(finish(engine->unlock({id}, {}, admin())).state, JobState::kDone);
}

TEST_F(AdoptTest, AVolumeIsNotMovedToASmallerDisk) {
  const std::string path = copy_to("vdb");
  worker.disk(path).identity.size_bytes -= 4096;
  unplug("vda");
  run_until_idle();

  const auto error = error_of(engine->adopt(path, {}, admin()));
  EXPECT_EQ(error->reason(), Reason::kDeviceTooSmall);
  EXPECT_EQ(volume(id).device, "/dev/disk/by-id/virtio-vda");
}

TEST_F(AdoptTest, ACopyIsNotAdoptedWhileTheRegisteredDiskIsThere) {
  const std::string path = copy_to("vdb");
  const auto error = error_of(engine->adopt(path, {}, admin()));
  EXPECT_EQ(error->reason(), Reason::kAmbiguousVolume);
  EXPECT_THAT(error->message(), HasSubstr("/dev/vda"));
  EXPECT_EQ(registry->find(id)->device.path, "/dev/disk/by-id/virtio-vda");
  EXPECT_EQ(audit.count(audit::Kind::kResult, "volume.adopt"), 1U) << "the refusal is recorded";
}

// Whether it may move, and what else its row says, shows only in the row.
TEST_F(AdoptTest, ARowThatCannotBeReadJustNowIsNotReplaced) {
  sqlite3* database = nullptr;
  ASSERT_EQ(::sqlite3_open((folder / "registry.db").c_str(), &database), SQLITE_OK);
  // Larger than the registry reads.
  EXPECT_EQ(::sqlite3_exec(database, "UPDATE volume SET body = zeroblob(2000000)", nullptr, nullptr,
                           nullptr),
            SQLITE_OK);
  ::sqlite3_close(database);
  ASSERT_THAT(registry->find(id), FailsWith(Reason::kStoreUnavailable));

  const auto error = error_of(engine->adopt("/dev/vda", {}, admin()));
  EXPECT_EQ(error->reason(), Reason::kStoreUnavailable);
  EXPECT_THAT(registry->find(id), FailsWith(Reason::kStoreUnavailable));
}

TEST_F(AdoptTest, AnOpenVolumeIsNotMoved) {
  ASSERT_EQ(finish(engine->unlock({id}, {}, admin())).state, JobState::kDone);
  worker.set_open_count("data", 1);
  const std::string path = copy_to("vdb");
  unplug("vda");
  run_until([&] { return state(id) == VolumeState::kAbsent; });

  EXPECT_EQ(error_of(engine->adopt(path, {}, admin()))->reason(), Reason::kBusy);
  EXPECT_EQ(registry->find(id)->device.path, "/dev/disk/by-id/virtio-vda");
}

TEST_F(AdoptTest, ItWaitsForItsPlaceInTheVolumesLine) {
  worker.hold("deliver");
  const auto unlocking = engine->unlock({id}, {}, admin());
  const auto adopting = engine->adopt("/dev/vda", {}, admin());
  run_until([&] { return engine->job_items(*adopting)->front().volume == id; });
  EXPECT_EQ(engine->job(*adopting)->state, JobState::kRunning);
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "volume.adopt"), 0U);

  worker.let_go("deliver");
  EXPECT_EQ(finish(unlocking).state, JobState::kDone);
  EXPECT_EQ(error_of(adopting)->reason(), Reason::kBusy) << "by then it is open";
}

TEST_F(AdoptTest, ADiskThatChangesMeanwhileIsNotAdopted) {
  agent::AdoptCall call;
  call.device = "/dev/vda";
  call.call.deadline = Deadline::after(std::chrono::seconds(10));
  const agent::LifeParts parts{.unlock = {worker, *keyring, *log, system_clock(), host_id},
                               .registry = *registry,
                               .state_folder = folder.string(),
                               .boot_id = boot_id,
                               .boot_deadline = std::chrono::seconds(60)};
  EXPECT_EQ(agent::identify(call, *watch.list(), parts).value(), id);
  const VolumeId other = VolumeId::random().value();
  EXPECT_THAT(agent::adopt(call, other, *watch.list(), parts), FailsWith(Reason::kDeviceChanged));
}

}  // namespace
}  // namespace coffer::tests

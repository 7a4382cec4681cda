// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/adopt.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace coffer::tests

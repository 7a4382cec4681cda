// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "agent/unlock/decide.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::JobState;
using ::testing::HasSubstr;

// A locked volume on /dev/vda.
class DeviceSizeTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    id = provision(plug("vda"), "data");
    finish(engine->lock({id}, {}, admin()));
    run_until_idle();
  }

  VolumeId id{Uuid()};
};

TEST_F(DeviceSizeTest, ADeviceThatWasCutShortIsRefusedNamingBothSizes) {
  auto& size = worker.disk("/dev/vda").identity.size_bytes;
  const std::uint64_t before = size;
  size -= 4096;
  const int delivered = worker.delivered();

  const auto error = error_of(engine->unlock({id}, {}, admin()));
  EXPECT_EQ(error->reason(), Reason::kDeviceTooSmall);
  EXPECT_THAT(error->message(), HasSubstr(std::to_string(before)));
  EXPECT_THAT(error->message(), HasSubstr(std::to_string(before - 4096)));
  EXPECT_EQ(worker.delivered(), delivered) << "no key is asked for";
}

TEST_F(DeviceSizeTest, ADeviceThatHasGrownOpens) {
  worker.disk("/dev/vda").identity.size_bytes += 4096;
  EXPECT_EQ(finish(engine->unlock({id}, {}, admin())).state, JobState::kDone);
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/open_device.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/loop_device.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::agent {
namespace {

using tests::FailsWith;
using tests::Succeeds;

class OpenDeviceTest : public ::testing::Test {
 protected:
  std::string file(std::uint64_t size_bytes) {
    const auto path = folder_.path() / "file";
    std::ofstream(path).flush();
    std::filesystem::resize_file(path, size_bytes);
    return path.string();
  }
  tests::TempDir folder_;
};

TEST_F(OpenDeviceTest, NothingButBlockDevicesUnderDevIsOpened) {
  EXPECT_THAT(open_device(file(4096), FilesAllowed::kNo), FailsWith(Reason::kDeviceAbsent));
  EXPECT_THAT(open_device("/dev/null", FilesAllowed::kNo), FailsWith(Reason::kDeviceAbsent));
  EXPECT_THAT(open_device("/dev/absent", FilesAllowed::kNo), FailsWith(Reason::kDeviceAbsent));
  EXPECT_THAT(open_device("/dev", FilesAllowed::kYes), FailsWith(Reason::kDeviceAbsent));
  EXPECT_THAT(open_device("dev/sda", FilesAllowed::kNo), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(open_device("", FilesAllowed::kNo), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(open_device("/dev/" + std::string(kDevicePathBytesMax, 'x'), FilesAllowed::kNo),
              FailsWith(Reason::kInvalidArgs));
}

TEST_F(OpenDeviceTest, LinkOutOfDevIsNotFollowed) {
  const auto link = folder_.path() / "link";
  std::filesystem::create_symlink(file(4096), link);
  EXPECT_THAT(open_device(link.string(), FilesAllowed::kNo), FailsWith(Reason::kDeviceAbsent));
}

TEST_F(OpenDeviceTest, BlockDeviceTellsWhatItIs) {
  const tests::LoopDevice loop(file(std::uint64_t{8} << 20U), 4096);
  if (!loop.valid()) GTEST_SKIP() << "no loop device to be had";
  const auto device = open_device(loop.path(), FilesAllowed::kNo);
  ASSERT_THAT(device, Succeeds());
  EXPECT_EQ(device->identity.size_bytes, std::uint64_t{8} << 20U);
  EXPECT_EQ(device->identity.sector_bytes, 4096U);
  EXPECT_EQ("/dev/" + device->identity.node, loop.path());
  EXPECT_FALSE(device->identity.read_only);
  EXPECT_THAT(require_unchanged(*device), Succeeds());
  EXPECT_EQ(node_path(*device), loop.path());
}

TEST_F(OpenDeviceTest, DeviceThatBecameAnotherIsNoticed) {
  const tests::LoopDevice loop(file(std::uint64_t{8} << 20U));
  if (!loop.valid()) GTEST_SKIP() << "no loop device to be had";
  auto device = open_device(loop.path(), FilesAllowed::kNo);
  ASSERT_THAT(device, Succeeds());
  device->identity.sequence += 1;
  EXPECT_THAT(require_unchanged(*device), FailsWith(Reason::kDeviceChanged));
}

TEST_F(OpenDeviceTest, DeviceThatIsHeldCannotBeTaken) {
  const tests::LoopDevice loop(file(std::uint64_t{8} << 20U));
  if (!loop.valid()) GTEST_SKIP() << "no loop device to be had";
  const auto device = open_device(loop.path(), FilesAllowed::kNo);
  ASSERT_THAT(device, Succeeds());
  const auto first = open_exclusively(*device);
  ASSERT_THAT(first, Succeeds());
  EXPECT_THAT(open_exclusively(*device), FailsWith(Reason::kBusy));
}

}  // namespace
}  // namespace coffer::agent

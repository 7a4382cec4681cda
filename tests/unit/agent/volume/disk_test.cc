// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "agent/unlock/find_candidates.h"
#include "agent/volume/device_watch.h"

namespace coffer::tests {
namespace {

using agent::Disk;
using agent::UnlockTarget;
using agent::VolumeRow;

Disk disk(const std::string& name, const std::string& serial = "") {
  Disk made;
  made.node = "/dev/" + name;
  made.kernel_name = name;
  made.serial = serial;
  if (!serial.empty()) made.links = {"/dev/disk/by-path/x", "/dev/disk/by-id/virtio-" + serial};
  return made;
}

TEST(DiskTest, TheMostTellingLinkIsItsPath) {
  Disk made = disk("sda", "s");
  made.links.emplace_back("/dev/disk/by-id/wwn-0x1");
  made.links.emplace_back("/dev/disk/by-uuid/1234");
  EXPECT_EQ(made.identity().path, "/dev/disk/by-id/wwn-0x1");
  EXPECT_EQ(disk("loop0").identity().path, "/dev/loop0");
}

TEST(DiskTest, LinksFromTheContentDoNotNameTheDisk) {
  EXPECT_FALSE(agent::is_stable_path("/dev/disk/by-id/lvm-pv-uuid-x"));
  EXPECT_FALSE(agent::is_stable_path("/dev/disk/by-uuid/x"));
  EXPECT_FALSE(agent::is_stable_path("/dev/disk/by-partuuid/x")) << "a cloned GPT carries it";
  EXPECT_TRUE(agent::is_stable_path("/dev/disk/by-id/nvme-x"));
}

TEST(DiskTest, SerialTellsDisksApartWhateverTheirPaths) {
  EXPECT_TRUE(agent::same_disk({"/dev/a", "s", ""}, {"/dev/b", "s", ""}));
  EXPECT_FALSE(agent::same_disk({"/dev/a", "s", ""}, {"/dev/a", "t", ""}));
  EXPECT_TRUE(agent::same_disk({"/dev/a", "", ""}, {"/dev/a", "t", ""}));
  EXPECT_FALSE(agent::same_disk({"/dev/a", "s", "w1"}, {"/dev/a", "s", "w2"}));
}

class CandidatesTest : public ::testing::Test {
 protected:
  UnlockTarget find(const std::vector<Disk>& disks) {
    std::vector<UnlockTarget> targets;
    targets.emplace_back(row, false);
    agent::find_candidates(targets, disks);
    return targets.front();
  }
  VolumeRow row;
  void SetUp() override {
    row.id = VolumeId::random().value();
    row.device = disk("vda", "one").identity();
  }
};

TEST_F(CandidatesTest, TheRegisteredDiskComesFirstAndCopiesBehindIt) {
  Disk copy = disk("vdb", "two");
  copy.file_system_type = "crypto_LUKS";
  copy.file_system_uuid = row.id.str();
  const UnlockTarget target = find({copy, disk("vda", "one")});
  ASSERT_EQ(target.candidates.size(), 2U);
  EXPECT_EQ(target.candidates[0].path, "/dev/vda");
  EXPECT_TRUE(target.candidates[0].registered);
  EXPECT_FALSE(target.candidates[1].registered);
}

TEST_F(CandidatesTest, ADiskUnderAnotherNodeIsFoundByItsLink) {
  EXPECT_EQ(find({disk("vdz", "one")}).candidates.front().path, "/dev/vdz");
}

TEST_F(CandidatesTest, NothingThereIsAbsent) {
  EXPECT_EQ(find({disk("vdb", "two")}).error->reason(), Reason::kDeviceAbsent);
}

TEST_F(CandidatesTest, ADetachedHeaderMustBeThereToo) {
  row.header_device = disk("vdh", "head").identity();
  EXPECT_EQ(find({disk("vda", "one")}).error->reason(), Reason::kDeviceAbsent);
  const UnlockTarget target = find({disk("vda", "one"), disk("vdh", "head")});
  EXPECT_FALSE(target.error);
  EXPECT_EQ(target.header_path, "/dev/vdh");
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "dbus/paths.h"

#include <gmock/gmock.h>

#include "dbus/names.h"

namespace coffer::dbus {
namespace {

std::string below(const char* prefix, const std::string& name) {
  return std::string(prefix).append("/").append(name);
}

TEST(PathsTest, EveryObjectsPathLeadsBackToIt) {
  const auto volume = *VolumeId::random();
  const auto key = *CmkId::random();
  EXPECT_EQ(volume_of_path(volume_path(volume).c_str()), volume);
  EXPECT_EQ(key_of_path(key_path(key).c_str()), key);
  for (const auto id : {agent::JobId{0}, agent::JobId{1}, UINT32_MAX})
    EXPECT_EQ(job_of_path(job_path(id).c_str()), id);
  for (const std::string name : {"local", "hsm-1", "with space", "ü", ""})
    EXPECT_EQ(provider_of_path(provider_path(name).c_str()), name);
}

TEST(PathsTest, AnotherSpellingOfAnObjectIsNoObject) {
  const auto volume = *VolumeId::parse("aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee");
  EXPECT_TRUE(volume_of_path(volume_path(volume).c_str()));
  // The first letter escaped without need, and upper-case digits in an escape.
  EXPECT_FALSE(volume_of_path(
      below(kVolumePrefix, "_61aaaaaaa_2dbbbb_2d4ccc_2d8ddd_2deeeeeeeeeeee").c_str()));
  EXPECT_FALSE(
      volume_of_path(below(kVolumePrefix, "aaaaaaaa_2Dbbbb_2D4ccc_2D8ddd_2Deeeeeeeeeeee").c_str()));
}

TEST(PathsTest, WhatIsNoObjectsPathIsNone) {
  for (const std::string name : {"", "_", "_2e_2e", "x/y", "0", "4294967296"}) {
    EXPECT_FALSE(volume_of_path(below(kVolumePrefix, name).c_str())) << name;
    EXPECT_FALSE(key_of_path(below(kKeyPrefix, name).c_str())) << name;
  }
  for (const std::string name : {"", "01", "-1", "+1", "1x", "_31", "4294967296", "1/2"})
    EXPECT_FALSE(job_of_path(below(kJobPrefix, name).c_str())) << name;
  EXPECT_FALSE(job_of_path("/"));
  EXPECT_FALSE(job_of_path(kJobPrefix));
  EXPECT_FALSE(volume_of_path(kRootPath));
}

}  // namespace
}  // namespace coffer::dbus

// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/file_systems.h"

#include <unistd.h>

#include "tests/unit/agent/worker/worker_fixture.h"

namespace coffer::agent {
namespace {

// Files stand for mappings: the programs take both.
class FileSystemsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    for (const char* program : {"/usr/sbin/mkfs.ext4", "/usr/sbin/blkid"})
      if (::access(program, X_OK) != 0) GTEST_SKIP() << program << " is not installed";
    node_ = make_device(folder_.path() / "mapping", 16U << 20U);
  }

  tests::TempDir folder_;
  std::string node_;
};

TEST_F(FileSystemsTest, MakingTheSameAgainLeavesItAsItIs) {
  ASSERT_THAT(make_file_system_on(node_, "ext4", "data", soon()), Succeeds());
  const auto made = file_digest(node_);
  EXPECT_THAT(make_file_system_on(node_, "ext4", "data", soon()), Succeeds());
  EXPECT_EQ(file_digest(node_), made);
}

TEST_F(FileSystemsTest, WhatIsThereIsNotOverwritten) {
  write_at(node_, 0xff6, "SWAPSPACE2");
  write_at(node_, 0x400, std::string("\1\0\0\0\xff\1\0\0", 8));  // Version 1, 512 pages.
  const auto before = file_digest(node_);
  EXPECT_THAT(make_file_system_on(node_, "ext4", "data", soon()), FailsWith(Reason::kForeignData));
  EXPECT_EQ(file_digest(node_), before);
}

TEST_F(FileSystemsTest, TypesAndLabelsThatNoProgramTakesAreRefused) {
  EXPECT_THAT(make_file_system_on(node_, "fat", "", soon()), FailsWith(Reason::kUnsupported));
  EXPECT_THAT(make_file_system_on(node_, "ext4", "-L", soon()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(make_file_system_on(node_ + "x", "ext4", "", soon()), FailsWith(Reason::kIoError));
}

}  // namespace
}  // namespace coffer::agent

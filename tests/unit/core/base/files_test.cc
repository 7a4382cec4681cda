// SPDX-License-Identifier: Apache-2.0
#include "core/base/files.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer {
namespace {

using tests::FailsWith;
using tests::Succeeds;

TEST(Files, AFileThatSaysItIsEmptyIsReadToItsEnd) {
  const auto boot = read_file("/proc/sys/kernel/random/boot_id", 64);
  ASSERT_THAT(boot, Succeeds());
  EXPECT_EQ(boot->size(), 37U);
  EXPECT_THAT(read_file("/proc/sys/kernel/random/boot_id", 36), FailsWith(Reason::kLimitsExceeded));
}

TEST(Files, WhatIsWrittenDurablyIsReadBackAndReplaced) {
  const tests::TempDir dir;
  const auto path = (dir.path() / "state").string();
  ASSERT_THAT(write_file_durably(path, as_bytes("one")), Succeeds());
  ASSERT_THAT(write_file_durably(path, as_bytes("")), Succeeds());
  EXPECT_TRUE(read_file(path, 10)->empty());
  ASSERT_THAT(write_file_durably(path, as_bytes("three")), Succeeds());
  EXPECT_EQ(as_text(*read_file(path, 5)), "three");
  EXPECT_THAT(read_file(path, 4), FailsWith(Reason::kLimitsExceeded));
  EXPECT_THAT(read_file(path + "x", 4), FailsWith(Reason::kNoSuchFile));
  EXPECT_THAT(read_file(dir.path().string(), 4), FailsWith(Reason::kInvalidArgs));
}

}  // namespace
}  // namespace coffer

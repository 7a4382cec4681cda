// SPDX-License-Identifier: Apache-2.0
#include "core/base/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>

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

TEST(Files, ADurableWriteLeavesTheOldContentWhenItFails) {
  const tests::TempDir dir;
  const auto path = (dir.path() / "state").string();
  ASSERT_THAT(write_file_durably(path, as_bytes("old"), 0640), Succeeds());
  struct stat facts{};
  ASSERT_EQ(::stat(path.c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777U, 0640U);
  // A folder in the way of the temporary file.
  std::filesystem::create_directory(path + ".new");
  EXPECT_FALSE(write_file_durably(path, as_bytes("new")).has_value());
  EXPECT_EQ(as_text(*read_file(path, 10)), "old");
  EXPECT_THAT(write_file_durably((dir.path() / "none" / "state").string(), {}),
              FailsWith(Reason::kNoSuchFile));
}

TEST(Files, SecretsGoFromFileToLockedMemoryAndBack) {
  const tests::TempDir dir;
  const auto path = (dir.path() / "pin").string();
  const auto secret = SecretBytes::copy_of(as_bytes("1234"));
  ASSERT_THAT(write_secret_file_durably(path, *secret), Succeeds());
  EXPECT_EQ(as_text(read_secret_file(path, 4)->reveal()), "1234");
  EXPECT_THAT(read_secret_file(path, 3), FailsWith(Reason::kLimitsExceeded));
  EXPECT_THAT(read_secret_file(path + "x", 3), FailsWith(Reason::kNoSuchFile));
}

TEST(Files, APipeInTheFilesPlaceIsRefusedAtOnce) {
  const tests::TempDir dir;
  const auto path = (dir.path() / "pipe").string();
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(read_file(path, 10), FailsWith(Reason::kInvalidArgs));
}

TEST(Files, ReadingExactlyNeedsEveryByte) {
  const auto memfd = make_memfd("test", 4);
  ASSERT_THAT(write_exactly_at(memfd->get(), as_bytes("abcd"), 0), Succeeds());
  Bytes three(3);
  ASSERT_THAT(read_exactly_at(memfd->get(), three, 1), Succeeds());
  EXPECT_EQ(as_text(three), "bcd");
  EXPECT_THAT(read_exactly_at(memfd->get(), three, 2), FailsWith(Reason::kIoError));
}

TEST(Files, OnlyASealedAnonymousFileCannotChange) {
  const auto memfd = make_memfd("test", 4);
  EXPECT_THAT(require_sealed(memfd->get()), FailsWith(Reason::kMessageInvalid));
  ASSERT_THAT(seal_memfd(memfd->get()), Succeeds());
  EXPECT_THAT(require_sealed(memfd->get()), Succeeds());
  EXPECT_FALSE(write_exactly_at(memfd->get(), as_bytes("x"), 0).has_value());
  EXPECT_NE(::ftruncate(memfd->get(), 1), 0);
  const tests::TempDir dir;
  const UniqueFd file(::open((dir.path() / "f").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  EXPECT_THAT(require_sealed(file.get()), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(require_sealed(-1), FailsWith(Reason::kMessageInvalid));
}

}  // namespace
}  // namespace coffer

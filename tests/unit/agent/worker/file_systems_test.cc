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

// CRC-32C, as XFS has it in its superblock.
std::uint32_t crc32c(std::string_view bytes) {
  std::uint32_t crc = ~0U;
  for (const char byte : bytes) {
    crc ^= static_cast<unsigned char>(byte);
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1U) ^ ((crc & 1U) != 0 ? 0x82f63b78U : 0U);
  }
  return ~crc;
}

std::string superblock_of(const std::string& node) {
  std::string bytes(512, '\0');
  std::ifstream(node, std::ios::binary).read(bytes.data(), 512);
  return bytes;
}

TEST_F(FileSystemsTest, XfsThatWasCutOffIsMadeAgainAndAWholeOneIsNot) {
  if (::access("/usr/sbin/mkfs.xfs", X_OK) != 0) GTEST_SKIP() << "mkfs.xfs is not installed";
  const auto node = make_device(folder_.path() / "large", 320U << 20U);  // It takes no less.
  ASSERT_THAT(make_file_system_on(node, "xfs", "data", soon()), Succeeds());
  const auto whole = superblock_of(node);
  EXPECT_THAT(make_file_system_on(node, "xfs", "data", soon()), Succeeds());
  EXPECT_EQ(superblock_of(node), whole) << "another one would have another UUID";

  constexpr std::size_t kInProgressBytes = 126;
  constexpr std::size_t kCrcBytes = 224;
  auto half = whole;
  half[kInProgressBytes] = '\1';
  half.replace(kCrcBytes, 4, 4, '\0');
  const auto crc = crc32c(half);
  for (std::size_t i = 0; i < 4; ++i)
    half[kCrcBytes + i] = static_cast<char>((crc >> (8 * i)) & 0xffU);
  write_at(node, 0, half);
  EXPECT_THAT(make_file_system_on(node, "xfs", "data", soon()), Succeeds());
  EXPECT_EQ(superblock_of(node)[kInProgressBytes], '\0');
  EXPECT_NE(superblock_of(node), whole);
}

TEST_F(FileSystemsTest, TypesAndLabelsThatNoProgramTakesAreRefused) {
  EXPECT_THAT(make_file_system_on(node_, "fat", "", soon()), FailsWith(Reason::kUnsupported));
  EXPECT_THAT(make_file_system_on(node_, "ext4", "-L", soon()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(make_file_system_on(node_ + "x", "ext4", "", soon()), FailsWith(Reason::kIoError));
}

}  // namespace
}  // namespace coffer::agent

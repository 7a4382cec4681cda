// SPDX-License-Identifier: Apache-2.0
#include "core/base/sealed_secret.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>

#include "core/base/files.h"
#include "tests/support/result_matchers.h"

namespace coffer {
namespace {

using tests::FailsWith;
using tests::Succeeds;

TEST(SealedSecretTest, ASecretComesOutAsItWentIn) {
  const auto secret = SecretBytes::random(4096);
  const auto fd = seal_secret(*secret);
  ASSERT_THAT(fd, Succeeds());
  EXPECT_EQ(*sealed_secret_bytes(fd->get(), 4096), 4096U);
  const auto read = read_sealed_secret(fd->get(), 4096);
  ASSERT_THAT(read, Succeeds());
  EXPECT_TRUE(std::ranges::equal(read->reveal(), secret->reveal()));
  EXPECT_THAT(sealed_secret_bytes(fd->get(), 4095), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(read_sealed_secret(fd->get(), 4095), FailsWith(Reason::kInvalidArgs));
}

TEST(SealedSecretTest, NobodyCanChangeWhatIsSealed) {
  const auto fd = seal_secret(*SecretBytes::random(16));
  ASSERT_THAT(fd, Succeeds());
  EXPECT_EQ(::pwrite(fd->get(), "x", 1, 0), -1);
  EXPECT_NE(::ftruncate(fd->get(), 1), 0);
  EXPECT_NE(::ftruncate(fd->get(), 32), 0);
}

TEST(SealedSecretTest, WhatIsNotSealedOrIsEmptyIsRefused) {
  const auto open = make_memfd("open", 16);
  const auto empty = make_memfd("empty", 0);
  ASSERT_THAT(seal_memfd(empty->get()), Succeeds());
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd read_end(ends[0]);
  const UniqueFd write_end(ends[1]);
  const UniqueFd file(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  for (const int fd : {open->get(), empty->get(), read_end.get(), file.get()}) {
    EXPECT_THAT(sealed_secret_bytes(fd, 4096), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(read_sealed_secret(fd, 4096), FailsWith(Reason::kInvalidArgs));
  }
}

}  // namespace
}  // namespace coffer

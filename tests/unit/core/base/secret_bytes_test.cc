// SPDX-License-Identifier: Apache-2.0
#include "core/base/secret_bytes.h"

#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <thread>

#include "core/base/bytes.h"
#include "tests/support/result_matchers.h"
#include "tests/support/sanitizers.h"

namespace coffer::tests {
namespace {

bool all_zero(std::span<const std::byte> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](std::byte b) { return b == std::byte{0}; });
}

// The flags of the mapping that holds `address`, from /proc/self/smaps: "rd wr … lo dd wf".
std::string mapping_flags(const void* address) {
  std::ifstream maps("/proc/self/smaps");
  const auto wanted = reinterpret_cast<std::uintptr_t>(address);
  std::string line;
  bool inside = false;
  while (std::getline(maps, line)) {
    std::uintptr_t from = 0;
    std::uintptr_t to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2)
      inside = from <= wanted && wanted < to;
    if (inside && line.starts_with("VmFlags:")) return line + " ";
  }
  return {};
}

class SecretBytesTest : public testing::TestWithParam<std::size_t> {};

TEST_P(SecretBytesTest, LivesInLockedUndumpedWipedOnForkPages) {
  auto secret = SecretBytes::zeroed(GetParam());
  ASSERT_THAT(secret, Succeeds());
  ASSERT_EQ(secret->size(), GetParam());
  EXPECT_TRUE(all_zero(secret->reveal()));
  const std::string flags = mapping_flags(secret->reveal().data());
  if (flags.empty()) GTEST_SKIP() << "no VmFlags in /proc/self/smaps";
  EXPECT_THAT(flags, testing::HasSubstr(" dd "));
  EXPECT_THAT(flags, testing::HasSubstr(" wf "));
  if (kMemoryLocks) {
    EXPECT_THAT(flags, testing::HasSubstr(" lo "));
  }
}

TEST_P(SecretBytesTest, FreedMemoryComesBackWiped) {
  for (int i = 0; i < 10; ++i) {
    auto secret = SecretBytes::zeroed(GetParam());
    ASSERT_THAT(secret, Succeeds());
    EXPECT_TRUE(all_zero(secret->reveal()));
    std::ranges::fill(secret->reveal_mutable(), std::byte{0x5A});
  }
}

TEST_P(SecretBytesTest, ForkedChildSeesZeros) {
  auto secret = SecretBytes::copy_of(Bytes(GetParam(), std::byte{0x5A}));
  ASSERT_THAT(secret, Succeeds());
  const pid_t child = ::fork();
  if (child == 0) ::_exit(all_zero(secret->reveal()) ? 0 : 1);
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST_P(SecretBytesTest, ShrinkingWipesWhatItForgets) {
  auto secret = SecretBytes::copy_of(Bytes(GetParam(), std::byte{0x5A}));
  const auto whole = secret->reveal();
  secret->shrink(1);
  EXPECT_EQ(secret->size(), 1U);
  EXPECT_EQ(whole[0], std::byte{0x5A});
  EXPECT_TRUE(all_zero(whole.subspan(1)));
  secret->shrink(5);
  EXPECT_EQ(secret->size(), 1U);
}

INSTANTIATE_TEST_SUITE_P(Sizes, SecretBytesTest,
                         testing::Values(1U, 64U, 257U, 16U * 1024, 16U * 1024 + 1, 64U * 1024));

TEST(SecretBytes, MovingLeavesNothingBehindAndFreesTheTarget) {
  auto one = SecretBytes::copy_of(as_bytes("one")).value();
  auto two = SecretBytes::copy_of(as_bytes("two")).value();
  const auto before = two.reveal();
  two = std::move(one);
  EXPECT_TRUE(one.empty());  // NOLINT(bugprone-use-after-move): what the header promises.
  EXPECT_TRUE(all_zero(before));
  EXPECT_EQ(as_text(two.reveal()), "one");
}

TEST(SecretBytes, NoBytesNeedNoMemory) {
  EXPECT_TRUE(SecretBytes().empty());
  EXPECT_TRUE(SecretBytes::zeroed(0)->empty());
  EXPECT_TRUE(SecretBytes::copy_of({})->reveal().empty());
}

TEST(SecretBytes, RandomOnesDiffer) {
  const auto one = SecretBytes::random(64);
  const auto other = SecretBytes::random(64);
  ASSERT_THAT(one, Succeeds());
  EXPECT_FALSE(equal_constant_time(one->reveal(), other->reveal()));
  EXPECT_FALSE(all_zero(one->reveal()));
}

TEST(SecretBytes, ArenaServesManyThreadsWithoutSharingMemory) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (unsigned i = 1; i <= 4; ++i) {
    threads.emplace_back([i] {
      for (int n = 0; n < 200; ++n) {
        auto secret = SecretBytes::zeroed(32 + static_cast<std::size_t>(n));
        ASSERT_THAT(secret, Succeeds());
        std::ranges::fill(secret->reveal_mutable(), static_cast<std::byte>(i));
        for (const std::byte b : secret->reveal()) ASSERT_EQ(b, static_cast<std::byte>(i));
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(SecretBytes, WithoutAllowanceThereIsNone) {
  if (!kMemoryLocks) GTEST_SKIP() << "sanitizers make mlock() do nothing";
  const pid_t child = ::fork();
  if (child == 0) {
    const rlimit none{0, 0};
    if (::setrlimit(RLIMIT_MEMLOCK, &none) != 0) ::_exit(2);
    if (::geteuid() == 0 && ::setuid(65534) != 0) ::_exit(2);
    const auto secret = SecretBytes::zeroed(1U << 20U);
    ::_exit(!secret && secret.error().reason() == Reason::kNoMemory ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

TEST(EqualConstantTime, ComparesLengthsAndEveryByte) {
  EXPECT_TRUE(equal_constant_time(as_bytes("same"), as_bytes("same")));
  EXPECT_TRUE(equal_constant_time({}, {}));
  EXPECT_FALSE(equal_constant_time(as_bytes("same"), as_bytes("sam")));
  EXPECT_FALSE(equal_constant_time(as_bytes("same"), as_bytes("samf")));
  EXPECT_FALSE(equal_constant_time(as_bytes("same"), as_bytes("tame")));
}

TEST(ForbidCoreDumps, MakesTheProcessUndumpable) {
  const pid_t child = ::fork();
  if (child == 0) {
    rlimit core{1, 1};
    const bool done = forbid_core_dumps().has_value() && ::prctl(PR_GET_DUMPABLE) == 0 &&
                      ::getrlimit(RLIMIT_CORE, &core) == 0 && core.rlim_cur == 0;
    ::_exit(done ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
// As whom the children of `coffer init` run.
#include "hsm/setup_launcher.h"

#include <grp.h>
#include <gtest/gtest.h>
#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <vector>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

constexpr const char* kUser = "daemon";  // On every Debian.

// A TPM's device belongs to a group, in which the vault's user is.
TEST(SetupLauncherTest, ChildHasIdsAndGroupsOfItsUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const passwd* user = ::getpwnam(kUser);
  if (user == nullptr) GTEST_SKIP() << "there is no user " << kUser;
  std::vector<gid_t> wanted(256);
  int count = 256;
  ASSERT_GT(::getgrouplist(kUser, user->pw_gid, wanted.data(), &count), 0);
  wanted.resize(static_cast<std::size_t>(count));
  std::ranges::sort(wanted);

  const auto done = run_as({kUser}, [&]() -> Result<void> {
    std::vector<gid_t> groups(256);
    const int found = ::getgroups(256, groups.data());
    if (found < 0) return fail_errno(errno, "getgroups");
    groups.resize(static_cast<std::size_t>(found));
    std::ranges::sort(groups);
    if (groups != wanted) return fail(Reason::kInternal, "other groups");
    if (::getuid() != user->pw_uid || ::geteuid() != user->pw_uid || ::getgid() != user->pw_gid)
      return fail(Reason::kInternal, "other ids");
    return {};
  });
  EXPECT_THAT(done, Succeeds());
}

TEST(SetupLauncherTest, UnknownUserIsNamed) {
  const auto done = run_as({"no-such-user-here"}, []() -> Result<void> { return {}; });
  EXPECT_THAT(done, FailsWith(Reason::kNoSuchFile));
}

}  // namespace
}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
// `coffer audit verify --folder`: a journal that no agent serves.
#include <gmock/gmock.h>

#include "core/audit/journal.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/cli/cli_testing.h"

namespace coffer::tests {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

TEST(AuditVerifyTest, AFolderIsVerifiedWithoutAnAgent) {
  const TempFolder temp;
  const auto folder = temp.path() / "audit";
  std::filesystem::create_directory(folder);
  {
    auto journal = audit::Journal::open(folder.string(), {.node = HostId(Uuid())});
    ASSERT_THAT(journal, Succeeds());
    audit::Event event;
    event.operation = "volume.lock";
    ASSERT_THAT((*journal)->append_one(event), Succeeds());
  }
  const auto good = coffer({"audit", "verify", "--folder", folder.string()});
  EXPECT_EQ(good.status, 0) << good.err;
  EXPECT_THAT(good.out, StartsWith("unbroken: 3 records hold, the last one closes"));
  EXPECT_EQ(coffer({"audit", "verify", "--folder", folder.string(), "--to", "9"}).status, 65);

  const auto segment = std::filesystem::directory_iterator(folder)->path();
  {
    std::fstream file(segment, std::ios::binary | std::ios::in | std::ios::out);
    file.seekp(-8, std::ios::end);
    file.put('!');
  }
  const auto bad = coffer({"audit", "verify", "--folder", folder.string(), "--json"});
  EXPECT_EQ(bad.status, 65);
  EXPECT_THAT(bad.out, HasSubstr(R"("ok":false)"));
  EXPECT_THAT(coffer({"audit", "verify", "--folder", folder.string()}).out,
              StartsWith("BROKEN at"));
  EXPECT_EQ(coffer({"audit", "verify", "--folder", (temp.path() / "none").string()}).status, 66);
}

}  // namespace
}  // namespace coffer::tests

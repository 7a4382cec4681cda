// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "cli/selftest/suites.h"
#include "cli/selftest/vector_file.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/cli/cli_testing.h"

namespace coffer::cli {
namespace {

using tests::coffer;
using tests::FailsWith;
using tests::TempFolder;

TEST(Selftest, TheKnownAnswersAreGiven) {
  const auto run = coffer({"selftest"});
  EXPECT_EQ(run.status, kExitOk) << run.out;
}

TEST(Selftest, EveryVectorFileOfTheTreePassesOrSaysWhyNot) {
  const auto run = coffer({"selftest", "--vectors", tests::vectors_dir().string(), "--json"});
  EXPECT_EQ(run.status, kExitOk) << run.out;
  std::size_t files = 0;
  const auto root = boost::json::parse(run.out);
  for (const auto& entry : root.at("files").as_array()) {
    const auto& file = entry.as_object();
    EXPECT_EQ(file.at("failed").to_number<std::size_t>(), 0U) << entry;
    if (file.at("passed").to_number<std::size_t>() != 0) ++files;
    const bool skips = file.at("skipped").to_number<std::size_t>() != 0;
    EXPECT_EQ(skips, !file.at("skip_reasons").as_object().empty()) << entry;
  }
  EXPECT_GE(files, 20U);
}

TEST(Selftest, ASuiteRunsOrSaysWhyNot) {
  for (const auto& suite : vector_suites()) {
    EXPECT_NE(suite.run == nullptr, suite.skip_reason.empty()) << suite.file;
  }
}

TEST(Selftest, AVectorThatDoesNotHoldFails) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "json");
  folder.file("json/parsing.json",
              R"({"cases":[{"case":"wrong","expect":"accept","bytes_b64":"Ww=="}]})");
  const auto run = coffer({"selftest", "--vectors", folder.path().string()});
  EXPECT_EQ(run.status, kExitNo);
  EXPECT_THAT(run.out, testing::HasSubstr("FAILED wrong"));
}

TEST(Selftest, AVectorFileThatIsNoneFails) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "luks2");
  folder.file("luks2/volumes.json", "nothing");
  EXPECT_EQ(coffer({"selftest", "--vectors", folder.path().string()}).status, kExitNo);
  EXPECT_EQ(coffer({"selftest", "--vectors", (folder.path() / "absent").string()}).status,
            kExitUsage);
}

TEST(Selftest, AVectorFileThatNothingReadsIsSkippedWithTheReason) {
  const TempFolder folder;
  std::filesystem::create_directory(folder.path() / "json");
  folder.file("json/parsing.json",
              R"({"cases":[{"case":"good","expect":"accept","bytes_b64":"W10="}]})");
  folder.file("json/other.json", R"({"cases":[{},{},{}]})");
  folder.file("notes.txt", "no vectors");
  const auto run = coffer({"selftest", "--vectors", folder.path().string()});
  EXPECT_EQ(run.status, kExitOk) << run.out;
  EXPECT_THAT(run.out, testing::HasSubstr("json/other.json  (3: no suite reads this file)"));
  EXPECT_THAT(run.out, testing::Not(testing::HasSubstr("notes.txt")));
}

TEST(Selftest, AFolderInWhichNoCaseRunsFails) {
  const TempFolder folder;
  const std::vector<std::string> command{"selftest", "--vectors", folder.path().string(), "--json"};
  EXPECT_EQ(coffer(command).status, kExitNo);
  folder.file("other.json", R"({"cases":[{}]})");
  const auto run = coffer(command);
  EXPECT_EQ(run.status, kExitNo) << run.out;
  EXPECT_FALSE(boost::json::parse(run.out).at("passed").as_bool());
}

TEST(VectorFile, WhatIsNoArchiveIsRefused) {
  const TempFolder folder;
  const std::string file = folder.file("no.xz", "no xz file");
  EXPECT_THAT(read_xz_file(file, 1024), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(read_tar(as_bytes(std::string(512, 'x'))), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(read_xz_file(tests::vectors_dir() / "luks2" / "headers.tar.xz", 1 << 20),
              FailsWith(Reason::kLimitsExceeded));
}

}  // namespace
}  // namespace coffer::cli

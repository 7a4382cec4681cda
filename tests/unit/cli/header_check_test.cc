// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/json.hpp>

#include "core/luks2/header.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/cli/cli_testing.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::cli {
namespace {

using tests::coffer;
using tests::header_case;
using tests::header_cases;
using tests::Succeeds;
using tests::TempFolder;

boost::json::object check(const TempFolder& folder, const HeaderCase& one, int& status,
                          const std::vector<std::string>& more = {}) {
  std::vector<std::string> arguments = {"header", "check",
                                        folder.file(one.file, one.start, one.device_bytes)};
  arguments.insert(arguments.end(), more.begin(), more.end());
  arguments.emplace_back("--json");
  const auto run = coffer(arguments);
  status = run.status;
  EXPECT_EQ(run.err, "");
  return boost::json::parse(run.out).as_object();
}

std::string text(const boost::json::object& object, std::string_view name) {
  const auto& value = object.at(name);
  return value.is_string() ? std::string(value.as_string().c_str()) : "null";
}

TEST(HeaderCheck, TellsTheVerdictOfEveryHeaderOfTheVectors) {
  const TempFolder folder;
  for (const auto& one : header_cases()) {
    SCOPED_TRACE(one.file + " " + one.name);
    int status = -1;
    const auto told = check(folder, one, status);
    const bool accepted = text(told, "verdict") == "accept";
    const bool allowed = text(told, "activation") == "allowed";
    if (accepted) {
      EXPECT_TRUE(one.reference_accepts);
      EXPECT_EQ(told.at("epoch").to_number<std::uint64_t>(), one.epoch);
      EXPECT_EQ(text(told, "json_sha256"), one.json_sha256);
    } else {
      EXPECT_TRUE(!one.reference_accepts || one.group.starts_with("json-"));
      EXPECT_TRUE(told.at("epoch").is_null() && told.at("json_sha256").is_null());
    }
    EXPECT_EQ(status, accepted && allowed ? kExitOk : kExitNo);
    EXPECT_EQ(told.at("field").is_null(), allowed);
    EXPECT_EQ(told.at("reason").is_null(), allowed);
    EXPECT_FALSE(one.profile == "must-refuse" && allowed);
    std::filesystem::remove(folder.path() / one.file);
  }
}

TEST(HeaderCheck, TheBaselineIsAllowedAlsoUnderItsOwnProfile) {
  const TempFolder folder;
  const auto& one = header_case("unchanged");
  const auto printed =
      coffer({"header", "profile", folder.file(one.file, one.start, one.device_bytes)});
  ASSERT_EQ(printed.status, kExitOk) << printed.err;
  const std::string profile = folder.file("profile.json", printed.out);
  int status = -1;
  EXPECT_EQ(text(check(folder, one, status), "activation"), "allowed");
  EXPECT_EQ(text(check(folder, one, status, {"--profile", profile}), "activation"), "allowed");
  EXPECT_EQ(status, kExitOk);
  const auto moved =
      check(folder, header_case("data offset moved forward"), status, {"--profile", profile});
  EXPECT_EQ(text(moved, "reason"), "ProfileMismatch");
  EXPECT_EQ(text(moved, "field"), "segments.0.offset");
  EXPECT_EQ(status, kExitNo);
}

TEST(HeaderCheck, AJobUnderWayIsAcceptedAndNotActivated) {
  const TempFolder folder;
  const auto cases = load_inprogress_cases(tests::vectors_dir() / "luks2");
  ASSERT_THAT(cases, Succeeds());
  for (const auto& one : *cases) {
    const auto run =
        coffer({"header", "check", folder.file(one.name, one.header, one.header.size()), "--json"});
    const auto told = boost::json::parse(run.out).as_object();
    EXPECT_EQ(text(told, "verdict"), "accept");
    EXPECT_EQ(text(told, "activation"), "refused");
    EXPECT_EQ(text(told, "reason"), "HeaderUnusual");
    EXPECT_EQ(run.status, kExitNo);
  }
}

TEST(HeaderCheck, WhatCannotBeReadIsTwo) {
  const TempFolder folder;
  EXPECT_EQ(coffer({"header", "check", (folder.path() / "absent").string()}).status, kExitUsage);
  EXPECT_EQ(coffer({"header", "check", folder.path().string()}).status, kExitUsage);
  const std::string file = folder.file("empty", "");
  EXPECT_EQ(coffer({"header", "check", file, "--profile", file}).status, kExitUsage);
  EXPECT_EQ(coffer({"header", "check", file}).status, kExitNo);
}

TEST(CommandLine, WrongArgumentsAreTwoAndHelpIsNot) {
  EXPECT_EQ(coffer({}).status, kExitUsage);
  EXPECT_EQ(coffer({"header"}).status, kExitUsage);
  EXPECT_EQ(coffer({"header", "check"}).status, kExitUsage);
  EXPECT_EQ(coffer({"no-such-command"}).status, kExitUsage);
  EXPECT_EQ(coffer({"header", "check", "a", "--what"}).status, kExitUsage);
  const auto help = coffer({"--help"});
  EXPECT_EQ(help.status, kExitOk);
  EXPECT_THAT(help.out, testing::HasSubstr("header"));
  EXPECT_EQ(coffer({"--version"}).status, kExitOk);
}

}  // namespace
}  // namespace coffer::cli

// SPDX-License-Identifier: Apache-2.0
#include "agent/config.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using agent::Config;
using agent::load_config;
using agent::parse_config;
using ::testing::HasSubstr;

TEST(ConfigTest, NothingSaidIsTheDefaults) {
  EXPECT_EQ(parse_config("", "c").value(), Config());
  EXPECT_EQ(parse_config("# only a comment\n[boot]\n", "c").value(), Config());
}

TEST(ConfigTest, EveryKeyIsRead) {
  const auto config = parse_config(R"(
[paths]
state = "/srv/state"
run = "/run/x"
host_id = "/etc/id"
[vault]
token = "hsm-1"
standby = "hsm-2"
[boot]
deadline_seconds = 10
device_wait_seconds = 5
retry_wait_seconds = 6
[unlock]
timeout_seconds = 11
settle_seconds = 12
lock_timeout_seconds = 13
batch_max = 14
[jobs]
jobs_max = 15
jobs_per_caller_max = 16
[rewrap]
per_minute = 17
[retry]
min_seconds = 1
max_seconds = 2
)",
                                   "c");
  ASSERT_THAT(config, Succeeds());
  EXPECT_EQ(config->state_folder, "/srv/state");
  EXPECT_EQ(config->run_folder, "/run/x");
  EXPECT_EQ(config->host_id_file, "/etc/id");
  EXPECT_EQ(config->vault_token, "hsm-1");
  EXPECT_EQ(config->vault_standby, "hsm-2");
  EXPECT_EQ(config->boot_deadline.count(), 10);
  EXPECT_EQ(config->boot_device_wait.count(), 5);
  EXPECT_EQ(config->boot_retry_wait.count(), 6);
  EXPECT_EQ(config->unlock_timeout.count(), 11);
  EXPECT_EQ(config->settle_timeout.count(), 12);
  EXPECT_EQ(config->lock_timeout.count(), 13);
  EXPECT_EQ(config->batch_max, 14U);
  EXPECT_EQ(config->jobs_max, 15U);
  EXPECT_EQ(config->jobs_per_caller_max, 16U);
  EXPECT_EQ(config->rewraps_per_minute, 17U);
  EXPECT_EQ(config->retry_min.count(), 1);
  EXPECT_EQ(config->retry_max.count(), 2);
}

struct Bad {
  const char* text;
  const char* names;
};
class BadConfigTest : public ::testing::TestWithParam<Bad> {};

TEST_P(BadConfigTest, IsRefusedNamingFileAndKey) {
  const auto config = parse_config(GetParam().text, "cofferd.toml");
  ASSERT_THAT(config, FailsWith(Reason::kConfigInvalid));
  EXPECT_THAT(config.error().message(), HasSubstr("cofferd.toml"));
  EXPECT_THAT(config.error().message(), HasSubstr(GetParam().names));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadConfigTest,
    ::testing::Values(Bad{"[boot]\ndeadline = 3\n", "boot.deadline"}, Bad{"[bot]\n", "bot"},
                      Bad{"boot = 3\n", "boot"},
                      Bad{"[boot]\ndeadline_seconds = \"3\"\n", "boot.deadline_seconds"},
                      Bad{"[boot]\ndeadline_seconds = 0\n", "boot.deadline_seconds"},
                      Bad{"[boot]\ndeadline_seconds = 151\n", "boot.deadline_seconds"},
                      Bad{"[boot]\ndeadline_seconds = 1.5\n", "boot.deadline_seconds"},
                      Bad{"[paths]\nstate = \"relative\"\n", "paths.state"},
                      Bad{"[paths]\nstate = 7\n", "paths.state"},
                      Bad{"[vault]\ntoken = \"../x\"\n", "vault.token"},
                      Bad{"[vault]\nstandby = \"../x\"\n", "vault.standby"},
                      Bad{"[vault]\nstandby = \"local\"\n", "vault.standby"},
                      Bad{"[vault]\ntoken = \"a234567890123456789012345\"\n", "1 to 24"},
                      Bad{"[retry]\nmin_seconds = 20\n", "retry.min_seconds"},
                      Bad{"[boot\n", "line 1"}, Bad{"[boot]\n[boot]\n", "line 2"},
                      // What the library would stop at, or may.
                      Bad{"\n[boot]\n\xc3\xa9 = 1\n", "line 3"}, Bad{"[]\n", "line 1"},
                      Bad{"[boot]\ndeadline_seconds = [1]\n", "line 2"},
                      Bad{"[paths]\nstate = \"/a\\n\"\n", "line 2"},
                      Bad{"[paths]\nstate = '/a'\n", "line 2"},
                      Bad{"[paths]\nstate = \"/a\" \"/b\"\n", "line 2"}));

TEST(ConfigTest, CommentsMayStandAnywhereAndHoldAnything) {
  const auto config = parse_config(
      "# \xff \"\r\n  [boot] # one\ndeadline_seconds=7# two \"x\"\n"
      "[paths]\n\tstate = \"/a#b\"\t# \"three\"\n",
      "c");
  ASSERT_THAT(config, Succeeds());
  EXPECT_EQ(config->boot_deadline.count(), 7);
  EXPECT_EQ(config->state_folder, "/a#b");
}

TEST(ConfigTest, AFileThatIsNotThereIsTheDefaultsAndALargeOneRefused) {
  EXPECT_EQ(load_config("/nonexistent/cofferd.toml").value(), Config());
  const auto path = std::filesystem::temp_directory_path() / "coffer-config-large.toml";
  std::ofstream(path) << std::string(agent::kConfigBytesMax + 1, '#');
  EXPECT_THAT(load_config(path.string()), FailsWith(Reason::kConfigInvalid));
  std::filesystem::remove(path);
}

}  // namespace
}  // namespace coffer::tests

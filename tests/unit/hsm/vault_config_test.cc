// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_config.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

const std::string kGood =
    "module = \"/usr/lib/m.so\"\ntoken = \"pkcs11:token=coffer%20local\"\nstate = \"/var/s\"\n";

TEST(VaultConfigTest, OptionalKeysHaveDefaults) {
  const auto config = VaultConfig::parse(kGood);
  ASSERT_THAT(config, Succeeds());
  EXPECT_EQ(config->module_path, "/usr/lib/m.so");
  EXPECT_EQ(config->uri.token, "coffer local");
  EXPECT_EQ(config->sessions, 8U);
  EXPECT_EQ(config->call_deadline.count(), 5000);
  EXPECT_EQ(config->pin_file, "");
}

TEST(VaultConfigTest, WhatIsWrittenIsReadBack) {
  auto config = *VaultConfig::parse(kGood + "sessions = 3\npin_file = \"/p\"\n" +
                                    "softhsm_conf = \"/c\"\ncall_deadline_ms = 100\n");
  const auto again = VaultConfig::parse(config.to_text());
  ASSERT_THAT(again, Succeeds());
  EXPECT_EQ(again->to_text(), config.to_text());
  EXPECT_EQ(again->sessions, 3U);
  EXPECT_EQ(again->softhsm_conf, "/c");
}

TEST(VaultConfigTest, CommentsMayStandBehindValues) {
  const auto config =
      VaultConfig::parse(kGood + "sessions = 3 # \xff\r\npin_file = \"/a#b\" # c\n");
  ASSERT_THAT(config, Succeeds());
  EXPECT_EQ(config->sessions, 3U);
  EXPECT_EQ(config->pin_file, "/a#b");
}

TEST(VaultConfigTest, EveryMistakeIsRefusedNamingTheKey) {
  const std::pair<std::string, std::string> cases[] = {
      {"", "module"},
      {"module = \"m.so\"\n", "module"},
      {"module = 3\n", "module"},
      {kGood + "sessions = 0\n", "sessions"},
      {kGood + "sessions = 65\n", "sessions"},
      {kGood + "sessions = \"8\"\n", "sessions"},
      {kGood + "call_deadline_ms = 99\n", "call_deadline_ms"},
      {kGood + "pin = \"1234\"\n", "pin"},
      {kGood + "[pkcs11]\nmodule = \"/x\"\n", "pkcs11"},
      {kGood + "sessions = 8.5\n", "sessions"},
      {kGood + "sessions = -8\n", "sessions"},
      {kGood + "sessions = 1111111111111111111\n", "line 4"},
      {kGood + "pin_file = \"/\\u0061\"\n", "line 4"},
      {kGood + "pin_file = \"/" + std::string(1024, 'p') + "\"\n", "line 4"},
      {kGood + "[\\\\\n", "line"},
      {kGood + "a.b = 1\n", "line"},
      {kGood + "pin_file = \"\"\n", "pin_file"},
      {kGood + "module = \"/twice\"\n", "not TOML"},
      {"module = \"/m\"\nstate = \"/s\"\ntoken = \"pkcs11:object=x\"\n", "token"},
      {"module = \"/m\"\nstate = \"/s\"\ntoken = \"pkcs11:token=a?pin-value=1\"\n", "URI"},
      {"module = \"/m\"\nstate = \"/a\\\"b\"\ntoken = \"pkcs11:token=a\"\n", "line"},
      {kGood + "w\xCA\x8D = 1\n", "line"},  // What toml++ must not see.
      {kGood + std::string("\0", 1), "line"},
      {std::string(VaultConfig::kTextBytesMax + 1, '#'), "16 KiB"},
  };
  for (const auto& [text, named] : cases) {
    const auto config = VaultConfig::parse(text);
    ASSERT_THAT(config, FailsWith(Reason::kConfigInvalid)) << text;
    EXPECT_NE(config.error().message().find(named), std::string::npos) << config.error().message();
  }
  EXPECT_THAT(VaultConfig::read("/nonexistent/vault.toml"), FailsWith(Reason::kConfigInvalid));
}

}  // namespace
}  // namespace coffer::hsm

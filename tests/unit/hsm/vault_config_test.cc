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

const std::string kSdf = "sdf_library = \"/usr/lib/libsdf.so\"\nstate = \"/var/s\"\n";

TEST(VaultConfigTest, AnSdfDeviceIsNamedByItsLibraryAndKek) {
  const auto config = VaultConfig::parse(kSdf + "sdf_kek = 7\n");
  ASSERT_THAT(config, Succeeds());
  EXPECT_EQ(config->sdf_library, "/usr/lib/libsdf.so");
  EXPECT_EQ(config->sdf_kek, 7U);
  EXPECT_EQ(config->sdf_serial, "");
  EXPECT_FALSE(config->sdf_hardware) << "nothing is hardware unless somebody says so";
  EXPECT_EQ(config->module_path, "");
  EXPECT_EQ(config->sessions, 8U);

  const auto whole = VaultConfig::parse(
      kSdf + "sdf_kek = 1\nsdf_serial = \"2026112200100001\"\nsdf_kind = \"hardware\"\n");
  ASSERT_THAT(whole, Succeeds());
  EXPECT_EQ(whole->sdf_serial, "2026112200100001");
  EXPECT_TRUE(whole->sdf_hardware);
  const auto again = VaultConfig::parse(whole->to_text());
  ASSERT_THAT(again, Succeeds());
  EXPECT_EQ(again->to_text(), whole->to_text());
  EXPECT_EQ(again->sdf_kek, 1U);
  EXPECT_TRUE(again->sdf_hardware);
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
      {kGood + "sdf_kek = 1\n", "sdf_kek"},
      {kGood + "sdf_serial = \"1\"\n", "sdf_serial"},
      {kGood + "sdf_kind = \"software\"\n", "sdf_kind"},
      {kGood + "sdf_library = \"/x\"\nsdf_kek = 1\n", "module"},
      {kSdf, "sdf_kek"},
      {kSdf + "sdf_kek = 0\n", "sdf_kek"},
      {kSdf + "sdf_kek = 65536\n", "sdf_kek"},
      {kSdf + "sdf_kek = \"1\"\n", "sdf_kek"},
      {kSdf + "sdf_kek = 1\ntoken = \"pkcs11:token=a\"\n", "token"},
      {kSdf + "sdf_kek = 1\npin_file = \"/p\"\n", "pin_file"},
      {kSdf + "sdf_kek = 1\nsofthsm_conf = \"/p\"\n", "softhsm_conf"},
      {kSdf + "sdf_kek = 1\nsdf_kind = \"cloud\"\n", "sdf_kind"},
      {kSdf + "sdf_kek = 1\nsdf_serial = \"20261122001000011\"\n", "sdf_serial"},
      {kSdf + "sdf_kek = 1\nsdf_pin = \"1\"\n", "sdf_pin"},
      {"sdf_library = \"libsdf.so\"\nsdf_kek = 1\nstate = \"/s\"\n", "sdf_library"},
      {"sdf_library = \"/l.so\"\nsdf_kek = 1\n", "state"},
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

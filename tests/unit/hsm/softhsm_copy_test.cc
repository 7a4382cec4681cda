// SPDX-License-Identifier: Apache-2.0
#include "hsm/softhsm_copy.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/base/files.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::hsm {
namespace {

namespace fs = std::filesystem;
using tests::FailsWith;
using tests::Succeeds;

class SoftHsmCopyTest : public testing::Test {
 protected:
  SoftHsmCopyTest() {
    fs::create_directory(folder());
    write_conf("# ours\ndirectories.tokendir = " + (dir_.path() / "tokens").string() +
               "\nlog.level = ERROR\n");
    fs::create_directories(dir_.path() / "tokens" / "one");
    write("tokens/one/token.object", "a token");
  }
  fs::path folder() const { return dir_.path() / "copy"; }
  void write(const std::string& name, const std::string& text) const {
    std::ofstream(dir_.path() / name) << text;
  }
  void write_conf(const std::string& text) const { write("softhsm2.conf", text); }
  std::string read(const fs::path& path) const {
    const auto bytes = read_file(path.string(), 1 << 20);
    return bytes ? std::string(as_text(*bytes)) : "";
  }

  tests::TempDir dir_;
  const SoftHsmCopy copy_{(dir_.path() / "softhsm2.conf").string(), folder().string()};
};

TEST_F(SoftHsmCopyTest, TokensAndConfigurationAreCopied) {
  ASSERT_THAT(copy_.refresh(), Succeeds());
  EXPECT_EQ(read(folder() / "tokens" / "one" / "token.object"), "a token");
  EXPECT_EQ(read(copy_.conf()), "# ours\nlog.level = ERROR\ndirectories.tokendir = " +
                                    (folder() / "tokens").string() + "\n");
  for (const char* name : {"tokens", "tokens/one"})
    EXPECT_EQ(fs::status(folder() / name).permissions(), fs::perms::owner_all);
  EXPECT_EQ(fs::status(folder() / "tokens/one/token.object").permissions(),
            fs::perms::owner_read | fs::perms::owner_write);
}

TEST_F(SoftHsmCopyTest, WhatWasWrittenToTheCopyIsGoneWithTheNext) {
  ASSERT_THAT(copy_.refresh(), Succeeds());
  std::ofstream(folder() / "tokens" / "one" / "token.object") << "damaged";
  std::ofstream(folder() / "tokens" / "one" / "more") << "new";
  EXPECT_EQ(read(dir_.path() / "tokens" / "one" / "token.object"), "a token");
  write("tokens/one/key.object", "a key");
  ASSERT_THAT(copy_.refresh(), Succeeds());
  EXPECT_EQ(read(folder() / "tokens" / "one" / "token.object"), "a token");
  EXPECT_EQ(read(folder() / "tokens" / "one" / "key.object"), "a key");
  EXPECT_FALSE(fs::exists(folder() / "tokens" / "one" / "more"));
}

TEST_F(SoftHsmCopyTest, TokensThatAreNotThereComeLater) {
  fs::rename(dir_.path() / "tokens", dir_.path() / "away");
  ASSERT_THAT(copy_.refresh(), Succeeds());
  EXPECT_TRUE(fs::is_empty(folder() / "tokens"));
  fs::rename(dir_.path() / "away", dir_.path() / "tokens");
  ASSERT_THAT(copy_.refresh(), Succeeds());
  EXPECT_EQ(read(folder() / "tokens" / "one" / "token.object"), "a token");
}

TEST_F(SoftHsmCopyTest, ItGoesWithItsFolder) {
  ASSERT_THAT(copy_.refresh(), Succeeds());
  copy_.remove();
  EXPECT_FALSE(fs::exists(folder()));
  EXPECT_EQ(read(dir_.path() / "tokens" / "one" / "token.object"), "a token");
}

TEST_F(SoftHsmCopyTest, LinksAreLeftOut) {
  write("secret", "of somebody else");
  fs::create_symlink(dir_.path() / "secret", dir_.path() / "tokens" / "one" / "link");
  ASSERT_THAT(copy_.refresh(), Succeeds());
  EXPECT_FALSE(fs::exists(fs::symlink_status(folder() / "tokens" / "one" / "link")));
}

TEST_F(SoftHsmCopyTest, WhatIsNoTokenIsRefused) {
  write("tokens/one/huge", std::string(SoftHsmCopy::kFileBytesMax + 1, 'x'));
  EXPECT_THAT(copy_.refresh(), FailsWith(Reason::kLimitsExceeded));
  fs::remove(dir_.path() / "tokens/one/huge");
  for (std::size_t i = 0; i < SoftHsmCopy::kFilesMax; ++i)
    write("tokens/one/" + std::to_string(i), "");
  EXPECT_THAT(copy_.refresh(), FailsWith(Reason::kLimitsExceeded));
}

TEST_F(SoftHsmCopyTest, AConfigurationWithoutAFolderIsRefused) {
  for (const char* text : {"", "log.level = ERROR\n", "directories.tokendir\n",
                           "directories.tokendir = relative\n", "xdirectories.tokendir = /x\n"}) {
    write_conf(text);
    EXPECT_THAT(copy_.refresh(), FailsWith(Reason::kConfigInvalid)) << text;
  }
  fs::remove(dir_.path() / "softhsm2.conf");
  EXPECT_THAT(copy_.refresh(), FailsWith(Reason::kNoSuchFile));
}

}  // namespace
}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "hsm/pin_mark.h"

#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp.

#include <filesystem>

#include "core/base/files.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;
using Verdict = PinMark::Verdict;

SecretBytes pin(std::string_view text) {
  return *SecretBytes::copy_of(as_bytes(text));
}

class PinMarkTest : public testing::Test {
 protected:
  PinMarkTest() {
    std::string name = (std::filesystem::temp_directory_path() / "coffer-pin-XXXXXX").string();
    folder_ = ::mkdtemp(name.data());
  }
  ~PinMarkTest() override { std::filesystem::remove_all(folder_); }
  std::string file() const { return (folder_ / "pin-refused").string(); }

  std::filesystem::path folder_;
};

TEST_F(PinMarkTest, PinNeverTriedIsNew) {
  EXPECT_EQ(PinMark(file()).of(pin("1234")).value(), Verdict::kNew);
}

TEST_F(PinMarkTest, RefusedPinIsKnownAfterARestartAndAnotherIsNew) {
  ASSERT_THAT(PinMark(file()).note(pin("1234"), Verdict::kRefused), Succeeds());

  EXPECT_EQ(PinMark(file()).of(pin("1234")).value(), Verdict::kRefused);
  EXPECT_EQ(PinMark(file()).of(pin("1235")).value(), Verdict::kNew);
}

TEST_F(PinMarkTest, AttemptIsKnownUntilItIsCleared) {
  PinMark mark(file());
  ASSERT_THAT(mark.note(pin("1234"), Verdict::kTried), Succeeds());
  EXPECT_EQ(mark.of(pin("1234")).value(), Verdict::kTried);
  ASSERT_THAT(mark.clear(), Succeeds());
  EXPECT_EQ(mark.of(pin("1234")).value(), Verdict::kNew);
  EXPECT_THAT(mark.clear(), Succeeds());
}

TEST_F(PinMarkTest, FileDoesNotHoldThePin) {
  ASSERT_THAT(PinMark(file()).note(pin("the-secret-pin"), Verdict::kRefused), Succeeds());
  const auto bytes = read_file(file(), 4096);
  ASSERT_THAT(bytes, Succeeds());
  EXPECT_EQ(as_text(*bytes).find("the-secret-pin"), std::string_view::npos);
}

TEST_F(PinMarkTest, DamagedFileForbidsEveryTry) {
  ASSERT_THAT(PinMark(file()).note(pin("1234"), Verdict::kRefused), Succeeds());
  auto bytes = read_file(file(), 4096).value();
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    auto damaged = bytes;
    damaged[i] ^= std::byte{1};
    ASSERT_THAT(write_file_durably(file(), damaged), Succeeds());
    EXPECT_THAT(PinMark(file()).of(pin("9999")), FailsWith(Reason::kStoreDamaged)) << i;
  }
  bytes.resize(5000);
  ASSERT_THAT(write_file_durably(file(), bytes), Succeeds());
  EXPECT_THAT(PinMark(file()).of(pin("9999")), FailsWith(Reason::kStoreDamaged));
}

}  // namespace
}  // namespace coffer::hsm

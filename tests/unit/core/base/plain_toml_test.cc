// SPDX-License-Identifier: Apache-2.0
#include "core/base/plain_toml.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

std::string plain(std::string_view text) {
  const auto lines = plain_toml(text, "c");
  return lines ? *lines : lines.error().message();
}

TEST(PlainTomlTest, LinesAreKeptAndCommentsCutOff) {
  EXPECT_EQ(plain(""), "");
  EXPECT_EQ(plain("\n \t\r\n# \xff \\ \r \"\n"), "\n \t\n\n");
  EXPECT_EQ(plain("[table_1] # one\na = 1# \"two\"\r\n\tb=\"x # y\"\t# \"three\""),
            "[table_1] \na = 1\n\tb=\"x # y\"\t\n");
  EXPECT_EQ(plain("a = -12.50\nb = \"\"\n"), "a = -12.50\nb = \"\"\n");
}

TEST(PlainTomlTest, LimitsAreTheStatedOnes) {
  const auto key = [](std::size_t size) { return std::string(size, 'k') + " = 1\n"; };
  EXPECT_EQ(plain(key(64)), key(64));
  EXPECT_THAT(plain_toml(key(65), "c"), FailsWith(Reason::kConfigInvalid));
  const auto text = [](std::size_t size) { return "k = \"" + std::string(size, 't') + "\"\n"; };
  EXPECT_EQ(plain(text(1024)), text(1024));
  EXPECT_THAT(plain_toml(text(1025), "c"), FailsWith(Reason::kConfigInvalid));
  const auto digits = [](std::size_t whole, std::size_t behind) {
    return "k = -" + std::string(whole, '1') + "." + std::string(behind, '2') + "\n";
  };
  EXPECT_EQ(plain(digits(18, 18)), digits(18, 18));
  EXPECT_THAT(plain_toml(digits(19, 1), "c"), FailsWith(Reason::kConfigInvalid));
  EXPECT_THAT(plain_toml(digits(1, 19), "c"), FailsWith(Reason::kConfigInvalid));
  const auto line = [](std::size_t size) { return std::string(size, ' ') + "\n"; };
  EXPECT_EQ(plain(line(2048)), line(2048));
  EXPECT_THAT(plain_toml(line(2049), "c"), FailsWith(Reason::kConfigInvalid));
  EXPECT_EQ(plain("#" + line(9000)), "\n");  // A comment may be longer.
}

TEST(PlainTomlTest, WhateverElseIsRefusedNamingSourceAndLine) {
  const std::string lines[] = {
      "a",
      "= 1",
      "a =",
      "A = 1",
      "a.b = 1",
      "\"a\" = 1",
      "a = 1 2",
      "a = 1.",
      "a = .5",
      "a = -",
      "a = +1",
      "a = 0x1",
      "a = 1e5",
      "a = true",
      "a = [1]",
      "a = 'b'",
      "a = \"b",
      "a = \"",
      "a = \"b\" \"c\"",
      "a = \"\\n\"",
      "a = \"\t\"",
      "a = \"\xc3\xa9\"",
      "\xc3\xa9 = 1",
      "a = 1\r\r",
      "a\r = 1",
      "[",
      "[]",
      "[a",
      "[ a ]",
      "[a.b]",
      "[[a]]",
      "[a] b = 1",
      "a = \"\"\"b\"\"\"",
      std::string("a = 1\0", 6),
  };
  for (const auto& line : lines) {
    const auto refused = plain_toml("# first\n" + line + "\nb = 1\n", "some.toml");
    ASSERT_THAT(refused, FailsWith(Reason::kConfigInvalid)) << line;
    EXPECT_EQ(refused.error().message().find("some.toml: line 2 "), 0U)
        << refused.error().message();
  }
}

}  // namespace
}  // namespace coffer::tests

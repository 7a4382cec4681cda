// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/json.h"

#include <gtest/gtest.h>

#include <string>

#include "tests/support/result_matchers.h"

namespace coffer::luks2 {
namespace {

using tests::FailsWith;
using tests::Succeeds;

std::string canonical(std::string_view text) {
  const auto value = JsonValue::parse(text, 8);
  return value ? value->canonical() : value.error().message();
}

TEST(JsonTest, TheCanonicalFormSortsAndEscapes) {
  EXPECT_EQ(canonical(R"( { "b" : [ 1 , -0 , true ] , "a" : null } )"),
            R"({"a":null,"b":[1,0,true]})");
  EXPECT_EQ(canonical(R"("\/\u0041\n\u0001")"), R"("/A\n\u0001")");
  EXPECT_EQ(canonical("\"\x7f\""), R"("\u007f")");
  EXPECT_EQ(canonical("\"\xe5\xaf\x86\xf0\x9f\x94\x91\""), R"("\u5bc6\ud83d\udd11")");
  EXPECT_EQ(canonical(R"("\ud83d\udd11")"), R"("\ud83d\udd11")");
}

TEST(JsonTest, BytesThatAreNoUtf8AreKept) {
  const auto value = JsonValue::parse("\"\xff\xc3\"", 1);
  ASSERT_THAT(value, Succeeds());
  EXPECT_EQ(value->string(), "\xff\xc3");
  EXPECT_EQ(value->canonical(), R"("\udcff\udcc3")");
}

TEST(JsonTest, WhatTwoReadersCouldReadInTwoWaysIsRefused) {
  for (const std::string_view text : {R"({"a":1,"a":2})",
                                      R"("\u0000")",
                                      R"("\ud800")",
                                      R"("\udc00")",
                                      R"("\ud800\u0041")",
                                      "01",
                                      "1.",
                                      "-",
                                      "+1",
                                      ".5",
                                      "1e",
                                      "18446744073709551616",
                                      "-9223372036854775809",
                                      "[1,]",
                                      "{\"a\":1,}",
                                      "'a'",
                                      "{a:1}",
                                      "// c\n1",
                                      "NaN",
                                      "tru",
                                      "\"a\nb\"",
                                      "\"a",
                                      "[1",
                                      "{\"a\"",
                                      "\"\\x\"",
                                      "\"\\u00g0\"",
                                      "1 2",
                                      ""}) {
    EXPECT_THAT(JsonValue::parse(text, 8), FailsWith(Reason::kInvalidArgs)) << text;
  }
}

TEST(JsonTest, NestingHasItsLimit) {
  EXPECT_THAT(JsonValue::parse("[[[]]]", 3), Succeeds());
  EXPECT_THAT(JsonValue::parse("[[[]]]", 2), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(JsonValue::parse(std::string(100000, '['), 32), FailsWith(Reason::kInvalidArgs));
}

TEST(JsonTest, IntegersFitOrDoNot) {
  EXPECT_EQ(JsonValue::parse("4294967295", 1)->as_uint32(), 4294967295U);
  EXPECT_EQ(JsonValue::parse("4294967296", 1)->as_uint32(), std::nullopt);
  EXPECT_EQ(JsonValue::parse("-1", 1)->as_uint32(), std::nullopt);
  EXPECT_EQ(JsonValue::parse("-1", 1)->as_int64(), -1);
  EXPECT_EQ(JsonValue::parse("1.0", 1)->as_int64(), std::nullopt);
}

TEST(JsonTest, APrefixTellsWhereItEnds) {
  const auto prefix = JsonValue::parse_prefix(std::string_view("{} \0", 4), 1);
  ASSERT_THAT(prefix, Succeeds());
  EXPECT_EQ(prefix->size_bytes, 2U);
}

}  // namespace
}  // namespace coffer::luks2

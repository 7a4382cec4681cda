// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/token.h"

#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::luks2 {
namespace {

using tests::FailsWith;
using tests::some_bytes;
using tests::some_token;
using tests::Succeeds;

TEST(TokenTest, WhatIsPrintedIsRead) {
  const Token token = some_token();
  const auto text = print_token(token);
  ASSERT_THAT(text, Succeeds());
  const auto read = parse_token(*text);
  ASSERT_THAT(read, Succeeds());
  EXPECT_EQ(*read, token);
}

TEST(TokenTest, TheTextStaysWhatItIs) {
  Token token;
  token.generation = 18446744073709551615U;
  token.context = some_bytes(3, 1);
  token.wraps = {some_bytes(1, 255)};
  EXPECT_EQ(*print_token(token),
            R"({"type":"coffer","keyslots":[],"version":1,"generation":"18446744073709551615",)"
            R"("threshold":1,"context":"AQID","wraps":["/w=="],"records":[]})");
}

TEST(TokenTest, ATokenAgainstItsLimitsIsNeitherWrittenNorRead) {
  const auto refused = [](void (*change)(Token&)) {
    Token token = some_token();
    change(token);
    EXPECT_THAT(print_token(token), FailsWith(Reason::kTokenInvalid));
  };
  refused([](Token& t) { t.generation = 0; });
  refused([](Token& t) { t.context.clear(); });
  refused([](Token& t) { t.context.resize(kTokenContextBytesMax + 1); });
  refused([](Token& t) { t.wraps.clear(); });
  refused([](Token& t) { t.wraps.resize(kTokenWrapsMax + 1, some_bytes(1, 1)); });
  refused([](Token& t) { t.wraps[0].clear(); });
  refused([](Token& t) { t.wraps[0].resize(kTokenWrapBytesMax + 1); });
  refused([](Token& t) { t.records.resize(kTokenRecordsMax + 1, some_bytes(1, 1)); });
  refused([](Token& t) { t.records[0].resize(kTokenRecordBytesMax + 1); });
  refused([](Token& t) { t.threshold = 0; });
  refused([](Token& t) { t.threshold = 3; });
  refused([](Token& t) { t.keyslots = {32}; });
}

TEST(TokenTest, ATokenThatDoesNotFitTheHeaderNeedsSpace) {
  Token token = some_token();
  token.records.assign(5, Bytes(kTokenRecordBytesMax));
  EXPECT_THAT(print_token(token), FailsWith(Reason::kTokenSpace));
}

TEST(TokenTest, TextsThatNoTokenHasAreRefused) {
  const std::string good = *print_token(some_token());
  const auto changed = [&good](std::string_view from, std::string_view to) {
    std::string text = good;
    const auto at = text.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return text.replace(at, from.size(), to);
  };
  for (const auto& text : {
           std::string(),
           std::string("{}"),
           std::string("[]"),
           changed("\"coffer\"", "\"clevis\""),
           changed("\"version\":1", "\"version\":2"),
           changed("\"version\":1", "\"version\":\"1\""),
           changed("\"version\":1", "\"version\":1,\"more\":0"),
           changed("\"version\":1,", ""),
           changed("\"generation\":\"7\"", "\"generation\":7"),
           changed("\"generation\":\"7\"", "\"generation\":\"07\""),
           changed("\"generation\":\"7\"", "\"generation\":\"0\""),
           changed("\"threshold\":1", "\"threshold\":9"),
           changed("\"keyslots\":[\"3\"", "\"keyslots\":[3"),
           changed("\"keyslots\":[\"3\"", "\"keyslots\":[\"32\""),
           changed("\"context\":\"", "\"context\":\"?"),
           changed("\"wraps\":[\"", "\"wraps\":[\"=\",\""),
           changed("\"wraps\":[", "\"wraps\":[[],"),
           changed("\"records\":[", "\"records\":{}, \"x\":["),
       }) {
    EXPECT_THAT(parse_token(text), FailsWith(Reason::kTokenInvalid)) << text.substr(0, 100);
  }
  EXPECT_THAT(parse_token(good + std::string(kTokenJsonBytesMax, ' ')),
              FailsWith(Reason::kTokenInvalid));
}

}  // namespace
}  // namespace coffer::luks2

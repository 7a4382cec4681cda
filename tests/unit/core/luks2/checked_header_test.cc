// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/checked_header.h"

#include <gtest/gtest.h>

#include "core/base/encoding.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::luks2 {
namespace {

using tests::FailsWith;
using tests::header_case;
using tests::header_cases;
using tests::Succeeds;

CheckOutcome check(const cli::HeaderCase& one) {
  return check_header(cli::device_start(one), one.device_bytes);
}

TEST(CheckedHeaderTest, EachOutcomeSurvivesTheWire) {
  for (const auto& one : header_cases()) {
    const CheckOutcome outcome = check(one);
    const Bytes bytes = encode_outcome(outcome);
    EXPECT_LE(bytes.size(), kCheckOutcomeBytesMax);
    const auto decoded = decode_outcome(bytes);
    ASSERT_THAT(decoded, Succeeds()) << one.name;
    EXPECT_EQ(*decoded, outcome) << one.name;
  }
}

TEST(CheckedHeaderTest, AHeaderWithoutOurTokenSaysSo) {
  const auto outcome = check(header_case("unchanged"));
  const auto& header = std::get<CheckedHeader>(outcome);
  EXPECT_FALSE(header.token);
  EXPECT_EQ(header.token_refusal->reason, Reason::kTokenMissing);
  EXPECT_EQ(header.activation, std::nullopt);
  EXPECT_EQ(header.keyslots_foreign, (std::vector<std::uint32_t>{0, 1}));
  EXPECT_EQ(header.tokens_foreign, 1U);
  EXPECT_EQ(header.profile->cipher, "aes-xts-plain64");
  EXPECT_EQ(header.digest->key_bytes, 64U);
}

TEST(CheckedHeaderTest, ARefusalBecomesAnErrorThatNamesTheField) {
  const auto result = as_result(check(header_case("data offset inside keyslot area")));
  EXPECT_THAT(result, FailsWith(Reason::kHeaderInvalid));
  EXPECT_TRUE(result.error().message().starts_with("segments.0.offset"));
}

TEST(CheckedHeaderTest, LabelsWithEscapeCodesArriveFitToBeShown) {
  for (const auto& one : header_cases()) {
    const auto outcome = check(one);
    if (const auto* const header = std::get_if<CheckedHeader>(&outcome)) {
      EXPECT_EQ(header->label, printable(header->label, 48));
    }
  }
}

TEST(CheckedHeaderTest, AHeaderThatIsNoVolumeOfOursForWantOfAUuidIsRefused) {
  const auto outcome = check(header_case("uuid not a uuid"));
  EXPECT_EQ(std::get<Refusal>(outcome).field, "hdr.uuid");
}

TEST(CheckedHeaderTest, BytesThatNoOutcomeHasAreRefused) {
  const Bytes good = encode_outcome(check(header_case("unchanged")));
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(decode_outcome(ByteView(good).first(size)), FailsWith(Reason::kMessageInvalid));
  }
  Bytes longer = good;
  longer.push_back(std::byte{0});
  EXPECT_THAT(decode_outcome(longer), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_outcome(Bytes(kCheckOutcomeBytesMax + 1)), FailsWith(Reason::kMessageInvalid));
}

TEST(CheckedHeaderTest, ATokenOfOursTravelsWhole) {
  auto outcome = check(header_case("unchanged"));
  auto& header = std::get<CheckedHeader>(outcome);
  header.token = tests::some_token();
  header.token_id = 4;
  header.token_refusal.reset();
  header.keyslots_owned = {0};
  header.keyslots_foreign = {1};
  const auto decoded = decode_outcome(encode_outcome(outcome));
  ASSERT_THAT(decoded, Succeeds());
  EXPECT_EQ(*decoded, outcome);
}

}  // namespace
}  // namespace coffer::luks2

// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/header.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "core/base/encoding.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::luks2 {
namespace {

using tests::baseline;
using tests::FailsWith;
using tests::header_case;
using tests::header_cases;
using tests::Succeeds;

std::variant<Header, Refusal> examine(const cli::HeaderCase& one) {
  return examine_header(cli::device_start(one), one.device_bytes);
}

Refusal refusal_of(std::string_view name) {
  const auto examined = examine(header_case(name));
  const auto* const refusal = std::get_if<Refusal>(&examined);
  if (refusal == nullptr) {
    ADD_FAILURE() << name << " was taken";
    return {};
  }
  return *refusal;
}

TEST(HeaderVectors, AreAllThere) {
  EXPECT_EQ(header_cases().size(), 658U);
}

TEST(HeaderVectors, NothingIsTakenThatTheReferenceRefuses) {
  for (const auto& one : header_cases()) {
    if (one.reference_accepts) continue;
    EXPECT_TRUE(std::holds_alternative<Refusal>(examine(one))) << one.file << " " << one.name;
  }
}

TEST(HeaderVectors, OnlyTheJsonClassesAreReadMoreStrictly) {
  for (const auto& one : header_cases()) {
    if (!one.reference_accepts || one.group.starts_with("json-")) continue;
    EXPECT_TRUE(std::holds_alternative<Header>(examine(one))) << one.file << " " << one.name;
  }
}

TEST(HeaderVectors, EpochAndHashAreThoseOfTheReference) {
  for (const auto& one : header_cases()) {
    const auto examined = examine(one);
    const auto* const header = std::get_if<Header>(&examined);
    if (header == nullptr) continue;
    EXPECT_EQ(header->epoch, one.epoch) << one.file << " " << one.name;
    EXPECT_EQ(to_hex(header->json_sha256), one.json_sha256) << one.file << " " << one.name;
  }
}

TEST(HeaderVectors, ATornUpdateGivesTheOldOrTheNewJson) {
  std::size_t torn = 0;
  for (const auto& one : header_cases()) {
    if (one.group != "torn") continue;
    ++torn;
    const auto examined = examine(one);
    ASSERT_TRUE(std::holds_alternative<Header>(examined)) << one.file;
    EXPECT_THAT(one.allowed_json_sha256,
                testing::Contains(to_hex(std::get<Header>(examined).json_sha256)));
  }
  EXPECT_EQ(torn, 81U);
}

TEST(HeaderVectors, WhatTheReaderReadsGivesTheSameAsTheWholeArea) {
  for (const auto& one : header_cases()) {
    const Bytes start = cli::device_start(one);
    const auto whole = examine_header(start, one.device_bytes);
    const auto read = examine_header(ByteView(start).first(std::min(start.size(), kReaderBytes)),
                                     one.device_bytes);
    const auto* const header = std::get_if<Header>(&whole);
    if (header != nullptr && header->metadata_bytes > kReaderBytes / 2) {
      EXPECT_TRUE(std::holds_alternative<Refusal>(read)) << one.file << " " << one.name;
      continue;
    }
    ASSERT_EQ(whole.index(), read.index()) << one.file << " " << one.name;
    if (header != nullptr) {
      EXPECT_EQ(header->json_sha256, std::get<Header>(read).json_sha256) << one.file;
      EXPECT_EQ(header->copies, std::get<Header>(read).copies) << one.file;
    }
  }
}

TEST(HeaderVectors, ADamagedCopyIsReported) {
  for (const auto& one : header_cases()) {
    const auto examined = examine(one);
    const auto* const header = std::get_if<Header>(&examined);
    if (header == nullptr || one.group.starts_with("upstream") || one.group == "json-area")
      continue;
    // The reference rewrites a header exactly when one of its copies is bad or older.
    EXPECT_EQ(header->copies != Copies::kBoth, one.rewritten_by_tool)
        << one.file << " " << one.name;
  }
}

TEST(HeaderTest, ReadsWhatTheBaselineSays) {
  const Header header = baseline();
  EXPECT_EQ(header.uuid_text, header.uuid->str());
  EXPECT_EQ(header.metadata_bytes, 16384U);
  EXPECT_EQ(header.keyslots_bytes, 528384U);
  EXPECT_EQ(header.checksum_alg, "sha256");
  ASSERT_EQ(header.keyslots.size(), 2U);
  EXPECT_EQ(header.keyslots[1].area.offset_bytes, 290816U);
  EXPECT_EQ(header.keyslots[0].kdf.iterations, 1000U);
  ASSERT_EQ(header.segments.size(), 1U);
  EXPECT_EQ(header.segments[0].sector_bytes, 4096U);
  EXPECT_FALSE(header.segments[0].size_bytes);
  ASSERT_EQ(header.digests.size(), 1U);
  EXPECT_EQ(header.digest_of(0)->salt.size(), 32U);
  ASSERT_EQ(header.tokens.size(), 1U);
  EXPECT_EQ(header.tokens[0].volume, "6f1b2a9c-0d3e-4c57-9a55-3b1c0e5f7a10");
  EXPECT_FALSE(header.reencryption());
}

TEST(HeaderTest, ADeviceWithoutHeaderIsNotLuks2) {
  const Bytes zeros(kReaderBytes);
  EXPECT_THAT(parse_header(zeros, std::uint64_t{1} << 30), FailsWith(Reason::kNotLuks2));
  EXPECT_THAT(parse_header({}, 0), FailsWith(Reason::kNotLuks2));
}

TEST(HeaderTest, AHeaderOfTheFirstVersionIsNotLuks2) {
  Bytes start(kReaderBytes);
  const std::string_view luks1("LUKS\xba\xbe\0\1", 8);
  std::ranges::copy(as_bytes(luks1), start.begin());
  EXPECT_THAT(parse_header(start, start.size()), FailsWith(Reason::kNotLuks2));
}

TEST(HeaderTest, BothChecksumsWrongIsDamage) {
  const Refusal refusal = refusal_of("checksum byte 448 flipped both");
  EXPECT_EQ(refusal.reason, Reason::kHeaderDamaged);
  EXPECT_EQ(refusal.field, "hdr.checksum");
}

TEST(HeaderTest, AFaultInTheJsonNamesItsField) {
  const Refusal refusal = refusal_of("keyslots/0/kdf/hash = [\"0\"]");
  EXPECT_EQ(refusal.reason, Reason::kHeaderInvalid);
  EXPECT_EQ(refusal.field, "keyslots.0.kdf.hash");
}

TEST(HeaderTest, ADeviceThatEndsInsideTheKeyslotAreaIsTooSmall) {
  const auto& one = header_case("unchanged");
  const Bytes start = cli::device_start(one);
  EXPECT_THAT(parse_header(start, 561152), Succeeds());
  EXPECT_THAT(parse_header(start, 561151), FailsWith(Reason::kDeviceTooSmall));
}

TEST(HeaderTest, AMetadataAreaBehindTheBytesGivenIsUnusualNotDamaged) {
  const auto& one = header_case("unchanged");
  const Bytes start = cli::device_start(one);
  EXPECT_THAT(parse_header(ByteView(start).first(8192), one.device_bytes),
              FailsWith(Reason::kHeaderUnusual));
}

TEST(HeaderTest, InPlaceEncryptionIsRecognised) {
  const auto cases = cli::load_inprogress_cases(tests::vectors_dir() / "luks2");
  ASSERT_THAT(cases, Succeeds());
  ASSERT_EQ(cases->size(), 4U);
  for (const auto& one : *cases) {
    const auto header = parse_header(one.header, one.header.size());
    ASSERT_THAT(header, Succeeds()) << one.name;
    EXPECT_TRUE(header->reencryption()) << one.name;
  }
}

}  // namespace
}  // namespace coffer::luks2

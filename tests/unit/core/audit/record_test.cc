// SPDX-License-Identifier: Apache-2.0
#include "core/audit/record.h"

#include "tests/unit/core/audit/journal_fixture.h"

namespace coffer::tests {
namespace {

using audit::decode;
using audit::encode;
using audit::Record;

Record sample() {
  Record record{kNode,
                42,
                wall_from_usec(1'700'000'000'123'456),
                std::chrono::microseconds(99),
                kBoot,
                intent(),
                {},
                {}};
  record.previous.fill(std::byte{7});
  record.event.text = "why \"not\"";
  return record;
}

TEST(AuditRecordTest, DecodingGivesBackWhatWasEncoded) {
  Record record = sample();
  const Bytes encoded = encode(record);
  record.hash = audit::hash_of(encoded);
  const auto decoded = decode(encoded);
  ASSERT_THAT(decoded, Succeeds());
  EXPECT_EQ(*decoded, record);
}

TEST(AuditRecordTest, EveryShorterAndLongerFormIsRefused) {
  Bytes encoded = encode(sample());
  for (std::size_t size = 0; size < encoded.size(); ++size) {
    EXPECT_THAT(decode(ByteView(encoded).first(size)), FailsWith(Reason::kAuditBroken));
  }
  encoded.push_back(std::byte{0});
  EXPECT_THAT(decode(encoded), FailsWith(Reason::kAuditBroken));
}

TEST(AuditRecordTest, WhateverDecodesHasThatOneEncoding) {
  const Bytes encoded = encode(sample());
  for (std::size_t at = 0; at < encoded.size(); ++at) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes changed = encoded;
      changed[at] ^= static_cast<std::byte>(1U << bit);
      if (const auto decoded = decode(changed)) {
        EXPECT_EQ(encode(*decoded), changed) << at;
      }
    }
  }
}

TEST(AuditRecordTest, TextsAreCutAndMadePrintable) {
  Record record = sample();
  record.event.text = std::string(audit::kTextBytesMax + 100, 'x');
  record.event.actor.bus_name = "a\nb\x1b[31m";
  record.event.operation = std::string(200, 'o');
  const Bytes encoded = encode(record);
  EXPECT_LE(encoded.size(), audit::kRecordBytesMax);
  const auto decoded = decode(encoded);
  ASSERT_THAT(decoded, Succeeds());
  EXPECT_EQ(decoded->event.text.size(), audit::kTextBytesMax);
  EXPECT_EQ(decoded->event.operation.size(), audit::kOperationBytesMax);
  EXPECT_EQ(decoded->event.actor.bus_name, "a?b?[31m");
}

TEST(AuditRecordTest, LargestRecordIsWithinItsLimit) {
  Record record = sample();
  const std::string much(5000, 'm');
  record.event.text = record.event.outcome = record.event.request_id = record.event.operation =
      much;
  record.event.actor.bus_name = record.event.actor.polkit_action = much;
  const Bytes encoded = encode(record);
  EXPECT_LE(encoded.size(), 2048U);
  EXPECT_THAT(decode(encoded), Succeeds());
}

TEST(AuditRecordTest, JsonIsOneLineWithEveryField) {
  Record record = sample();
  record.hash = audit::hash_of(encode(record));
  const std::string json = audit::to_json(record);
  EXPECT_THAT(json, testing::HasSubstr(R"("sequence":42)"));
  EXPECT_THAT(json, testing::HasSubstr(R"("time":"2023-11-14T22:13:20.123456Z")"));
  EXPECT_THAT(json, testing::HasSubstr(R"("kind":"intent","origin":"dbus","uid":1000)"));
  EXPECT_THAT(json, testing::HasSubstr(R"("text":"why \"not\"")"));
  EXPECT_EQ(json.find('\n'), std::string::npos);
}

TEST(AuditRecordTest, NamesOfKindsAndOriginsGoBothWays) {
  EXPECT_EQ(audit::kind_by_name("refused"), audit::Kind::kRefused);
  EXPECT_EQ(audit::origin_by_name("hotplug"), audit::Origin::kHotplug);
  EXPECT_EQ(audit::kind_by_name("unknown"), std::nullopt);
  EXPECT_EQ(audit::kind_name(audit::Kind::kStop), "stop");
}

TEST(AuditFilterTest, EveryFieldNarrowsTheChoice) {
  const Record record = sample();
  audit::Filter filter;
  EXPECT_TRUE(matches(filter, record));
  filter.operation = "volume.*";
  filter.volume = kVolume;
  filter.cmk = kCmk;
  filter.uid = 1000;
  filter.kind = audit::Kind::kIntent;
  filter.from_sequence = filter.to_sequence = 42;
  filter.from_time = filter.to_time = record.wall;
  EXPECT_TRUE(matches(filter, record));
  const auto differs = [&](auto change) {
    audit::Filter other = filter;
    change(other);
    return !matches(other, record);
  };
  EXPECT_TRUE(differs([](auto& f) { f.operation = "volume"; }));
  EXPECT_TRUE(differs([](auto& f) { f.operation = "key.*"; }));
  EXPECT_TRUE(differs([](auto& f) { f.volume = *VolumeId::random(); }));
  EXPECT_TRUE(differs([](auto& f) { f.cmk = *CmkId::random(); }));
  EXPECT_TRUE(differs([](auto& f) { f.object = *Uuid::random(); }));
  EXPECT_TRUE(differs([](auto& f) { f.uid = 0; }));
  EXPECT_TRUE(differs([](auto& f) { f.kind = audit::Kind::kResult; }));
  EXPECT_TRUE(differs([](auto& f) { f.from_sequence = 43; }));
  EXPECT_TRUE(differs([](auto& f) { f.to_sequence = 41; }));
  EXPECT_TRUE(differs([](auto& f) { *f.from_time += std::chrono::microseconds(1); }));
  EXPECT_TRUE(differs([](auto& f) { *f.to_time -= std::chrono::microseconds(1); }));
}

TEST(AuditFilterTest, AnObjectIsAVolumeOrAKey) {
  audit::Filter filter;
  filter.object = kVolume.uuid();
  EXPECT_TRUE(matches(filter, sample()));
  filter.object = kCmk.uuid();
  EXPECT_TRUE(matches(filter, sample()));
  Record about_nothing = sample();
  about_nothing.event.volume.reset();
  about_nothing.event.cmk.reset();
  EXPECT_FALSE(matches(filter, about_nothing));
}

}  // namespace
}  // namespace coffer::tests

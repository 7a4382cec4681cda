// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/profile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/encoding.h"
#include "core/luks2/activation_rules.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::luks2 {
namespace {

using tests::baseline;
using tests::FailsWith;
using tests::Succeeds;

Profile pinned() {
  auto profile = profile_of(baseline());
  if (!profile) throw std::runtime_error(profile.error().str());
  return *profile;
}

struct HeaderChange {
  const char* field;
  void (*change)(Header&);
};

const std::vector<HeaderChange>& header_changes() {
  static const std::vector<HeaderChange> changes = {
      {"uuid", [](Header& h) { h.uuid = *Uuid::parse("00000000-0000-4000-8000-000000000000"); }},
      {"uuid", [](Header& h) { h.uuid.reset(); }},
      {"config.json_size", [](Header& h) { h.metadata_bytes *= 2; }},
      {"config.keyslots_size", [](Header& h) { h.keyslots_bytes -= 4096; }},
      {"segments.0.offset", [](Header& h) { h.segments[0].offset_bytes *= 2; }},
      {"segments.0.size", [](Header& h) { h.segments[0].size_bytes = 4096; }},
      {"segments.0.iv_tweak", [](Header& h) { h.segments[0].iv_tweak = 8; }},
      {"segments.0.encryption", [](Header& h) { h.segments[0].encryption = "cipher_null-ecb"; }},
      {"segments.0.encryption", [](Header& h) { h.segments[0].encryption = "aes-xts-plain"; }},
      {"segments.0.sector_size", [](Header& h) { h.segments[0].sector_bytes = 512; }},
      {"segments.0.type", [](Header& h) { h.segments[0].type = "linear"; }},
      {"segments.0.integrity", [](Header& h) { h.segments[0].integrity = true; }},
      {"segments.0.flags", [](Header& h) { h.segments[0].flags = {"in-reencryption"}; }},
      {"segments", [](Header& h) { h.segments.push_back(h.segments[0]); }},
      {"config.flags", [](Header& h) { h.flags = {"allow-discards"}; }},
      {"config.flags", [](Header& h) { h.flags = {"something"}; }},
      {"config.requirements", [](Header& h) { h.requirements = {"something"}; }},
      {"keyslots.key_size", [](Header& h) { h.keyslots[0].key_size_bytes = 32; }},
  };
  return changes;
}

TEST(ProfileTest, AHeaderFitsTheProfileTakenFromIt) {
  EXPECT_EQ(first_difference(pinned(), baseline()), std::nullopt);
}

TEST(ProfileTest, EachChangedHeaderFieldIsNamed) {
  for (const auto& [field, change] : header_changes()) {
    Header header = baseline();
    change(header);
    EXPECT_EQ(first_difference(pinned(), header), field);
    const Profile profile = pinned();
    const auto refusal = activation_refusal(header, &profile);
    EXPECT_TRUE(refusal.has_value()) << field;
  }
}

TEST(ProfileTest, DigestKeyslotsAndTokensAreNotPinned) {
  Header header = baseline();
  header.digests[0].salt = tests::some_bytes(32, 9);
  header.tokens.clear();
  header.keyslots.pop_back();
  EXPECT_EQ(first_difference(pinned(), header), std::nullopt);
}

TEST(ProfileTest, AHeaderWithoutKeyslotsDoesNotContradictThePinnedKeySize) {
  Header header = baseline();
  header.keyslots.clear();
  header.digests[0].keyslots.clear();
  Profile profile = pinned();
  profile.key_bytes = 32;
  EXPECT_EQ(first_difference(profile, header), std::nullopt);
}

struct ProfileChange {
  const char* field;
  void (*change)(Profile&);
};

const std::vector<ProfileChange>& profile_changes() {
  static const std::vector<ProfileChange> changes = {
      {"uuid", [](Profile& p) { p.uuid = *Uuid::parse("00000000-0000-4000-8000-000000000000"); }},
      {"config.json_size", [](Profile& p) { p.metadata_bytes *= 2; }},
      {"config.keyslots_size", [](Profile& p) { p.keyslots_bytes -= 4096; }},
      {"segments.0.offset", [](Profile& p) { p.data_offset_bytes *= 2; }},
      {"segments.0.size", [](Profile& p) { p.data_size_bytes = 8192; }},
      {"segments.0.iv_tweak", [](Profile& p) { p.iv_tweak = 8; }},
      {"segments.0.encryption",
       [](Profile& p) {
         p.cipher = "sm4-xts-plain64";
         p.key_bytes = 32;
       }},
      {"keyslots.key_size", [](Profile& p) { p.key_bytes = 32; }},
      {"segments.0.sector_size", [](Profile& p) { p.sector_bytes = 512; }},
      {"config.flags", [](Profile& p) { p.flags = ConfigFlags::kAllowDiscards; }},
  };
  return changes;
}

TEST(ProfileTest, BothFormsRoundTripAndEachFieldMovesTheDigest) {
  std::vector<Sha256> digests = {profile_digest(pinned())};
  for (const auto& [field, change] : profile_changes()) {
    Profile profile = pinned();
    change(profile);
    EXPECT_EQ(first_difference(pinned(), profile), field);
    const auto binary = decode_profile(encode_profile(profile));
    ASSERT_THAT(binary, Succeeds()) << field;
    EXPECT_EQ(*binary, profile);
    const auto text = parse_profile(print_profile(profile));
    ASSERT_THAT(text, Succeeds()) << field;
    EXPECT_EQ(*text, profile);
    EXPECT_THAT(digests, testing::Not(testing::Contains(profile_digest(profile))));
    digests.push_back(profile_digest(profile));
  }
}

TEST(ProfileTest, TheBinaryFormStaysWhatItIs) {
  Profile profile;
  profile.uuid = *Uuid::parse("6f1b2a9c-0d3e-4c57-9a55-3b1c0e5f7a10");
  profile.keyslots_bytes = 131072;
  profile.data_offset_bytes = 16777216;
  EXPECT_EQ(to_hex(encode_profile(profile)),
            "4350524601"
            "6f1b2a9c0d3e4c579a553b1c0e5f7a10"
            "00000000000100000000000000020000"
            "000000000100000000000000000000000000000000000000"
            "0000000f6165732d7874732d706c61696e3634"
            "000000400000100000000000");
}

TEST(ProfileTest, BytesThatNoProfileHasAreRefused) {
  const Bytes good = encode_profile(pinned());
  Bytes longer = good;
  longer.push_back(std::byte{0});
  EXPECT_THAT(decode_profile(longer), FailsWith(Reason::kMessageInvalid));
  EXPECT_THAT(decode_profile(ByteView(good).first(good.size() - 1)),
              FailsWith(Reason::kMessageInvalid));
  Profile null_cipher = pinned();
  null_cipher.cipher = "cipher_null-ecb";
  EXPECT_THAT(decode_profile(encode_profile(null_cipher)), FailsWith(Reason::kMessageInvalid));
  Profile into_keyslots = pinned();
  into_keyslots.data_offset_bytes = 32768;
  EXPECT_THAT(decode_profile(encode_profile(into_keyslots)), FailsWith(Reason::kMessageInvalid));
}

TEST(ProfileTest, ATextWithAMemberMissingUnknownOrWrongIsRefused) {
  const std::string good = print_profile(pinned());
  for (std::size_t line = good.find('\n') + 1; good[line] != '}';) {
    const std::size_t end = good.find('\n', line) + 1;
    std::string without = good;
    without.erase(line, end - line);
    EXPECT_THAT(parse_profile(without), FailsWith(Reason::kInvalidArgs)) << without;
    line = end;
  }
  std::string unknown = good;
  unknown.insert(2, "  \"more\": 1,\n");
  EXPECT_THAT(parse_profile(unknown), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(parse_profile("{}"), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(parse_profile(""), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(parse_profile(std::string(kProfileTextBytesMax + 1, ' ')),
              FailsWith(Reason::kInvalidArgs));
}

TEST(ProfileTest, AHeaderThatNoProfileCanHoldIsUnusual) {
  EXPECT_THAT(profile_of(tests::header_of("data segment linear")),
              FailsWith(Reason::kHeaderUnusual));
}

}  // namespace
}  // namespace coffer::luks2

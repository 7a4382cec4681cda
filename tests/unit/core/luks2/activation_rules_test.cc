// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/activation_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "tests/support/result_matchers.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::luks2 {
namespace {

using tests::baseline;
using tests::header_case;
using tests::header_cases;
using tests::header_of;
using tests::Succeeds;

// The field that refuses each hostile header, without a profile.
const std::map<std::string, std::string, std::less<>> kHostileFields = {
    {"data segment cipher_null", "segments.0.encryption"},
    {"data segment aes-xts-plain (32-bit iv)", "segments.0.encryption"},
    {"data segment linear", "segments.0.type"},
    {"data offset moved forward", "segments.0.offset"},
    {"data offset inside keyslot area", "segments.0.offset"},
    {"fixed small size", "segments.0.size"},
    {"sector_size 512", "segments.0.sector_size"},
    {"integrity added", "segments.0.integrity"},
    {"keyslot key size 32", "keyslots.0.key_size"},
    {"keyslot argon2id 4 GiB", "keyslots.0.kdf.memory"},
    {"digest 4294967295 iterations", "digests.0.iterations"},
    {"digest hash sha1", "digests.0.hash"},
    {"requirement online-reencrypt", "config.requirements"},
    {"segment flagged in-reencryption", "segments.0.flags"},
    {"activation flag allow-discards", "config.flags"},
    {"token claims another volume", "tokens.0.volume"},
    {"token without keyslots", "tokens.0.keyslots"},
    {"two tokens of the agent type", "tokens.1.type"},
    {"extra keyslot bound to the same digest by attacker", "keyslots.5.area.offset"},
    {"keyslot unbound from digest", "keyslots.0.type"},
    {"segment type unknown", "segments.0.type"},
};

std::optional<Refusal> judge(const cli::HeaderCase& one, const Profile* profile) {
  const auto examined = examine_header(cli::device_start(one), one.device_bytes);
  if (const auto* const refusal = std::get_if<Refusal>(&examined)) return *refusal;
  return activation_refusal(std::get<Header>(examined), profile);
}

TEST(ActivationRules, LetTheBaselinePass) {
  EXPECT_EQ(activation_refusal(baseline()), std::nullopt);
  const auto profile = profile_of(baseline());
  ASSERT_THAT(profile, Succeeds());
  EXPECT_EQ(activation_refusal(baseline(), &*profile), std::nullopt);
}

TEST(ActivationRules, RefuseEveryHostileHeaderNamingItsField) {
  const auto profile = profile_of(baseline());
  ASSERT_THAT(profile, Succeeds());
  std::size_t hostile = 0;
  for (const auto& one : header_cases()) {
    if (one.profile != "must-refuse") continue;
    ++hostile;
    const auto refusal = judge(one, nullptr);
    ASSERT_TRUE(refusal.has_value()) << one.name;
    const auto wanted = kHostileFields.find(one.name);
    ASSERT_NE(wanted, kHostileFields.end()) << one.name;
    EXPECT_EQ(refusal->field, wanted->second) << one.name;
    const auto under_profile = judge(one, &*profile);
    ASSERT_TRUE(under_profile.has_value()) << one.name;
    EXPECT_FALSE(under_profile->field.empty()) << one.name;
  }
  EXPECT_EQ(hostile, kHostileFields.size());
}

TEST(ActivationRules, ACloneHasTheSameUuidForTheRegistryToNotice) {
  const Header clone = header_of("same uuid, other salts (clone)");
  EXPECT_EQ(clone.uuid, baseline().uuid);
  EXPECT_NE(clone.copy_sha256, baseline().copy_sha256);
}

TEST(ActivationRules, AJobUnderWayIsUnusualNotWrong) {
  const auto cases = cli::load_inprogress_cases(tests::vectors_dir() / "luks2");
  ASSERT_THAT(cases, Succeeds());
  for (const auto& one : *cases) {
    const auto header = parse_header(one.header, one.header.size());
    ASSERT_THAT(header, Succeeds());
    const auto refusal = activation_refusal(*header);
    ASSERT_TRUE(refusal.has_value()) << one.name;
    EXPECT_EQ(refusal->reason, Reason::kHeaderUnusual);
    EXPECT_EQ(refusal->field, "config.requirements");
  }
}

TEST(ActivationRules, ASegmentBehindTheEndOfTheDeviceIsTooSmallADevice) {
  Header header = baseline();
  header.device_bytes = header.segments[0].offset_bytes - 512;
  const auto refusal = activation_refusal(header);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->reason, Reason::kDeviceTooSmall);
}

TEST(ActivationRules, TokensOfOthersDoNotMatterBesideOurs) {
  Header header = baseline();
  header.tokens[0].keyslots.clear();
  header.tokens[0].volume = "data01";
  EXPECT_TRUE(activation_refusal(header).has_value());
  TokenEntry ours;
  ours.id = 1;
  ours.type = "coffer";
  header.tokens.push_back(ours);
  EXPECT_EQ(activation_refusal(header), std::nullopt);
  ours.id = 2;
  header.tokens.push_back(ours);
  const auto refusal = activation_refusal(header);
  ASSERT_TRUE(refusal.has_value());
  EXPECT_EQ(refusal->field, "tokens.2.type");
  EXPECT_EQ(refusal->reason, Reason::kTokenInvalid);
}

TEST(ActivationRules, ALimitIsWhatMayStillBeAsked) {
  Header header = baseline();
  header.keyslots[0].kdf.iterations = kKdfIterationsMax;
  header.digests[0].iterations = kKdfIterationsMax;
  EXPECT_EQ(activation_refusal(header), std::nullopt);
  header.digests[0].iterations = kKdfIterationsMax + 1;
  EXPECT_EQ(activation_refusal(header)->field, "digests.0.iterations");
}

TEST(ActivationRules, AWeakChecksumIsTakenButNotActivated) {
  const Header header = header_of("checksum_alg b'md5' both");
  EXPECT_EQ(activation_refusal(header)->field, "hdr.checksum_alg");
}

}  // namespace
}  // namespace coffer::luks2

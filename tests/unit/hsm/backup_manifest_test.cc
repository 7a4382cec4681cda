// SPDX-License-Identifier: Apache-2.0
#include "hsm/backup_manifest.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/encoding.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using hsm::BackupManifest;
using ::testing::HasSubstr;

BackupManifest sample() {
  BackupManifest out{.host = *HostId::parse("11111111-2222-4333-8444-555555555555"),
                     .root_id = "00112233445566778899aabbccddeeff"};
  out.made = WallTime(std::chrono::seconds(1'795'000'000));
  out.keys = 9;
  crypto::Sha256Digest digest{};
  digest.fill(std::byte{0xAA});
  for (const auto name : {BackupManifest::kFloors, BackupManifest::kKeys, BackupManifest::kRegistry,
                          BackupManifest::kSdfKeys})
    out.files.push_back({std::string(name), 8192, digest});
  return out;
}

// `text` with `from` replaced, and a digest that fits.
std::string edited(std::string text, std::string_view from, std::string_view to) {
  text.replace(text.find(from), from.size(), to);
  text.resize(text.rfind("end "));
  return text + "end " + to_hex(crypto::sha256(as_bytes(text))) + "\n";
}

TEST(BackupManifestTest, ComesBackAsItWas) {
  const auto text = sample().to_text();
  EXPECT_THAT(text, HasSubstr("coffer-backup 1\nhost 11111111-2222-4333-8444-555555555555\n"
                              "root 00112233445566778899aabbccddeeff\nmade 1795000000\nkeys 9\n"
                              "file floors.db 8192 aa"));
  const auto read = BackupManifest::parse(text);
  ASSERT_THAT(read, Succeeds());
  EXPECT_EQ(*read, sample());
  ASSERT_NE(read->find("keyring.db"), nullptr);
  EXPECT_EQ(read->find("keyring.db")->size_bytes, 8192U);
  EXPECT_EQ(read->find("other.db"), nullptr);
}

TEST(BackupManifestTest, EveryCutAndEveryFlippedBitIsRefused) {
  const auto text = sample().to_text();
  for (std::size_t size = 0; size < text.size(); ++size)
    EXPECT_THAT(BackupManifest::parse(std::string_view(text).substr(0, size)),
                FailsWith(Reason::kConfigInvalid))
        << size;
  for (std::size_t i = 0; i < text.size() * 8; ++i) {
    auto bad = text;
    bad[i / 8] = static_cast<char>(bad[i / 8] ^ (1 << (i % 8)));
    EXPECT_THAT(BackupManifest::parse(bad), FailsWith(Reason::kConfigInvalid)) << i;
  }
}

struct Bad {
  const char* from;
  const char* to;
  const char* named;  // In the message.
};
class BadManifestTest : public testing::TestWithParam<Bad> {};

TEST_P(BadManifestTest, IsRefusedThoughItsDigestFits) {
  const auto read =
      BackupManifest::parse(edited(sample().to_text(), GetParam().from, GetParam().to));
  ASSERT_THAT(read, FailsWith(Reason::kConfigInvalid));
  EXPECT_THAT(read.error().str(), HasSubstr(GetParam().named));
}

INSTANTIATE_TEST_SUITE_P(
    BackupManifest, BadManifestTest,
    testing::Values(Bad{"backup 1", "backup 2", "line 1"}, Bad{"host 1", "host x", "line 2"},
                    Bad{"root 0", "root G", "line 3"}, Bad{"root 00", "root  0", "line 3"},
                    Bad{"made 1", "made -1", "line 4"},
                    Bad{"made 1795000000", "made 99999999999999", "line 4"},
                    Bad{"keys 9", "keys 09", "number is written otherwise"},
                    Bad{"keys 9", "keys  9", "line 5"}, Bad{"keys 9\n", "", "line 5"},
                    Bad{"file floors.db", "file other.db", "line 6"},
                    Bad{"file floors.db", "file ../x.db", "line 6"},
                    Bad{"file floors.db", "file registry.db", "line 7"},
                    Bad{"8192 aa", "8192 AA", "line 6"}, Bad{"8192 aa", "8192 a", "line 6"},
                    Bad{"8192 aa", "8192", "line 6"}, Bad{"keyring.db", "registry.db", "line"}));

TEST(BackupManifestTest, ABackupWithoutKeysIsNone) {
  auto bare = sample();
  bare.files.erase(bare.files.begin() + 1);
  EXPECT_THAT(BackupManifest::parse(bare.to_text()), FailsWith(Reason::kConfigInvalid));
  EXPECT_THAT(BackupManifest::parse(std::string(5000, 'x')), FailsWith(Reason::kConfigInvalid));
}

}  // namespace
}  // namespace coffer::tests

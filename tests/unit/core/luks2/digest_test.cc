// SPDX-License-Identifier: Apache-2.0
#include "core/luks2/digest.h"

#include <gtest/gtest.h>

#include "cli/selftest/sector_cipher.h"
#include "core/base/encoding.h"
#include "core/crypto/digest.h"
#include "core/luks2/activation_rules.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::luks2 {
namespace {

using tests::FailsWith;
using tests::Succeeds;

const std::vector<cli::VolumeCase>& volumes() {
  static const auto cases = cli::load_volume_cases(tests::vectors_dir() / "luks2");
  if (!cases) throw std::runtime_error(cases.error().str());
  return *cases;
}

TEST(DigestTest, ProvesTheKeyOfEachVolumeAndNoOther) {
  ASSERT_EQ(volumes().size(), 6U);
  for (const auto& volume : volumes()) {
    const auto header = parse_header(volume.header, volume.header.size());
    ASSERT_THAT(header, Succeeds()) << volume.name;
    EXPECT_EQ(header->uuid_text, volume.uuid);
    const auto digest =
        key_digest_of(*header, static_cast<std::uint32_t>(volume.volume_key.size()));
    ASSERT_THAT(digest, Succeeds()) << volume.name;
    EXPECT_THAT(check_volume_key(*digest, *SecretBytes::copy_of(volume.volume_key)), Succeeds());
    Bytes other = volume.volume_key;
    other[0] ^= std::byte{1};
    EXPECT_THAT(check_volume_key(*digest, *SecretBytes::copy_of(other)),
                FailsWith(Reason::kWrongKey));
  }
}

TEST(DigestTest, AKeyWithZerosBehindItIsAnotherKey) {
  // 32 bytes and 32 zeros fill the HMAC block like the 32 bytes alone: PBKDF2 gives the same.
  Bytes short_key(32, std::byte{7});
  Bytes long_key = short_key;
  long_key.resize(64);
  const auto digest = make_key_digest(*SecretBytes::copy_of(short_key));
  ASSERT_THAT(digest, Succeeds());
  EXPECT_THAT(check_volume_key(*digest, *SecretBytes::copy_of(short_key)), Succeeds());
  EXPECT_THAT(check_volume_key(*digest, *SecretBytes::copy_of(long_key)),
              FailsWith(Reason::kWrongKey));
  KeyDigest fooled = *digest;
  fooled.key_bytes = 64;
  EXPECT_THAT(check_volume_key(fooled, *SecretBytes::copy_of(long_key)), Succeeds())
      << "the length is all that tells them apart";
}

TEST(DigestTest, ACostAboveTheLimitIsRefusedBeforeItIsPaid) {
  KeyDigest digest{"sha256", kKdfIterationsMax + 1, Bytes(32), Bytes(32), 64};
  const auto key = SecretBytes::zeroed(64);
  EXPECT_THAT(check_volume_key(digest, *key), FailsWith(Reason::kHeaderInvalid));
  digest.iterations = 0;
  EXPECT_THAT(check_volume_key(digest, *key), FailsWith(Reason::kHeaderInvalid));
  digest.iterations = 1000;
  digest.hash = "md5";
  EXPECT_THAT(check_volume_key(digest, *key), FailsWith(Reason::kHeaderInvalid));
}

TEST(DigestTest, AHeaderWithoutAUsableDigestIsRefused) {
  EXPECT_THAT(key_digest_of(tests::header_of("digest hash sha1"), 64),
              FailsWith(Reason::kHeaderInvalid));
  EXPECT_THAT(key_digest_of(tests::header_of("data segment linear"), 64), Succeeds());
  Header none = tests::baseline();
  none.digests.clear();
  EXPECT_THAT(key_digest_of(none, 64), FailsWith(Reason::kHeaderInvalid));
}

TEST(VolumeVectors, DataDecryptWithTheirKeys) {
  for (const auto& volume : volumes()) {
    const cli::SectorParams params{volume.cipher, volume.sector_bytes, 0, false};
    const auto plain = cli::decrypt_sectors(params, volume.volume_key, volume.data);
    ASSERT_THAT(plain, Succeeds()) << volume.name;
    EXPECT_EQ(to_hex(crypto::sha256(*plain)), volume.plaintext_sha256) << volume.name;
  }
}

}  // namespace
}  // namespace coffer::luks2

// SPDX-License-Identifier: Apache-2.0
// libcryptsetup on the same bytes: where both look, they see the same. It works on files and needs
// no device-mapper for this.
#include <gtest/gtest.h>
#include <libcryptsetup.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/unique_fd.h"
#include "core/luks2/digest.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/luks2/luks2_testing.h"

namespace coffer::luks2 {
namespace {

using CryptDevice = CHandle<crypt_device, ::crypt_free>;
using tests::Succeeds;

class ReferenceTest : public testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "coffer-luks2-XXXXXX").string();
    ASSERT_NE(::mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    // Its lock folder needs root; nobody else has these files.
    ::crypt_metadata_locking(nullptr, 0);
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  CryptDevice load(const std::string& name, ByteView start, std::uint64_t device_bytes) {
    const auto path = folder_ / name;
    std::ofstream(path, std::ios::binary)
        .write(as_text(start).data(), static_cast<std::streamsize>(start.size()));
    std::filesystem::resize_file(path, device_bytes);
    ::crypt_device* raw = nullptr;
    if (::crypt_init(&raw, path.c_str()) != 0) return nullptr;
    CryptDevice device(raw);
    ::crypt_set_log_callback(raw, [](int, const char*, void*) {}, nullptr);
    return ::crypt_load(raw, CRYPT_LUKS2, nullptr) == 0 ? std::move(device) : nullptr;
  }

  std::filesystem::path folder_;
};

TEST_F(ReferenceTest, KeyslotsOfTheSixVolumesOpenToTheKeyThatTheDigestProves) {
  constexpr std::uint64_t kDeviceBytes = std::uint64_t{16} << 20;  // The least that it takes.
  const auto cases = cli::load_volume_cases(tests::vectors_dir() / "luks2");
  ASSERT_THAT(cases, Succeeds());
  for (const auto& one : *cases) {
    const CryptDevice device = load(one.name, one.header, kDeviceBytes);
    ASSERT_NE(device, nullptr) << one.name;
    auto key = SecretBytes::zeroed(one.volume_key.size());
    ASSERT_THAT(key, Succeeds());
    std::size_t key_bytes = key->size();
    const int slot = ::crypt_volume_key_get(
        device.get(), CRYPT_ANY_SLOT, reinterpret_cast<char*>(key->reveal_mutable().data()),
        &key_bytes, one.passphrase.data(), one.passphrase.size());
    ASSERT_GE(slot, 0) << one.name;
    EXPECT_EQ(key_bytes, one.volume_key.size());
    EXPECT_TRUE(equal_constant_time(key->reveal(), one.volume_key)) << one.name;

    const auto header = parse_header(one.header, kDeviceBytes);
    ASSERT_THAT(header, Succeeds());
    const auto digest = key_digest_of(*header, static_cast<std::uint32_t>(key_bytes));
    ASSERT_THAT(digest, Succeeds());
    EXPECT_THAT(check_volume_key(*digest, *key), Succeeds()) << one.name;
  }
}

TEST_F(ReferenceTest, NothingIsTakenThatTheReferenceRefusesAfterARandomChange) {
  // Each byte of the JSON area changed in turn would take minutes; every 7th does, in two ways.
  const auto& one = tests::header_case("unchanged");
  const Bytes good = cli::device_start(one);
  std::size_t taken = 0;
  for (std::size_t at = kBinaryHeaderBytes; at < kBinaryHeaderBytes + 1300; at += 7) {
    for (const std::byte to : {std::byte{'"'}, std::byte{'0'}}) {
      Bytes changed = good;
      changed[at] = to;
      tests::repair_checksums(changed);
      const bool ours = parse_header(changed, one.device_bytes).has_value();
      const bool theirs =
          load("changed", ByteView(changed).first(32768), one.device_bytes) != nullptr;
      EXPECT_TRUE(theirs || !ours) << "byte " << at;
      if (ours) ++taken;
    }
  }
  EXPECT_GT(taken, 0U);
}

}  // namespace
}  // namespace coffer::luks2

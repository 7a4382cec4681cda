// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <thread>

#include "core/base/encoding.h"
#include "core/crypto/aead.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/sha384.h"
#include "core/crypto/xts.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/crypto/crypto_testing.h"

namespace coffer::tests {
namespace {

TEST(AeadTest, RefusesEveryChangeOfKeyContextAndText) {
  const Bytes key = filled(32, 1);
  const Bytes nonce = filled(12, 2);
  const Bytes sealed =
      crypto::aes_gcm_seal(key, {nonce, as_bytes("aad")}, as_bytes("text")).value();
  ASSERT_EQ(sealed.size(), 4 + crypto::kGcmTagBytes);
  EXPECT_EQ(plain(*crypto::aes_gcm_open(key, {nonce, as_bytes("aad")}, sealed)),
            Bytes(as_bytes("text").begin(), as_bytes("text").end()));
  const auto refused = [&](const Bytes& k, const Bytes& n, std::string_view aad,
                           const Bytes& text) {
    EXPECT_THAT(crypto::aes_gcm_open(k, {n, as_bytes(aad)}, text), FailsWith(Reason::kBlobInvalid));
  };
  refused(filled(32, 3), nonce, "aad", sealed);
  refused(key, filled(12, 3), "aad", sealed);
  refused(key, nonce, "aaD", sealed);
  for (std::size_t i = 0; i < sealed.size(); ++i) {
    Bytes changed = sealed;
    changed[i] ^= std::byte{0x80};
    refused(key, nonce, "aad", changed);
    refused(key, nonce, "aad",
            Bytes(sealed.begin(), sealed.begin() + static_cast<std::ptrdiff_t>(i)));
  }
}

TEST(AeadTest, RefusesSizesThatCannotBe) {
  const Bytes nonce = filled(12, 2);
  EXPECT_THAT(crypto::aes_gcm_seal(filled(31, 1), {nonce, {}}, {}),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_gcm_seal(filled(32, 1), {{}, {}}, {}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_gcm_open(filled(32, 1), {filled(129, 0), {}}, filled(16, 0)),
              FailsWith(Reason::kInvalidArgs));
}

TEST(AeadTest, EmptyTextHasATagAlone) {
  const Bytes key = filled(32, 1);
  const Bytes nonce = filled(12, 2);
  const Bytes sealed = crypto::aes_gcm_seal(key, {nonce, {}}, {}).value();
  EXPECT_EQ(sealed.size(), crypto::kGcmTagBytes);
  EXPECT_TRUE(crypto::aes_gcm_open(key, {nonce, {}}, sealed)->empty());
}

TEST(KeyWrapTest, EveryLengthComesBack) {
  const Bytes kek = filled(32, 9);
  for (const std::size_t size : {1U, 7U, 8U, 9U, 16U, 31U, 64U, 4096U}) {
    const Bytes key = filled(size, 5);
    const auto wrapped = crypto::aes_kwp_wrap(kek, key);
    ASSERT_THAT(wrapped, Succeeds());
    EXPECT_EQ(plain(*crypto::aes_kwp_unwrap(kek, *wrapped)), key);
    if (size % 8 != 0 || size < 16) continue;
    const auto exact = crypto::aes_kw_wrap(kek, key);
    ASSERT_THAT(exact, Succeeds());
    EXPECT_EQ(exact->size(), size + crypto::kWrapOverheadBytes);
    EXPECT_EQ(plain(*crypto::aes_kw_unwrap(kek, *exact)), key);
    EXPECT_THAT(crypto::aes_kwp_unwrap(kek, *exact), FailsWith(Reason::kBlobInvalid));
  }
}

TEST(KeyWrapTest, RefusesSizesThatCannotBe) {
  const Bytes kek = filled(32, 9);
  for (const std::size_t size : {0U, 8U, 17U, 4136U}) {
    EXPECT_THAT(crypto::aes_kw_wrap(kek, filled(size, 0)), FailsWith(Reason::kInvalidArgs));
  }
  EXPECT_THAT(crypto::aes_kwp_wrap(kek, {}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_kwp_wrap(kek, filled(4129, 0)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_kw_wrap(filled(20, 0), filled(16, 0)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_kw_unwrap(filled(20, 0), filled(24, 0)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_kw_unwrap(kek, filled(16, 0)), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(crypto::aes_kwp_unwrap(kek, filled(25, 0)), FailsWith(Reason::kBlobInvalid));
}

TEST(KdfTest, RefusesSizesThatCannotBe) {
  EXPECT_THAT(crypto::hkdf_sha256({}, {}, 0), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::hkdf_sha256({}, {}, 255 * 32 + 1), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::pbkdf2_hmac_sha256({}, {}, 0, 32), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::pbkdf2_hmac_sha256({}, {}, 1, 0), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::pbkdf2_hmac_sha256({}, filled(1025, 0), 1, 32),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::pbkdf2_hmac_sha256({}, {}, 100'000'001, 32), FailsWith(Reason::kInvalidArgs));
}

TEST(KdfTest, Pbkdf2KnowsTheHashesOfLuks) {
  // RFC 6070 with one iteration.
  const auto derived =
      crypto::pbkdf2(as_bytes("password"), {crypto::PbkdfHash::kSha1, as_bytes("salt"), 1}, 20);
  EXPECT_EQ(to_hex(derived->reveal()), "0c60c80f961f0e71f3a9b524af6012062fe037a6");
  const auto longer =
      crypto::pbkdf2(as_bytes("password"), {crypto::PbkdfHash::kSha512, as_bytes("salt"), 1}, 16);
  EXPECT_EQ(to_hex(longer->reveal()), "867f70cf1ade02cff3752599a3a53dc4");
}

TEST(DigestTest, PiecesGiveTheSameAsTheWhole) {
  EXPECT_EQ(to_hex(crypto::sha256(as_bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(crypto::sha256({})),
            "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  crypto::Sha256 pieces;
  EXPECT_EQ(pieces.update(as_bytes("a")).update({}).update(as_bytes("bc")).finish(),
            crypto::sha256(as_bytes("abc")));
  EXPECT_EQ(pieces.update(as_bytes("abc")).finish(), crypto::sha256(as_bytes("abc")));

  crypto::HmacSha256 mac(as_bytes("key"));
  const auto whole = crypto::hmac_sha256(as_bytes("key"), as_bytes("message"));
  EXPECT_EQ(mac.update(as_bytes("mess")).update(as_bytes("age")).finish(), whole);
  EXPECT_EQ(mac.update(as_bytes("message")).finish(), whole);
  EXPECT_NE(crypto::hmac_sha256({}, as_bytes("message")), whole);
}

// FIPS 180-4, and NIST's example of two blocks.
TEST(DigestTest, Sha384GivesThePublishedDigests) {
  EXPECT_EQ(to_hex(crypto::sha384(as_bytes("abc"))),
            "cb00753f45a35e8bb5a03d699ac65007272c32ab0eded1631a8b605a43ff5bed"
            "8086072ba1e7cc2358baeca134c825a7");
  EXPECT_EQ(to_hex(crypto::sha384({})),
            "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da"
            "274edebfe76f65fbd51ad2f14898b95b");
  EXPECT_EQ(to_hex(crypto::sha384(
                as_bytes("abcdefghbcdefghicdefghijdefghijkefghijklfghijklmghijklmnhijklmno"
                         "ijklmnopjklmnopqklmnopqrlmnopqrsmnopqrstnopqrstu"))),
            "09330c33f71147e83d192fc782cd1b4753111b173b3b05d22fa08086e3b0f712"
            "fcc7c71a557e2db966c3e9fa91746039");
}

TEST(DigestTest, ManyThreadsMayHash) {
  std::vector<std::thread> threads;
  threads.reserve(4);
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([] {
      const auto expected = crypto::hmac_sha256(as_bytes("k"), as_bytes("m"));
      for (int n = 0; n < 100; ++n) {
        EXPECT_EQ(crypto::hmac_sha256(as_bytes("k"), as_bytes("m")), expected);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(XtsTest, SectorsCountTheirTweaksInUnitsOf512Bytes) {
  Bytes key = filled(64, 1);
  std::fill(key.begin() + 32, key.end(), std::byte{2});
  const Bytes text = filled(8192, 3);
  Bytes whole(text.size());
  ASSERT_THAT(crypto::aes_xts_encrypt_sectors(key, {8, 4096}, text, whole), Succeeds());
  Bytes second(4096);
  ASSERT_THAT(
      crypto::aes_xts_encrypt(key, crypto::plain64_tweak(16), ByteView(text).first(4096), second),
      Succeeds());
  EXPECT_TRUE(std::equal(second.begin(), second.end(), whole.begin() + 4096));
  ASSERT_THAT(crypto::aes_xts_decrypt_sectors(key, {8, 4096}, whole, whole), Succeeds());
  EXPECT_EQ(whole, text);
}

TEST(XtsTest, RefusesSizesThatCannotBeAndEqualHalves) {
  Bytes key = filled(64, 1);
  Bytes out(512);
  EXPECT_THAT(crypto::aes_xts_encrypt(key, {}, out, out), FailsWith(Reason::kInvalidArgs));
  key[0] = std::byte{9};
  EXPECT_THAT(crypto::aes_xts_encrypt(filled(48, 1), {}, out, out),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_xts_encrypt(key, {}, ByteView(out).first(15), out),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_xts_encrypt(key, {}, ByteView(out).first(16), out),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_xts_decrypt_sectors(key, {0, 4096}, out, out),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::aes_xts_decrypt_sectors(key, {0, 500}, out, out),
              FailsWith(Reason::kInvalidArgs));
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>

#include <cstdlib>
#include <set>
#include <thread>

#include "core/base/encoding.h"
#include "core/crypto/ec.h"
#include "core/crypto/sm2.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"
#include "tests/support/result_matchers.h"
#include "tests/unit/core/crypto/crypto_testing.h"

namespace coffer::tests {
namespace {

using crypto::Sm2PrivateKey;
using crypto::Sm2PublicKey;

TEST(Sm3Test, PiecesGiveTheSameAsTheWhole) {
  // GM/T 0004-2012, A.1.
  EXPECT_EQ(to_hex(crypto::sm3(as_bytes("abc"))),
            "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0");
  crypto::Sm3 pieces;
  EXPECT_EQ(pieces.update(as_bytes("a")).update({}).update(as_bytes("bc")).finish(),
            crypto::sm3(as_bytes("abc")));
  EXPECT_EQ(pieces.update(as_bytes("abc")).finish(), crypto::sm3(as_bytes("abc")));

  crypto::HmacSm3 mac(as_bytes("key"));
  const auto whole = crypto::hmac_sm3(as_bytes("key"), as_bytes("message"));
  EXPECT_EQ(mac.update(as_bytes("mess")).update(as_bytes("age")).finish(), whole);
  EXPECT_EQ(mac.update(as_bytes("message")).finish(), whole);
  EXPECT_NE(crypto::hmac_sm3({}, as_bytes("message")), whole);
}

TEST(Sm4GcmTest, GivesTheAnswerOfRfc8998) {
  const Bytes nonce = *from_hex("00001234567800000000abcd");
  const Bytes aad = *from_hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  const Bytes key = *from_hex("0123456789abcdeffedcba9876543210");
  const Bytes text = *from_hex(
      "aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccddddddddddddddddeeeeeeeeeeeeeeeeffffffffffff"
      "ff"
      "ffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa");
  EXPECT_EQ(to_hex(*crypto::sm4_gcm_seal(key, {nonce, aad}, text)),
            "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
            "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
            "83de3541e4c2b58177e065a9bf7b62ec");
}

TEST(Sm4GcmTest, RefusesEveryChangeOfKeyContextAndText) {
  const Bytes key = filled(16, 1);
  const Bytes nonce = filled(12, 2);
  const auto sealed = crypto::sm4_gcm_seal(key, {nonce, as_bytes("aad")}, as_bytes("text"));
  ASSERT_THAT(sealed, Succeeds());
  ASSERT_EQ(sealed->size(), 4 + crypto::kGcmTagBytes);
  EXPECT_EQ(as_text(crypto::sm4_gcm_open(key, {nonce, as_bytes("aad")}, *sealed)->reveal()),
            "text");
  const auto refused = [&](const Bytes& k, const Bytes& n, std::string_view aad, ByteView text) {
    EXPECT_THAT(crypto::sm4_gcm_open(k, {n, as_bytes(aad)}, text), FailsWith(Reason::kBlobInvalid));
  };
  refused(flipped(key, 15), nonce, "aad", *sealed);
  refused(key, flipped(nonce, 0), "aad", *sealed);
  refused(key, filled(13, 2), "aad", *sealed);
  refused(key, nonce, "aaD", *sealed);
  refused(key, nonce, "", *sealed);
  for (std::size_t i = 0; i < sealed->size(); ++i) {
    refused(key, nonce, "aad", flipped(*sealed, i));
    refused(key, nonce, "aad", ByteView(*sealed).first(i));
  }
}

TEST(Sm4GcmTest, EmptyTextHasATagAlone) {
  const Bytes key = filled(16, 1);
  const Bytes nonce = filled(12, 2);
  const auto sealed = crypto::sm4_gcm_seal(key, {nonce, {}}, {});
  EXPECT_EQ(sealed->size(), crypto::kGcmTagBytes);
  EXPECT_TRUE(crypto::sm4_gcm_open(key, {nonce, {}}, *sealed)->empty());
}

TEST(Sm4Test, RefusesSizesThatCannotBe) {
  const Bytes nonce = filled(12, 2);
  const crypto::Sm4Block iv{};
  Bytes out(16);
  for (const std::size_t size : {0U, 15U, 17U, 32U}) {
    const Bytes key = filled(size, 1);
    EXPECT_THAT(crypto::sm4_gcm_seal(key, {nonce, {}}, {}), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(crypto::sm4_gcm_open(key, {nonce, {}}, out), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(crypto::sm4_ctr(key, iv, out, out), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(crypto::sm4_cbc_encrypt(key, iv, out), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(crypto::sm4_cbc_decrypt(key, iv, out), FailsWith(Reason::kInvalidArgs));
  }
  const Bytes key = filled(16, 1);
  EXPECT_THAT(crypto::sm4_gcm_seal(key, {{}, {}}, {}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::sm4_gcm_open(key, {filled(129, 0), {}}, out),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(crypto::sm4_ctr(key, iv, filled(15, 0), out), FailsWith(Reason::kInvalidArgs));
}

TEST(Sm4CtrTest, CountsInAllOfTheBlockAndWorksInPlace) {
  const Bytes key = filled(16, 1);
  crypto::Sm4Block counter{};
  counter.fill(std::byte{0xff});
  const Bytes text = filled(40, 9);
  Bytes out(text.size());
  ASSERT_THAT(crypto::sm4_ctr(key, counter, text, out), Succeeds());
  // The second block is the first one under the next counter, which is 0.
  Bytes second(24);
  ASSERT_THAT(crypto::sm4_ctr(key, {}, ByteView(text).subspan(16), second), Succeeds());
  EXPECT_TRUE(std::equal(second.begin(), second.end(), out.begin() + 16));
  ASSERT_THAT(crypto::sm4_ctr(key, counter, out, out), Succeeds());
  EXPECT_EQ(out, text);
  EXPECT_THAT(crypto::sm4_ctr(key, counter, {}, {}), Succeeds());
}

TEST(Sm4CbcTest, EveryLengthComesBackAndIsPadded) {
  const Bytes key = filled(16, 1);
  const crypto::Sm4Block iv{std::byte{7}};
  for (std::size_t size = 0; size < 50; ++size) {
    const auto sealed = crypto::sm4_cbc_encrypt(key, iv, filled(size, 16));
    ASSERT_THAT(sealed, Succeeds());
    EXPECT_EQ(sealed->size(), size / 16 * 16 + 16);
    const auto text = crypto::sm4_cbc_decrypt(key, iv, *sealed);
    ASSERT_THAT(text, Succeeds());
    EXPECT_EQ(plain(*text), filled(size, 16));
  }
}

TEST(Sm4CbcTest, WrongPaddingIsRefused) {
  const Bytes key = filled(16, 1);
  const crypto::Sm4Block iv{};
  // One block under an IV of zeros: what the IV is XORed with comes out of the decryption.
  const auto sealed = crypto::sm4_cbc_encrypt(key, iv, {});
  const auto opened_as = [&](const crypto::Sm4Block& last_block) {
    crypto::Sm4Block shifted{};
    for (std::size_t i = 0; i < 16; ++i) shifted[i] = last_block[i] ^ std::byte{16};
    return crypto::sm4_cbc_decrypt(key, shifted, *sealed);
  };
  for (unsigned count = 0; count < 256; ++count) {
    crypto::Sm4Block block{};
    block.fill(static_cast<std::byte>(count));
    if (count >= 1 && count <= 16) {
      EXPECT_EQ(opened_as(block)->size(), 16 - count);
      block[16 - count] ^= std::byte{1};  // The first byte of the padding.
      if (count > 1) {
        EXPECT_THAT(opened_as(block), FailsWith(Reason::kBlobInvalid)) << count;
      }
    } else {
      EXPECT_THAT(opened_as(block), FailsWith(Reason::kBlobInvalid)) << count;
    }
  }
  for (const std::size_t size : {0U, 1U, 15U, 17U})
    EXPECT_THAT(crypto::sm4_cbc_decrypt(key, iv, filled(size, 0)), FailsWith(Reason::kBlobInvalid));
}

// Whether threads that begin together get one answer.
bool threads_agree() {
  const Bytes key = filled(16, 1);
  const Bytes nonce = filled(12, 2);
  std::vector<std::thread> threads;
  std::vector<Bytes> sealed(4);
  threads.reserve(sealed.size());
  for (auto& out : sealed)
    threads.emplace_back(
        [&] { out = crypto::sm4_gcm_seal(key, {nonce, {}}, as_bytes("text")).value_or(Bytes()); });
  for (auto& thread : threads) thread.join();
  return std::set<Bytes>(sealed.begin(), sealed.end()).size() == 1 && !sealed.front().empty();
}

// In a process of its own, in which nobody has used libgcrypt yet: its set-up is what may go wrong.
TEST(Sm4DeathTest, ManyThreadsMayStartAtOnce) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(std::exit(threads_agree() ? 0 : 1), testing::ExitedWithCode(0), "");
}

class Sm2Test : public testing::Test {
 protected:
  Sm2PrivateKey key_ = *Sm2PrivateKey::generate();
  Sm2PublicKey public_ = *key_.public_key();
};

TEST_F(Sm2Test, SignaturesHoldForTheirKeyMessageAndIdAlone) {
  const auto digest = public_.message_digest(as_bytes("message"));
  ASSERT_THAT(digest, Succeeds());
  const auto signature = key_.sign(*digest);
  ASSERT_THAT(signature, Succeeds());
  EXPECT_THAT(public_.verify(*digest, *signature), Succeeds());
  EXPECT_EQ(*digest, *public_.message_digest(as_bytes("message"), "1234567812345678"));
  for (const auto& other : {public_.message_digest(as_bytes("Message")),
                            public_.message_digest(as_bytes("message"), "123456781234567"),
                            public_.message_digest(as_bytes("message"), "")}) {
    EXPECT_THAT(public_.verify(*other, *signature), FailsWith(Reason::kBlobInvalid));
  }
  const auto other_key = Sm2PrivateKey::generate()->public_key();
  EXPECT_THAT(other_key->verify(*digest, *signature), FailsWith(Reason::kBlobInvalid));
  EXPECT_NE(*other_key->message_digest(as_bytes("message")), *digest);
  Bytes longer = *signature;
  longer.push_back(std::byte{0});
  for (const Bytes& bad : {flipped(*signature, 10), longer, Bytes()})
    EXPECT_THAT(public_.verify(*digest, bad), FailsWith(Reason::kBlobInvalid));
}

TEST_F(Sm2Test, RefusesSizesThatCannotBe) {
  EXPECT_THAT(key_.sign(filled(31, 1)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(key_.sign(filled(48, 1)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(public_.verify({}, {}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(public_.message_digest({}, std::string(8191, 'x')), Succeeds());
  EXPECT_THAT(public_.message_digest({}, std::string(8192, 'x')), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(public_.encrypt({}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(public_.encrypt(filled(4097, 1)), FailsWith(Reason::kInvalidArgs));
}

TEST_F(Sm2Test, TextsOfEveryLengthComeBack) {
  for (const std::size_t size : {1U, 16U, 32U, 100U, 255U, 256U, 4096U}) {
    const auto sent = public_.encrypt(filled(size, 7));
    ASSERT_THAT(sent, Succeeds());
    const auto text = key_.decrypt(*sent);
    ASSERT_THAT(text, Succeeds());
    EXPECT_EQ(plain(*text), filled(size, 7));
  }
}

TEST_F(Sm2Test, EveryChangeOfACiphertextIsRefused) {
  const auto sent = public_.encrypt(as_bytes("a key"));
  for (std::size_t i = 0; i < sent->size(); ++i) {
    EXPECT_THAT(key_.decrypt(flipped(*sent, i)), FailsWith(Reason::kBlobInvalid)) << i;
    EXPECT_THAT(key_.decrypt(ByteView(*sent).first(i)), FailsWith(Reason::kBlobInvalid)) << i;
  }
  EXPECT_THAT(Sm2PrivateKey::generate()->decrypt(*sent), FailsWith(Reason::kBlobInvalid));
}

// One text of one byte in 256 would meet a mask of zero.
TEST_F(Sm2Test, AShortTextIsNeverSentAsItIs) {
  const Bytes text = filled(1, 0x55);
  for (int i = 0; i < 600; ++i)
    ASSERT_NE(crypto::parse_sm2_ciphertext(*public_.encrypt(text))->text, text);
}

TEST_F(Sm2Test, KeysComeBackFromDerAndPem) {
  const auto back = Sm2PrivateKey::parse(key_.to_der()->reveal());
  ASSERT_THAT(back, Succeeds());
  EXPECT_EQ(plain(*back->to_der()), plain(*key_.to_der()));
  const auto there = Sm2PublicKey::parse(as_bytes(*public_.to_pem()));
  ASSERT_THAT(there, Succeeds());
  EXPECT_EQ(*there->to_der(), *public_.to_der());
  // The point stands at the end of the key.
  const Bytes der = *public_.to_der();
  EXPECT_EQ(*there->point(), Bytes(der.end() - 64, der.end()));
}

TEST_F(Sm2Test, OtherKeysAndDamagedOnesAreRefused) {
  const auto p256 = crypto::EcPrivateKey::generate(crypto::EcCurve::kP256);
  EXPECT_THAT(Sm2PrivateKey::parse(p256->to_der()->reveal()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(Sm2PublicKey::parse(*p256->public_key()->to_der()), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(Sm2PublicKey::parse(as_bytes("no key")), FailsWith(Reason::kInvalidArgs));
  const Bytes der = *public_.to_der();
  EXPECT_THAT(Sm2PublicKey::parse(flipped(der, der.size() - 1)), FailsWith(Reason::kInvalidArgs));
  Bytes longer = plain(*key_.to_der());
  longer.push_back(std::byte{0});
  EXPECT_THAT(Sm2PrivateKey::parse(longer), FailsWith(Reason::kInvalidArgs));
  Bytes mixed = plain(*key_.to_der());
  const Bytes other = plain(*Sm2PrivateKey::generate()->to_der());
  std::copy(other.end() - 65, other.end(), mixed.end() - 65);
  EXPECT_THAT(Sm2PrivateKey::parse(mixed), FailsWith(Reason::kInvalidArgs));
}

TEST(Sm2CiphertextTest, OneFormIsReadAndWritten) {
  crypto::Sm2Ciphertext parts;
  parts.x.fill(std::byte{0x81});  // Needs a zero in front.
  parts.y[31] = std::byte{5};     // One byte alone.
  parts.hash.fill(std::byte{0x33});
  for (const std::size_t size : {1U, 60U, 120U, 300U, 4096U}) {
    parts.text = filled(size, 9);
    const Bytes der = crypto::encode_sm2_ciphertext(parts);
    const auto back = crypto::parse_sm2_ciphertext(der);
    ASSERT_THAT(back, Succeeds()) << size;
    EXPECT_EQ(back->x, parts.x);
    EXPECT_EQ(back->y, parts.y);
    EXPECT_EQ(back->hash, parts.hash);
    EXPECT_EQ(back->text, parts.text);
  }
  parts.text = filled(4097, 9);
  EXPECT_THAT(crypto::parse_sm2_ciphertext(crypto::encode_sm2_ciphertext(parts)),
              FailsWith(Reason::kBlobInvalid));
}

TEST(Sm2CiphertextTest, OtherFormsAreRefused) {
  const std::string hash(64, '3');
  const std::string good = "302b0201050201060420" + hash + "0401aa";
  ASSERT_THAT(crypto::parse_sm2_ciphertext(*from_hex(good)), Succeeds());
  for (const std::string& bad : {
           std::string(),
           good + "00",                                          // A byte behind it.
           "30812b0201050201060420" + hash + "0401aa",           // Sizes longer than needed.
           "302c020105020106048120" + hash + "0401aa",           //
           "302c02020005020106042" + ("0" + hash) + "0401aa",    // A zero that is not needed.
           "302b02018502010604" + ("20" + hash) + "0401aa",      // A negative number.
           "302a0201050201060420" + hash + "0400",               // No text.
           "302a020105020106041f" + hash.substr(2) + "0401aa",   // A short hash.
           "302b0201050401060420" + hash + "0401aa",             // Another tag.
           "312b0201050201060420" + hash + "0401aa",             //
           "302e0201050201060420" + hash + "0401aa" + "020101",  // One member more.
           "3080" + good.substr(4) + "0000",                     // BER of unknown length.
       }) {
    EXPECT_THAT(crypto::parse_sm2_ciphertext(from_hex(bad).value_or(Bytes())),
                FailsWith(Reason::kBlobInvalid))
        << bad;
  }
}

}  // namespace
}  // namespace coffer::tests

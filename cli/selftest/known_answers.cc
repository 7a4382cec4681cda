// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cli/selftest/known_answers.h"
#include "cli/selftest/suites.h"
#include "core/base/encoding.h"
#include "core/crypto/aead.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"
#include "core/luks2/digest.h"
#include "core/luks2/profile.h"
#include "core/luks2/token.h"

namespace coffer::cli {
namespace {

Bytes hex(std::string_view text) {
  return from_hex(text).value_or(Bytes());
}

bool is(const Result<SecretBytes>& found, std::string_view wanted) {
  return found && std::ranges::equal(found->reveal(), hex(wanted));
}
bool is(const Result<Bytes>& found, std::string_view wanted) {
  return found && *found == hex(wanted);
}

// FIPS 180-4, RFC 4231, 3394, 5869 and 7914, and case 14 of the GCM submission.
FileReport crypto_answers() {
  FileReport report;
  report.file = "known answers: core/crypto";
  report.count(to_hex(crypto::sha256(as_bytes("abc"))) ==
                   "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
               "SHA-256");
  report.count(
      to_hex(crypto::hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))) ==
          "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
      "HMAC-SHA256");
  report.count(
      is(crypto::aes_kw_wrap(
             hex("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"),
             hex("00112233445566778899aabbccddeeff000102030405060708090a0b0c0d0e0f")),
         "28c9f404c4b810f4cbccb35cfb87f8263f5786e2d80ed326cbc7f0e71a99f43bfb988b9b7a02dd21"),
      "AES key wrap");
  report.count(
      is(crypto::hkdf_sha256(Bytes(22, std::byte{0x0b}),
                             {hex("000102030405060708090a0b0c"), hex("f0f1f2f3f4f5f6f7f8f9")}, 42),
         "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"),
      "HKDF-SHA256");
  report.count(is(crypto::pbkdf2_hmac_sha256(as_bytes("passwd"), as_bytes("salt"), 1, 32),
                  "55ac046e56e3089fec1691c22544b605f94185216dde0465e68b9d57c20dacbc"),
               "PBKDF2-HMAC-SHA256");
  report.count(is(crypto::aes_gcm_seal(Bytes(32), {Bytes(12), {}}, Bytes(16)),
                  "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919"),
               "AES-256-GCM");
  return report;
}

// GM/T 0004, RFC 8998, and OpenSSL's tests.
FileReport sm_answers() {
  FileReport report;
  report.file = "known answers: SM3, SM4";
  report.count(to_hex(crypto::sm3(as_bytes("abc"))) ==
                   "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0",
               "SM3");
  report.count(to_hex(crypto::hmac_sm3(
                   hex("0102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f20"),
                   hex("6162636462636465636465666465666765666768666768696768696a68696a6b696a6b6c6a6"
                       "b6c6d6b6c6d6e"
                       "6c6d6e6f6d6e6f706e6f7071616263646263646563646566646566676566676866676869676"
                       "8696a68696a6b"
                       "696a6b6c6a6b6c6d6b6c6d6e6c6d6e6f6d6e6f706e6f7071"))) ==
                   "ca05e144ed05d1857840d1f318a4a8669e559fc8391f414485bfdf7bb408963a",
               "HMAC-SM3");
  const Bytes key = hex("0123456789abcdeffedcba9876543210");
  const Bytes aad = hex("feedfacedeadbeeffeedfacedeadbeefabaddad2");
  report.count(is(crypto::sm4_gcm_seal(
                      key, {hex("00001234567800000000abcd"), aad},
                      hex("aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"
                          "eeeeeeeeeeeeeeeeffffffffffffffffeeeeeeeeeeeeeeeeaaaaaaaaaaaaaaaa")),
                  "17f399f08c67d5ee19d0dc9969c4bb7d5fd46fd3756489069157b282bb200735"
                  "d82710ca5c22f0ccfa7cbf93d496ac15a56834cbcf98c397b4024a2691233b8d"
                  "83de3541e4c2b58177e065a9bf7b62ec"),
               "SM4-GCM");
  crypto::Sm4Block block{};
  std::ranges::copy(key, block.begin());
  const Bytes text = hex("0123456789abcdeffedcba98765432100123456789abcdeffedcba9876543210");
  Bytes counted(text.size());
  report.count(
      crypto::sm4_ctr(key, block,
                      hex("aaaaaaaaaaaaaaaabbbbbbbbbbbbbbbbccccccccccccccccdddddddddddddddd"),
                      counted) &&
          counted == hex("c2b4759e78ac3cf43d0852f4e8d5f9fd7256e8a5fcb65a350ee00630912e4449"),
      "SM4-CTR");
  // The answer is without padding, which is one block more.
  const auto chained = crypto::sm4_cbc_encrypt(key, block, text);
  report.count(
      chained && std::ranges::equal(
                     ByteView(*chained).first(text.size()),
                     hex("2677f46b09c122cc975533105bd4a22af6125f7275ce552c3a2bbcf533de8a3b")),
      "SM4-CBC");
  return report;
}

// Our own formats: what is printed is read.
FileReport format_answers() {
  FileReport report;
  report.file = "known answers: core/luks2";
  luks2::Profile profile;
  profile.uuid = Uuid::parse("6f1b2a9c-0d3e-4c57-9a55-3b1c0e5f7a10").value_or(Uuid());
  profile.keyslots_bytes = 131072;
  profile.data_offset_bytes = std::uint64_t{16} << 20;
  const auto decoded = luks2::decode_profile(luks2::encode_profile(profile));
  report.count(decoded && *decoded == profile, "profile, binary form");
  const auto parsed = luks2::parse_profile(luks2::print_profile(profile));
  report.count(parsed && *parsed == profile, "profile, JSON form");

  luks2::Token token;
  token.context = Bytes(40, std::byte{1});
  token.wraps = {Bytes(60, std::byte{2})};
  const auto text = luks2::print_token(token);
  const auto again =
      text ? luks2::parse_token(*text) : Result<luks2::Token>(tl::unexpected(text.error()));
  report.count(again && *again == token, "token");

  const auto key = SecretBytes::random(64);
  const auto other = SecretBytes::random(64);
  const auto digest =
      key ? luks2::make_key_digest(*key) : Result<luks2::KeyDigest>(tl::unexpected(key.error()));
  report.count(digest && luks2::check_volume_key(*digest, *key), "volume key digest");
  report.count(digest && other && !luks2::check_volume_key(*digest, *other),
               "volume key digest, other key");
  return report;
}

}  // namespace

std::vector<FileReport> run_known_answers() {
  return {crypto_answers(), sm_answers(), key_pair_answers(), format_answers()};
}

}  // namespace coffer::cli

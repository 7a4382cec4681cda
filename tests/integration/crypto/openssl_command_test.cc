// SPDX-License-Identifier: Apache-2.0
// SM2, SM3, SM4, RSA and ECDSA of core/crypto against the `openssl` command, both ways. Keys and
// passwords are in files of a folder that goes with the test, never in arguments.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <sstream>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "core/crypto/ec.h"
#include "core/crypto/kdf.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"
#include "tests/support/command.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

constexpr std::string_view kText = "a text that is no whole number of blocks";

class OpensslCommandTest : public testing::Test {
 protected:
  void SetUp() override {
    if (run("version") != 0) GTEST_SKIP() << "there is no openssl command";
  }

  std::string at(std::string_view name) const { return folder_.path() / name; }

  void write(std::string_view name, ByteView bytes) const {
    const mode_t before = ::umask(077);
    std::ofstream out(at(name), std::ios::binary | std::ios::trunc);
    out.write(as_text(bytes).data(), static_cast<std::streamsize>(bytes.size()));
    ::umask(before);
  }

  Bytes read(std::string_view name) const {
    return read_file(at(name), std::size_t{1} << 20U).value_or(Bytes());
  }

  // Runs `openssl` with these words; names of files that begin with '@' are in the test's folder.
  // What it prints is output_ afterwards.
  int run(std::string_view command) {
    std::vector<std::string> words{"openssl"};
    std::istringstream in{std::string(command)};
    for (std::string word; in >> word;) {
      const auto mark = word.find('@');
      if (mark != std::string::npos) word = word.substr(0, mark) + at(word.substr(mark + 1));
      words.push_back(word);
    }
    auto end = run_command(std::move(words));
    output_ = std::move(end.output);
    return end.status;
  }

  // The command must succeed.
  void must(std::string_view command) { ASSERT_EQ(run(command), 0) << command << "\n" << output_; }

  // A private and a public key of ours, as the files "key" and "public".
  template <class Key>
  void write_keys(const Key& key) const {
    write("key", key.to_der()->reveal());
    write("public", as_bytes(*key.public_key()->to_pem()));
  }

 private:
  TempDir folder_;
  std::string output_;
};

TEST_F(OpensslCommandTest, Sm3) {
  for (const std::size_t size : {0U, 1U, 63U, 64U, 65U, 100000U}) {
    const Bytes text(size, std::byte{0x61});
    write("text", text);
    must("dgst -sm3 -binary -out @digest @text");
    EXPECT_EQ(to_hex(read("digest")), to_hex(crypto::sm3(text)));
  }
}

TEST_F(OpensslCommandTest, Sm4InBothDirections) {
  // The command takes keys from its arguments or makes them from a password, which may be in a
  // file.
  write("password", as_bytes("password of this test\n"));
  const Bytes salt = *from_hex("0102030405060708");
  const auto derived =
      crypto::pbkdf2_hmac_sha256(as_bytes("password of this test"), salt, 1000, 32);
  ASSERT_THAT(derived, Succeeds());
  const auto key = derived->reveal().first(16);
  crypto::Sm4Block iv{};
  std::ranges::copy(derived->reveal().last(16), iv.begin());
  const std::string common =
      " -pbkdf2 -iter 1000 -md sha256 -S 0102030405060708 -pass file:@password";

  const auto cbc = crypto::sm4_cbc_encrypt(key, iv, as_bytes(kText));
  Bytes ctr(kText.size());
  ASSERT_THAT(crypto::sm4_ctr(key, iv, as_bytes(kText), ctr), Succeeds());
  const auto enc = [&](std::string command, const std::string& cipher, const char* files) {
    command.append(cipher).append(common).append(files);
    must(command);
  };
  for (const auto& [cipher, ours] :
       {std::pair<std::string, Bytes>{"sm4-cbc", *cbc}, {"sm4-ctr", ctr}}) {
    write("text", as_bytes(kText));
    enc("enc -e -", cipher, " -in @text -out @sealed");
    EXPECT_EQ(to_hex(read("sealed")), to_hex(ours)) << cipher;
    write("sealed", ours);
    enc("enc -d -", cipher, " -in @sealed -out @opened");
    EXPECT_EQ(as_text(read("opened")), kText) << cipher;
  }
  EXPECT_EQ(as_text(crypto::sm4_cbc_decrypt(key, iv, *cbc)->reveal()), kText);
}

TEST_F(OpensslCommandTest, Sm2WithOurKey) {
  const auto key = crypto::Sm2PrivateKey::generate();
  write_keys(*key);
  write("text", as_bytes(kText));
  const auto there = key->public_key();
  const auto digest = there->message_digest(as_bytes(kText));
  const std::string named = " -rawin -digest sm3 -pkeyopt distid:1234567812345678";

  write("signature", *key->sign(*digest));
  must("pkeyutl -verify -pubin -inkey @public -sigfile @signature -in @text" + named);
  EXPECT_NE(
      run("pkeyutl -verify -pubin -inkey @public -sigfile @signature -in @text -rawin -digest "
          "sm3 -pkeyopt distid:other"),
      0);
  must("pkeyutl -sign -inkey @key -keyform DER -in @text -out @signature" + named);
  EXPECT_THAT(there->verify(*digest, read("signature")), Succeeds());

  write("sealed", *there->encrypt(as_bytes(kText)));
  must("pkeyutl -decrypt -inkey @key -keyform DER -in @sealed -out @opened");
  EXPECT_EQ(as_text(read("opened")), kText);
  must("pkeyutl -encrypt -pubin -inkey @public -in @text -out @sealed");
  EXPECT_EQ(as_text(key->decrypt(read("sealed"))->reveal()), kText);
}

TEST_F(OpensslCommandTest, Sm2WithItsKey) {
  must("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2 -out @key");
  must("pkey -in @key -pubout -out @public");
  const auto key = crypto::Sm2PrivateKey::parse(read("key"));
  ASSERT_THAT(key, Succeeds());
  const auto there = crypto::Sm2PublicKey::parse(read("public"));
  ASSERT_THAT(there, Succeeds());
  EXPECT_EQ(*key->public_key()->to_der(), *there->to_der());
  must("pkey -pubin -in @public -outform DER -out @public_der");
  EXPECT_EQ(*there->to_der(), read("public_der"));

  write("text", as_bytes(kText));
  for (const std::string id : {"1234567812345678", "another-signer"}) {
    write("signature", *key->sign(*there->message_digest(as_bytes(kText), id)));
    must(
        "pkeyutl -verify -pubin -inkey @public -sigfile @signature -in @text -rawin -digest sm3 "
        "-pkeyopt distid:" +
        id);
  }
}

TEST_F(OpensslCommandTest, RsaSignatures) {
  const auto key = crypto::RsaPrivateKey::generate(2048);
  write_keys(*key);
  const auto there = key->public_key();
  const auto digest = crypto::sha256(as_bytes(kText));
  write("digest", digest);
  const std::string pss =
      " -pkeyopt digest:sha256 -pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:digest "
      "-pkeyopt rsa_mgf1_md:sha256";
  const std::string pkcs1 = " -pkeyopt digest:sha256 -pkeyopt rsa_padding_mode:pkcs1";
  for (const auto& [scheme, options] :
       {std::pair{crypto::RsaScheme::kPssSha256, pss}, {crypto::RsaScheme::kPkcs1Sha256, pkcs1}}) {
    write("signature", *key->sign(scheme, digest));
    must("pkeyutl -verify -pubin -inkey @public -sigfile @signature -in @digest" + options);
    must("pkeyutl -sign -inkey @key -keyform DER -in @digest -out @signature" + options);
    EXPECT_THAT(there->verify(scheme, digest, read("signature")), Succeeds());
  }
  // A salt of another length is not ours.
  must(
      "pkeyutl -sign -inkey @key -keyform DER -in @digest -out @signature -pkeyopt digest:sha256 "
      "-pkeyopt rsa_padding_mode:pss -pkeyopt rsa_pss_saltlen:20");
  EXPECT_THAT(there->verify(crypto::RsaScheme::kPssSha256, digest, read("signature")),
              FailsWith(Reason::kBlobInvalid));
}

TEST_F(OpensslCommandTest, RsaEncryptionWithItsKey) {
  must("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:3072 -out @key");
  must("pkey -in @key -pubout -outform DER -out @public");
  const auto key = crypto::RsaPrivateKey::parse(read("key"));
  const auto there = crypto::RsaPublicKey::parse(read("public"));
  ASSERT_THAT(key, Succeeds());
  ASSERT_THAT(there, Succeeds());
  write("text", as_bytes(kText));
  const std::string oaep = " -pkeyopt rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:";

  for (const auto& [params, name] :
       {std::pair{crypto::kOaepSha1, "sha1"}, {crypto::kOaepSha256, "sha256"}}) {
    must("pkeyutl -encrypt -pubin -keyform DER -inkey @public -in @text -out @sealed" + oaep +
         name);
    EXPECT_EQ(as_text(key->decrypt(params, read("sealed"))->reveal()), kText);
    write("sealed", *there->encrypt(params, as_bytes(kText)));
    must("pkeyutl -decrypt -inkey @key -in @sealed -out @opened" + oaep + name);
    EXPECT_EQ(as_text(read("opened")), kText);
  }
  must("pkeyutl -encrypt -pubin -keyform DER -inkey @public -in @text -out @sealed");
  EXPECT_EQ(as_text(key->decrypt_pkcs1(read("sealed"))->reveal()), kText);
  write("sealed", *there->encrypt_pkcs1(as_bytes(kText)));
  must("pkeyutl -decrypt -inkey @key -in @sealed -out @opened");
  EXPECT_EQ(as_text(read("opened")), kText);
}

TEST_F(OpensslCommandTest, Ecdsa) {
  for (const auto& [curve, name] :
       {std::pair{crypto::EcCurve::kP256, "P-256"}, {crypto::EcCurve::kP384, "P-384"}}) {
    must(std::string("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:") + name + " -out @key");
    must("pkey -in @key -pubout -out @public");
    const auto key = crypto::EcPrivateKey::parse(read("key"));
    const auto there = crypto::EcPublicKey::parse(read("public"));
    ASSERT_THAT(key, Succeeds());
    ASSERT_THAT(there, Succeeds());
    EXPECT_EQ(key->curve(), curve);
    write("text", as_bytes(kText));
    const auto digest = crypto::sha256(as_bytes(kText));
    write("signature", *key->sign(digest));
    must("dgst -sha256 -verify @public -signature @signature @text");
    must("dgst -sha256 -sign @key -out @signature @text");
    EXPECT_THAT(there->verify(digest, read("signature")), Succeeds());
  }
}

}  // namespace
}  // namespace coffer::tests

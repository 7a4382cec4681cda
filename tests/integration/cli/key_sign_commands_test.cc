// SPDX-License-Identifier: Apache-2.0
// `coffer key sign` and `verify` with keys that truly sign, and against the `openssl` command.
#include <fstream>

#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "tests/integration/cli/agent_commands.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

using keyring::KeyAlgorithm;
using testing::HasSubstr;

constexpr const char* kText =
    "a message that is longer than any digest of it would be, by some bytes";

class KeySignCommandsTest : public AgentCommandsTest {
 protected:
  template <class Key>
  CmkId add(const std::string& alias, KeyAlgorithm algorithm, const Key& key) {
    return engine->add_signing_key(alias, algorithm, *key.public_key()->to_der(),
                                   [key](ByteView digest) { return key.sign(digest); });
  }

  std::string file(const std::string& name) const { return (folder.path() / name).string(); }
  void write(const std::string& name, std::string_view bytes) const {
    std::ofstream(file(name), std::ios::binary | std::ios::trunc) << bytes;
  }

  // `coffer key WORDS` with `input` on its standard input.
  CommandResult key(std::string_view input, const std::string& words) {
    write("input", input);
    return run_command(*loop, {"/bin/sh", "-c",
                               (bin_dir() / "coffer").string() + " key " + words + " --bus '" +
                                   bus_.address() + "' < " + file("input")});
  }
  // Signs the text into the file "signature".
  void sign(const std::string& words, std::string_view input = kText) {
    const auto made = key(input, "sign " + words);
    ASSERT_EQ(made.status, 0) << made.err;
    write("signature", made.out);
  }
  int verify(const std::string& words, std::string_view input = kText) {
    return key(input, "verify " + words + " --signature " + file("signature")).status;
  }

  bool have_openssl() { return openssl("version") == 0; }
  // `openssl` WORDS, in which @NAME is a file of the folder.
  int openssl(std::string words) {
    for (auto at = words.find('@'); at != std::string::npos; at = words.find('@', at)) {
      words.replace(at, 1, folder.path().string() + "/");
    }
    return run_command(*loop, {"/bin/sh", "-c", "openssl " + words + " > /dev/null"}).status;
  }
  void write_public_key(const std::string& alias) {
    write("public", coffer({"key", "public-key", alias}).out);
    write("text", kText);
  }

  TempDir folder;
};

TEST_F(KeySignCommandsTest, EcSignaturesAreCheckedWithThePublicKey) {
  for (const auto& [alias, algorithm, curve, digest] :
       {std::tuple("narrow", KeyAlgorithm::kEcP256, crypto::EcCurve::kP256, "sha256"),
        std::tuple("wide", KeyAlgorithm::kEcP384, crypto::EcCurve::kP384, "sha384")}) {
    add(alias, algorithm, *crypto::EcPrivateKey::generate(curve));
    sign(alias);
    EXPECT_EQ(verify(alias), 0) << alias;
    EXPECT_EQ(verify(alias, "another message"), 1) << alias;
    if (!have_openssl()) continue;
    write_public_key(alias);
    EXPECT_EQ(
        openssl(std::string("dgst -") + digest + " -verify @public -signature @signature @text"), 0)
        << alias;
  }
  sign("wide --base64");
  EXPECT_EQ(verify("wide"), 0) << "a signature in base64";
  EXPECT_EQ(verify("narrow"), 1) << "another key's";
  EXPECT_EQ(verify("wide --scheme sm2"), 64);
  EXPECT_EQ(key(kText, "sign wide --distid somebody").status, 64);
}

TEST_F(KeySignCommandsTest, RsaSignaturesAreCheckedByTheirScheme) {
  const auto key_pair = *crypto::RsaPrivateKey::generate(2048);
  engine->add_signing_key("rsa", KeyAlgorithm::kRsa2048, *key_pair.public_key()->to_der(),
                          [key_pair](ByteView digest) {
                            return key_pair.sign(crypto::RsaScheme::kPkcs1Sha256, digest);
                          });
  sign("rsa --scheme rsa-pkcs1-sha256");
  EXPECT_EQ(verify("rsa --scheme rsa-pkcs1-sha256"), 0);
  EXPECT_EQ(verify("rsa"), 1) << "PSS, unless another is named";
  EXPECT_EQ(verify("rsa --scheme ecdsa"), 64);
  EXPECT_EQ(verify("rsa --scheme rsa-pkcs1-sha256 --digest", "no digest"), 64);
}

TEST_F(KeySignCommandsTest, Sm2SignsForTheIdOfWhoSigns) {
  const auto pair = *crypto::Sm2PrivateKey::generate();
  add("sm2", KeyAlgorithm::kSm2, pair);
  const auto verify_there = [&](const char* id) {
    return openssl(
        std::string("pkeyutl -verify -pubin -inkey @public -sigfile @signature -in @text -rawin "
                    "-digest sm3 -pkeyopt distid:") +
        id);
  };
  write_public_key("sm2");

  sign("sm2");
  EXPECT_EQ(verify("sm2"), 0);
  EXPECT_EQ(verify("sm2 --distid 1234567812345678"), 0) << "the usual id";
  EXPECT_EQ(verify("sm2 --distid other"), 1);
  if (have_openssl()) {
    EXPECT_EQ(verify_there("1234567812345678"), 0);
  }

  sign("sm2 --distid other");
  EXPECT_EQ(verify("sm2 --distid other"), 0);
  EXPECT_EQ(verify("sm2"), 1);
  if (have_openssl()) {
    EXPECT_EQ(verify_there("other"), 0);
    EXPECT_NE(verify_there("1234567812345678"), 0);
  }

  // Of the digest it is the same signature scheme: e = SM3(ZA || message).
  const auto digest = *pair.public_key()->message_digest(as_bytes(kText), "third");
  sign("sm2 --digest", as_text(digest));
  EXPECT_EQ(verify("sm2 --distid third"), 0);
  EXPECT_EQ(verify("sm2 --digest", as_text(digest)), 0);
  if (have_openssl()) {
    EXPECT_EQ(verify_there("third"), 0);
  }
  EXPECT_EQ(key(as_text(digest), "sign sm2 --digest --distid x").status, 2);
  EXPECT_EQ(key("short", "sign sm2 --digest").status, 64);
}

TEST_F(KeySignCommandsTest, WhatOpensslSignsIsVerified) {
  if (!have_openssl()) GTEST_SKIP() << "there is no openssl command";
  write("text", kText);
  ASSERT_EQ(openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:SM2 -out @private"), 0);
  add("sm2", KeyAlgorithm::kSm2,
      *crypto::Sm2PrivateKey::parse(*read_file(file("private"), 10'000)));
  ASSERT_EQ(openssl("pkeyutl -sign -inkey @private -in @text -out @signature -rawin -digest sm3 "
                    "-pkeyopt distid:someone"),
            0);
  EXPECT_EQ(verify("sm2 --distid someone"), 0);
  EXPECT_EQ(verify("sm2"), 1);
  ASSERT_EQ(openssl("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-384 -out @private"), 0);
  add("wide", KeyAlgorithm::kEcP384,
      *crypto::EcPrivateKey::parse(*read_file(file("private"), 10'000)));
  ASSERT_EQ(openssl("dgst -sha384 -sign @private -out @signature @text"), 0);
  EXPECT_EQ(verify("wide"), 0);
}

TEST_F(KeySignCommandsTest, AVerdictNeedsAKeyThatSignsInWhateverState) {
  const auto id =
      add("signer", KeyAlgorithm::kEcP256, *crypto::EcPrivateKey::generate(crypto::EcCurve::kP256));
  sign("signer");
  engine->change_record(id, [](auto& record) { record.state = keyring::KeyState::kDisabled; });
  EXPECT_EQ(verify("signer"), 0);
  const auto told = key(kText, "verify signer --json --signature " + file("signature"));
  EXPECT_THAT(told.out, HasSubstr("true"));
  EXPECT_EQ(verify("default"), 64) << "it does not sign";
  EXPECT_EQ(verify("nobody"), 66);
  EXPECT_EQ(key(kText, "verify signer").status, 2);
  EXPECT_NE(key(kText, "verify signer --signature " + file("none")).status, 0);
  write("signature", "");
  EXPECT_EQ(verify("signer"), 1);
}

}  // namespace
}  // namespace coffer::tests

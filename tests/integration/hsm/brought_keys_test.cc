// SPDX-License-Identifier: Apache-2.0
// Private keys that were made and wrapped by the `openssl` command, as docs/operations.md has it,
// and what they do in a vault, looked at by the same command.
#include <gmock/gmock.h>
#include <sys/stat.h>

#include <fstream>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/digest.h"
#include "core/crypto/sm2.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/command.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

using keyring::CmkRecord;
using keyring::DecryptScheme;
using keyring::ImportWrapping;
using keyring::KeyAlgorithm;
using keyring::KeyUsage;
using keyring::SealedRecord;
using keyring::SignScheme;

constexpr std::string_view kText = "a text that somebody signs or encrypts";

class BroughtKeysTest : public testing::Test {
 protected:
  void SetUp() override {
    if (run("version") != 0) GTEST_SKIP() << "there is no openssl command";
    testing::internal::CaptureStderr();  // The development vault's warning.
    vault_ = std::move(*hsm::open_development_vault({}, sink_, system_clock()));
    testing::internal::GetCapturedStderr();
    write("text", as_bytes(kText));
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
  // Runs `openssl` with these words; names that begin with '@' are files of the test's folder.
  int run(const std::string& command) {
    std::vector<std::string> words{"openssl"};
    std::istringstream in{command};
    for (std::string word; in >> word;) {
      words.push_back(word.starts_with('@') ? at(word.substr(1)) : word);
    }
    auto end = run_command(std::move(words));
    output_ = std::move(end.output);
    return end.status;
  }
  void must(const std::string& command) {
    ASSERT_EQ(run(command), 0) << command << "\n" << output_;
  }

  // Makes a key by these words, and imports it; "public" is its public half then, by `openssl`.
  SealedRecord bring(const std::string& words, KeyAlgorithm algorithm, KeyUsage usage,
                     ImportWrapping wrapping = ImportWrapping::kRsaAesSha256) {
    keyring::CmkParameters parameters;
    parameters.alias = "brought";
    parameters.algorithm = algorithm;
    parameters.usage = usage;
    parameters.origin = keyring::KeyOrigin::kImported;
    const auto prepared = vault_->prepare_import(*vault_->create_cmk(parameters), wrapping);
    EXPECT_THAT(prepared, Succeeds());
    if (!prepared) return {};
    const std::string hash = wrapping == ImportWrapping::kRsaAesSha1 ? "sha1" : "sha256";
    write("to", prepared->public_key);
    must("genpkey " + words + " -out @key");
    must("pkey -in @key -pubout -out @public");
    must("pkcs8 -topk8 -nocrypt -in @key -outform DER -out @pkcs8");
    must("rand -out @aes 32");
    must("pkeyutl -encrypt -pubin -keyform DER -inkey @to -in @aes -out @head -pkeyopt " +
         ("rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:" + hash) + " -pkeyopt rsa_mgf1_md:" + hash);
    must("enc -e -id-aes256-wrap-pad -iv A65959A6 -in @pkcs8 -out @behind -K " +
         to_hex(read("aes")));
    const Bytes wrapped = ByteWriter().raw(read("head")).raw(read("behind")).take();
    const auto imported = vault_->import_material(prepared->record, {prepared->token, wrapped, {}});
    EXPECT_THAT(imported, Succeeds());
    if (!imported) return {};
    must("pkey -pubin -in @public -outform DER -out @public.der");
    EXPECT_EQ(to_hex(CmkRecord::decode(*imported)->current().public_key),
              to_hex(read("public.der")));
    return *imported;
  }
  void sign(const SealedRecord& record, SignScheme scheme, ByteView digest) {
    const Bytes one(digest.begin(), digest.end());
    const auto made = vault_->sign(record, scheme, {&one, 1}, soon());
    ASSERT_THAT(made.at(0), Succeeds());
    write("signature", *made[0]);
  }
  void expect_opens(const SealedRecord& record, DecryptScheme scheme) {
    const Bytes one = read("sealed");
    const auto opened = vault_->decrypt(record, scheme, {&one, 1}, soon());
    ASSERT_THAT(opened.at(0), Succeeds());
    EXPECT_EQ(as_text(opened[0]->reveal()), kText);
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(60)); }

  FakeDekSink sink_;
  std::unique_ptr<keyring::KeyVault> vault_;

 private:
  TempDir folder_;
  std::string output_;
};

TEST_F(BroughtKeysTest, RsaKeysSignAndDecrypt) {
  for (const auto& [algorithm, bits] :
       {std::pair(KeyAlgorithm::kRsa2048, "2048"), std::pair(KeyAlgorithm::kRsa3072, "3072"),
        std::pair(KeyAlgorithm::kRsa4096, "4096")}) {
    const auto signer = bring(std::string("-algorithm RSA -pkeyopt rsa_keygen_bits:") + bits,
                              algorithm, KeyUsage::kSignVerify);
    ASSERT_FALSE(signer.empty()) << bits;
    sign(signer, SignScheme::kRsaPkcs1Sha256, crypto::sha256(as_bytes(kText)));
    must("dgst -sha256 -verify @public -signature @signature @text");
    sign(signer, SignScheme::kRsaPssSha256, crypto::sha256(as_bytes(kText)));
    must(
        "dgst -sha256 -verify @public -signature @signature -sigopt rsa_padding_mode:pss "
        "-sigopt rsa_pss_saltlen:-1 @text");
  }
  const auto reader = bring("-algorithm RSA -pkeyopt rsa_keygen_bits:2048", KeyAlgorithm::kRsa2048,
                            KeyUsage::kAsymmetricDecrypt, ImportWrapping::kRsaAesSha1);
  ASSERT_FALSE(reader.empty());
  must("pkeyutl -encrypt -pubin -inkey @public -in @text -out @sealed");
  expect_opens(reader, DecryptScheme::kRsaPkcs1);
  must(
      "pkeyutl -encrypt -pubin -inkey @public -in @text -out @sealed -pkeyopt "
      "rsa_padding_mode:oaep -pkeyopt rsa_oaep_md:sha256 -pkeyopt rsa_mgf1_md:sha256");
  expect_opens(reader, DecryptScheme::kRsaOaepSha256);
}

TEST_F(BroughtKeysTest, EcKeysSign) {
  for (const auto& [algorithm, curve] :
       {std::pair(KeyAlgorithm::kEcP256, "P-256"), std::pair(KeyAlgorithm::kEcP384, "P-384")}) {
    const auto signer = bring(std::string("-algorithm EC -pkeyopt ec_paramgen_curve:") + curve,
                              algorithm, KeyUsage::kSignVerify);
    ASSERT_FALSE(signer.empty()) << curve;
    sign(signer, SignScheme::kEcdsa, crypto::sha256(as_bytes(kText)));
    must("dgst -sha256 -verify @public -signature @signature @text");
  }
}

TEST_F(BroughtKeysTest, Sm2KeysSignAndDecrypt) {
  const std::string words = "-algorithm EC -pkeyopt ec_paramgen_curve:SM2";
  const auto signer = bring(words, KeyAlgorithm::kSm2, KeyUsage::kSignVerify);
  ASSERT_FALSE(signer.empty());
  const auto half = crypto::Sm2PublicKey::parse(read("public.der"));
  ASSERT_THAT(half, Succeeds());
  sign(signer, SignScheme::kSm2, *half->message_digest(as_bytes(kText)));
  must(
      "pkeyutl -verify -pubin -inkey @public -sigfile @signature -in @text -rawin -digest sm3 "
      "-pkeyopt distid:1234567812345678");
  const auto reader = bring(words, KeyAlgorithm::kSm2, KeyUsage::kAsymmetricDecrypt);
  ASSERT_FALSE(reader.empty());
  must("pkeyutl -encrypt -pubin -inkey @public -in @text -out @sealed");
  expect_opens(reader, DecryptScheme::kSm2);
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#include "cli/selftest/suites.h"
#include "cli/selftest/vector_file.h"
#include "cli/selftest/wycheproof_case.h"
#include "core/crypto/sm2.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"

namespace coffer::cli {
namespace {

Outcome run_sm3(const VectorTest& test) {
  const auto digest = crypto::sm3(test.hex("msg"));
  return std::ranges::equal(digest, test.hex("digest")) ? Outcome::kMatches : Outcome::kDiffers;
}

Outcome run_hmac_sm3(const VectorTest& test) {
  const auto tag = crypto::hmac_sm3(test.hex("key"), test.hex("msg"));
  return std::ranges::equal(tag, test.hex("tag")) ? Outcome::kMatches : Outcome::kDiffers;
}

crypto::Sm4Block block_of(const VectorTest& test) {
  crypto::Sm4Block block{};
  const Bytes iv = test.hex("iv");
  std::copy_n(iv.begin(), std::min(iv.size(), block.size()), block.begin());
  return block;
}

Outcome run_sm4_gcm(const VectorTest& test) {
  const Bytes nonce = test.hex("iv");
  const Bytes aad = test.hex("aad");
  const Bytes tag = test.hex("tag");
  const Bytes text = test.hex("pt");
  Bytes sealed = test.hex("ct");
  sealed.insert(sealed.end(), tag.begin(), tag.end());
  const crypto::GcmContext context{nonce, aad};
  return both_ways(compare(crypto::sm4_gcm_open(test.hex("key"), context, sealed), text),
                   crypto::sm4_gcm_seal(test.hex("key"), context, text), sealed);
}

Outcome run_sm4_ctr(const VectorTest& test) {
  const Bytes text = test.hex("pt");
  Bytes out(text.size());
  if (!crypto::sm4_ctr(test.hex("key"), block_of(test), text, out)) return Outcome::kRefused;
  return out == test.hex("ct") ? Outcome::kMatches : Outcome::kDiffers;
}

// The vectors are whole blocks without padding: ours has one block more.
Outcome run_sm4_cbc(const VectorTest& test) {
  const Bytes key = test.hex("key");
  const Bytes text = test.hex("pt");
  const Bytes wanted = test.hex("ct");
  const auto made = crypto::sm4_cbc_encrypt(key, block_of(test), text);
  if (!made) return Outcome::kRefused;
  const bool same = made->size() == wanted.size() + crypto::kSm4BlockBytes &&
                    std::equal(wanted.begin(), wanted.end(), made->begin());
  return same ? compare(crypto::sm4_cbc_decrypt(key, block_of(test), *made), text)
              : Outcome::kDiffers;
}

Outcome run_sm4(const VectorTest& test) {
  const std::string cipher = text_of(test.test, "cipher");
  if (cipher == "SM4-GCM") return run_sm4_gcm(test);
  if (cipher == "SM4-CTR") return run_sm4_ctr(test);
  if (cipher == "SM4-CBC") return run_sm4_cbc(test);
  return Outcome::kSkipped;
}

// The keys of a test stand in it, or at the top of the file for all of them.
Result<crypto::Sm2PrivateKey> private_key_of(const VectorTest& test) {
  const std::string own = text_of(test.test, "private_key_pem");
  return crypto::Sm2PrivateKey::parse(
      as_bytes(own.empty() ? text_of(test.group, "private_key_pem") : own));
}
Result<crypto::Sm2PublicKey> public_key_of(const VectorTest& test) {
  const std::string own = text_of(test.test, "public_key_pem");
  if (!own.empty()) return crypto::Sm2PublicKey::parse(as_bytes(own));
  const auto key = private_key_of(test);
  if (!key) return tl::unexpected(key.error());
  return key->public_key();
}

Outcome run_sm2(const VectorTest& test) {
  const std::string operation = text_of(test.test, "op");
  if (operation == "decrypt") {
    const auto key = private_key_of(test);
    return key ? compare(key->decrypt(test.hex("ct_der")), test.hex("pt")) : Outcome::kDiffers;
  }
  const auto key = public_key_of(test);
  if (!key) return Outcome::kDiffers;
  const Bytes signature = test.hex("sig_der");
  if (operation == "verify_digest") return holds(key->verify(test.hex("e"), signature).has_value());
  if (operation != "verify") return Outcome::kSkipped;
  const auto digest = key->message_digest(test.hex("msg"), text_of(test.test, "id"));
  return digest ? holds(key->verify(*digest, signature).has_value()) : Outcome::kDiffers;
}

struct SmFile {
  std::string_view file;
  Outcome (*run)(const VectorTest&);
};

constexpr std::array<SmFile, 6> kFiles = {{
    {"sm/sm3_published.json", run_sm3},
    {"sm/hmac_sm3_published.json", run_hmac_sm3},
    {"sm/sm4_published.json", run_sm4},
    {"sm/sm4_cross.json", run_sm4},
    {"sm/sm2_published.json", run_sm2},
    {"sm/sm2_cross.json", run_sm2},
}};

// Tests without a result are valid ones.
std::string expected_of(const VectorTest& test) {
  const std::string result = text_of(test.test, "result");
  return result.empty() ? "valid" : result;
}

std::string name_of(const VectorTest& test, std::size_t number) {
  return "test " + std::to_string(number) + " " + text_of(test.test, "cipher") +
         text_of(test.test, "op") + " " + text_of(test.test, "comment");
}

}  // namespace

Result<FileReport> run_sm_vectors(const std::filesystem::path& folder, const VectorSuite& suite) {
  const auto found = std::ranges::find(kFiles, suite.file, &SmFile::file);
  if (found == kFiles.end())
    return fail(Reason::kInternal, "no runner for " + std::string(suite.file));
  const auto root = read_json_file(folder / suite.file);
  if (!root) return tl::unexpected(root.error());
  FileReport report;
  std::size_t number = 0;
  for (const auto& entry : root->as_object().at("tests").as_array()) {
    const VectorTest test{root->as_object(), entry.as_object()};
    const Outcome outcome = found->run(test);
    ++number;
    if (outcome == Outcome::kSkipped) {
      report.skip("a mode that nothing in Coffer uses");
      continue;
    }
    report.count(passes(expected_of(test), outcome), name_of(test, number));
  }
  return report;
}

}  // namespace coffer::cli

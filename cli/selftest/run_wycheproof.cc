// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "cli/selftest/suites.h"
#include "cli/selftest/vector_file.h"
#include "cli/selftest/wycheproof_case.h"
#include "core/crypto/aead.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm3.h"
#include "core/crypto/sm4.h"
#include "core/crypto/xts.h"

namespace coffer::cli {
namespace {

using Seal = Result<Bytes> (*)(ByteView, const crypto::GcmContext&, ByteView);
using Open = Result<SecretBytes> (*)(ByteView, const crypto::GcmContext&, ByteView);

Outcome run_gcm(const VectorTest& test, Seal seal, Open open) {
  const Bytes key = test.hex("key");
  const Bytes nonce = test.hex("iv");
  const Bytes aad = test.hex("aad");
  const Bytes message = test.hex("msg");
  Bytes sealed = test.hex("ct");
  const Bytes tag = test.hex("tag");
  if (nonce.size() > 128) return Outcome::kSkipped;
  sealed.insert(sealed.end(), tag.begin(), tag.end());
  const crypto::GcmContext context{nonce, aad};
  return both_ways(compare(open(key, context, sealed), message), seal(key, context, message),
                   sealed);
}
Outcome run_aes_gcm(const VectorTest& test) {
  return run_gcm(test, crypto::aes_gcm_seal, crypto::aes_gcm_open);
}
Outcome run_sm4_gcm(const VectorTest& test) {
  return run_gcm(test, crypto::sm4_gcm_seal, crypto::sm4_gcm_open);
}

Outcome run_kw(const VectorTest& test) {
  const Bytes kek = test.hex("key");
  const Bytes wrapped = test.hex("ct");
  const Bytes key = test.hex("msg");
  return both_ways(compare(crypto::aes_kw_unwrap(kek, wrapped), key), crypto::aes_kw_wrap(kek, key),
                   wrapped);
}

Outcome run_kwp(const VectorTest& test) {
  const Bytes kek = test.hex("key");
  const Bytes wrapped = test.hex("ct");
  const Bytes key = test.hex("msg");
  return both_ways(compare(crypto::aes_kwp_unwrap(kek, wrapped), key),
                   crypto::aes_kwp_wrap(kek, key), wrapped);
}

Outcome run_xts(const VectorTest& test) {
  const Bytes key = test.hex("key");
  const Bytes iv = test.hex("iv");
  const Bytes message = test.hex("msg");
  const Bytes wanted = test.hex("ct");
  crypto::XtsTweak tweak{};
  const bool key_fits = key.size() == 32 || key.size() == 64;
  if (!key_fits || iv.size() > tweak.size()) return Outcome::kSkipped;
  std::ranges::copy(iv, tweak.begin());
  Bytes found(message.size());
  if (!crypto::aes_xts_encrypt(key, tweak, message, found)) return Outcome::kRefused;
  Bytes back(message.size());
  if (!crypto::aes_xts_decrypt(key, tweak, wanted, back)) return Outcome::kRefused;
  return found == wanted && back == message ? Outcome::kMatches : Outcome::kDiffers;
}

Outcome run_hmac(const VectorTest& test, crypto::HashDigest (*hmac)(ByteView, ByteView)) {
  const Bytes key = test.hex("key");
  const Bytes message = test.hex("msg");
  const auto tag = hmac(key, message);
  const Bytes wanted = test.hex("tag");
  return holds(wanted.size() <= tag.size() && !wanted.empty() &&
               std::ranges::equal(ByteView(tag).first(wanted.size()), wanted));
}
Outcome run_hmac_sha256(const VectorTest& test) {
  return run_hmac(test, crypto::hmac_sha256);
}
Outcome run_hmac_sm3(const VectorTest& test) {
  return run_hmac(test, crypto::hmac_sm3);
}

Outcome run_hkdf_sha256(const VectorTest& test) {
  const Bytes key = test.hex("ikm");
  const Bytes salt = test.hex("salt");
  const Bytes info = test.hex("info");
  return compare(crypto::hkdf_sha256(key, {salt, info}, number_of(test.test, "size")),
                 test.hex("okm"));
}

Outcome run_pbkdf2_sha256(const VectorTest& test) {
  const Bytes password = test.hex("password");
  const Bytes salt = test.hex("salt");
  const auto iterations = static_cast<std::uint32_t>(number_of(test.test, "iterationCount"));
  return compare(
      crypto::pbkdf2_hmac_sha256(password, salt, iterations, number_of(test.test, "dkLen")),
      test.hex("dk"));
}

std::optional<crypto::OaepHash> oaep_hash(const std::string& name) {
  if (name == "SHA-1") return crypto::OaepHash::kSha1;
  if (name == "SHA-256") return crypto::OaepHash::kSha256;
  return std::nullopt;
}

Outcome run_oaep(const VectorTest& test) {
  const auto hash = oaep_hash(text_of(test.group, "sha"));
  const auto mgf_hash = oaep_hash(text_of(test.group, "mgfSha"));
  if (!hash || !mgf_hash) return Outcome::kSkipped;
  const auto key = crypto::RsaPrivateKey::parse(hex_of(test.group, "privateKeyPkcs8"));
  if (!key) return Outcome::kDiffers;
  const Bytes label = test.hex("label");
  return compare(key->decrypt({*hash, *mgf_hash, label}, test.hex("ct")), test.hex("msg"));
}

// Wrong padding gives a text as well, but never the one that would come out of an error ignored.
Outcome run_rsa_pkcs1(const VectorTest& test) {
  const auto key = crypto::RsaPrivateKey::parse(hex_of(test.group, "privateKeyPkcs8"));
  if (!key) return Outcome::kDiffers;
  return compare(key->decrypt_pkcs1(test.hex("ct")), test.hex("msg"));
}

struct Algorithm {
  std::string_view file;
  Outcome (*run)(const VectorTest&);
  std::string_view skip_reason;
};

constexpr std::string_view kLongNonce = "a nonce above 128 bytes";
constexpr std::string_view kOtherPss =
    "another hash, MGF or salt than Coffer's one PSS scheme; refused where it can be asked for";

constexpr std::array<Algorithm, 23> kAlgorithms = {{
    {"aes_gcm.json", run_aes_gcm, kLongNonce},
    {"aes_wrap.json", run_kw, ""},
    {"aes_kwp.json", run_kwp, ""},
    {"aes_xts.json", run_xts, "192-bit keys or a tweak over 128 bits: nothing has them"},
    {"hmac_sha256.json", run_hmac_sha256, ""},
    {"hmac_sm3.json", run_hmac_sm3, ""},
    {"hkdf_sha256.json", run_hkdf_sha256, ""},
    {"pbkdf2_hmacsha256.json", run_pbkdf2_sha256, ""},
    {"rsa_oaep_2048_sha1_mgf1sha1.json", run_oaep, ""},
    {"rsa_oaep_2048_sha256_mgf1sha1.json", run_oaep, ""},
    {"rsa_oaep_2048_sha256_mgf1sha256.json", run_oaep, ""},
    {"rsa_oaep_3072_sha256_mgf1sha256.json", run_oaep, ""},
    {"rsa_oaep_4096_sha256_mgf1sha256.json", run_oaep, ""},
    {"rsa_pkcs1_2048.json", run_rsa_pkcs1, ""},
    {"rsa_signature_2048_sha256.json", run_rsa_pkcs1_signature, ""},
    {"rsa_pss_2048_sha256_mgf1_32.json", run_rsa_pss, ""},
    {"rsa_pss_3072_sha256_mgf1_32.json", run_rsa_pss, ""},
    {"rsa_pss_4096_sha256_mgf1_32.json", run_rsa_pss, ""},
    {"rsa_pss_misc.json", run_rsa_pss, kOtherPss},
    {"ecdsa_secp256r1_sha256.json", run_ecdsa, ""},
    {"ecdsa_secp256r1_sha256_p1363.json", run_ecdsa_p1363, ""},
    {"ecdsa_secp384r1_sha384.json", run_ecdsa, ""},
    {"sm4_gcm.json", run_sm4_gcm, kLongNonce},
}};

}  // namespace

Result<FileReport> run_wycheproof(const std::filesystem::path& folder, const VectorSuite& suite) {
  const auto file = std::filesystem::path(suite.file).filename().string();
  const auto algorithm = std::ranges::find(kAlgorithms, file, &Algorithm::file);
  if (algorithm == kAlgorithms.end()) return fail(Reason::kInternal, "no runner for " + file);
  const auto root = read_json_file(folder / suite.file);
  if (!root) return tl::unexpected(root.error());
  FileReport report;
  for (const auto& group : root->as_object().at("testGroups").as_array()) {
    for (const auto& entry : group.as_object().at("tests").as_array()) {
      const VectorTest test{group.as_object(), entry.as_object()};
      const Outcome outcome = algorithm->run(test);
      if (outcome == Outcome::kSkipped) {
        report.skip(algorithm->skip_reason);
        continue;
      }
      report.count(passes(text_of(test.test, "result"), outcome),
                   "tcId " + std::to_string(number_of(test.test, "tcId")));
    }
  }
  return report;
}

}  // namespace coffer::cli

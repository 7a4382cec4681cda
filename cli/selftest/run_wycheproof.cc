// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "cli/selftest/suites.h"
#include "cli/selftest/vector_file.h"
#include "cli/selftest/vector_json.h"
#include "core/crypto/aead.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/rsa.h"
#include "core/crypto/xts.h"

namespace coffer::cli {
namespace {

using boost::json::object;

// One test: what the product makes of it, and what the file says it should be.
enum class Outcome { kMatches, kDiffers, kRefused, kSkipped };

struct Test {
  const object& group;
  const object& test;

  Bytes hex(std::string_view name) const { return hex_of(test, name); }
};

Outcome compare(const Result<SecretBytes>& found, const Bytes& wanted) {
  if (!found) return Outcome::kRefused;
  return std::ranges::equal(found->reveal(), wanted) ? Outcome::kMatches : Outcome::kDiffers;
}

// A wrap or sealing must also be what the product itself makes of the plaintext.
Outcome both_ways(Outcome opened, const Result<Bytes>& made, const Bytes& wanted) {
  if (opened != Outcome::kMatches) return opened;
  return made && *made == wanted ? Outcome::kMatches : Outcome::kDiffers;
}

Outcome run_gcm(const Test& test) {
  const Bytes key = test.hex("key");
  const Bytes nonce = test.hex("iv");
  const Bytes aad = test.hex("aad");
  const Bytes message = test.hex("msg");
  Bytes sealed = test.hex("ct");
  const Bytes tag = test.hex("tag");
  if (nonce.size() > 128) return Outcome::kSkipped;
  sealed.insert(sealed.end(), tag.begin(), tag.end());
  const crypto::GcmContext context{nonce, aad};
  return both_ways(compare(crypto::aes_gcm_open(key, context, sealed), message),
                   crypto::aes_gcm_seal(key, context, message), sealed);
}

Outcome run_kw(const Test& test) {
  const Bytes kek = test.hex("key");
  const Bytes wrapped = test.hex("ct");
  const Bytes key = test.hex("msg");
  return both_ways(compare(crypto::aes_kw_unwrap(kek, wrapped), key), crypto::aes_kw_wrap(kek, key),
                   wrapped);
}

Outcome run_kwp(const Test& test) {
  const Bytes kek = test.hex("key");
  const Bytes wrapped = test.hex("ct");
  const Bytes key = test.hex("msg");
  return both_ways(compare(crypto::aes_kwp_unwrap(kek, wrapped), key),
                   crypto::aes_kwp_wrap(kek, key), wrapped);
}

Outcome run_xts(const Test& test) {
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

Outcome run_hmac_sha256(const Test& test) {
  const Bytes key = test.hex("key");
  const Bytes message = test.hex("msg");
  const auto tag = crypto::hmac_sha256(key, message);
  const Bytes wanted = test.hex("tag");
  const bool same = wanted.size() <= tag.size() && !wanted.empty() &&
                    std::ranges::equal(ByteView(tag).first(wanted.size()), wanted);
  return same ? Outcome::kMatches : Outcome::kRefused;
}

Outcome run_hkdf_sha256(const Test& test) {
  const Bytes key = test.hex("ikm");
  const Bytes salt = test.hex("salt");
  const Bytes info = test.hex("info");
  return compare(crypto::hkdf_sha256(key, {salt, info}, number_of(test.test, "size")),
                 test.hex("okm"));
}

Outcome run_pbkdf2_sha256(const Test& test) {
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

Outcome run_oaep(const Test& test) {
  const auto hash = oaep_hash(text_of(test.group, "sha"));
  const auto mgf_hash = oaep_hash(text_of(test.group, "mgfSha"));
  if (!hash || !mgf_hash) return Outcome::kSkipped;
  const auto key = crypto::RsaPrivateKey::parse(hex_of(test.group, "privateKeyPkcs8"));
  if (!key) return Outcome::kDiffers;
  const Bytes label = test.hex("label");
  return compare(key->decrypt({*hash, *mgf_hash, label}, test.hex("ct")), test.hex("msg"));
}

struct Algorithm {
  std::string_view file;
  Outcome (*run)(const Test&);
  std::string_view skip_reason;
};

constexpr std::array<Algorithm, 12> kAlgorithms = {{
    {"aes_gcm.json", run_gcm, "a nonce above 128 bytes"},
    {"aes_wrap.json", run_kw, ""},
    {"aes_kwp.json", run_kwp, ""},
    {"aes_xts.json", run_xts, "192-bit keys or a tweak over 128 bits: nothing has them"},
    {"hmac_sha256.json", run_hmac_sha256, ""},
    {"hkdf_sha256.json", run_hkdf_sha256, ""},
    {"pbkdf2_hmacsha256.json", run_pbkdf2_sha256, ""},
    {"rsa_oaep_2048_sha1_mgf1sha1.json", run_oaep, ""},
    {"rsa_oaep_2048_sha256_mgf1sha1.json", run_oaep, ""},
    {"rsa_oaep_2048_sha256_mgf1sha256.json", run_oaep, ""},
    {"rsa_oaep_3072_sha256_mgf1sha256.json", run_oaep, ""},
    {"rsa_oaep_4096_sha256_mgf1sha256.json", run_oaep, ""},
}};

// An acceptable test may go either way, but never give another value.
bool passes(const std::string& expected, Outcome outcome) {
  if (expected == "valid") return outcome == Outcome::kMatches;
  if (expected == "invalid") return outcome != Outcome::kMatches;
  return outcome != Outcome::kDiffers;
}

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
      const Test test{group.as_object(), entry.as_object()};
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

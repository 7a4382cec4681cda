// SPDX-License-Identifier: Apache-2.0
#include "cli/selftest/suites.h"

#include <array>

namespace coffer::cli {
namespace {

constexpr std::string_view kUnused = "nothing in Coffer uses it yet";
constexpr std::string_view kMerkle = "the audit log has no Merkle tree yet";
constexpr std::string_view kKms = "the KMS is not built yet";

constexpr VectorSuite skipped(std::string_view file, std::string_view reason) {
  return {file, nullptr, reason};
}
constexpr VectorSuite wycheproof(std::string_view file) {
  return {file, run_wycheproof, {}};
}

constexpr VectorSuite sm(std::string_view file) {
  return {file, run_sm_vectors, {}};
}

constexpr std::array kSuites = {
    wycheproof("wycheproof/aes_gcm.json"),
    wycheproof("wycheproof/aes_wrap.json"),
    wycheproof("wycheproof/aes_kwp.json"),
    wycheproof("wycheproof/aes_xts.json"),
    wycheproof("wycheproof/hmac_sha256.json"),
    wycheproof("wycheproof/hkdf_sha256.json"),
    wycheproof("wycheproof/pbkdf2_hmacsha256.json"),
    wycheproof("wycheproof/rsa_oaep_2048_sha1_mgf1sha1.json"),
    wycheproof("wycheproof/rsa_oaep_2048_sha256_mgf1sha1.json"),
    wycheproof("wycheproof/rsa_oaep_2048_sha256_mgf1sha256.json"),
    wycheproof("wycheproof/rsa_oaep_3072_sha256_mgf1sha256.json"),
    wycheproof("wycheproof/rsa_oaep_4096_sha256_mgf1sha256.json"),
    skipped("wycheproof/aes_cmac.json", kUnused),
    skipped("wycheproof/c2sp_chunked_encryption_aes_256_gcm.json", kUnused),
    wycheproof("wycheproof/ecdsa_secp256r1_sha256.json"),
    wycheproof("wycheproof/ecdsa_secp256r1_sha256_p1363.json"),
    wycheproof("wycheproof/ecdsa_secp384r1_sha384.json"),
    skipped("wycheproof/ed25519.json", kUnused),
    skipped("wycheproof/hmac_sha384.json", kUnused),
    skipped("wycheproof/hmac_sha512.json", kUnused),
    wycheproof("wycheproof/hmac_sm3.json"),
    wycheproof("wycheproof/rsa_pkcs1_2048.json"),
    wycheproof("wycheproof/rsa_pss_2048_sha256_mgf1_32.json"),
    wycheproof("wycheproof/rsa_pss_3072_sha256_mgf1_32.json"),
    wycheproof("wycheproof/rsa_pss_4096_sha256_mgf1_32.json"),
    wycheproof("wycheproof/rsa_pss_misc.json"),
    wycheproof("wycheproof/rsa_signature_2048_sha256.json"),
    skipped("wycheproof/sm4_ccm.json", kUnused),
    wycheproof("wycheproof/sm4_gcm.json"),
    sm("sm/hmac_sm3_published.json"),
    sm("sm/sm2_cross.json"),
    sm("sm/sm2_published.json"),
    sm("sm/sm3_published.json"),
    sm("sm/sm4_cross.json"),
    sm("sm/sm4_published.json"),
    VectorSuite{"luks2/headers.json", run_header_vectors, {}},
    VectorSuite{"luks2/volumes.json", run_volume_vectors, {}},
    VectorSuite{"luks2/inprogress.json", run_inprogress_vectors, {}},
    VectorSuite{"dmcrypt/sectors.json", run_sector_vectors, {}},
    VectorSuite{"pkcs11/uri.json", run_uri_vectors, {}},
    VectorSuite{"json/parsing.json", run_json_vectors, {}},
    skipped("merkle/consistency.json", kMerkle),
    skipped("merkle/inclusion.json", kMerkle),
    skipped("kms/tc3_sign.json", kKms),
};

}  // namespace

std::span<const VectorSuite> vector_suites() {
  return kSuites;
}

}  // namespace coffer::cli

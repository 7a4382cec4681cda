// SPDX-License-Identifier: Apache-2.0
#include <openssl/evp.h>

#include "cli/selftest/wycheproof_case.h"
#include "core/crypto/digest.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"

namespace coffer::cli {
namespace {

// Of the message, with the hash that the group names; empty for one that is not known.
Bytes digest_of(const VectorTest& test) {
  const std::string name = text_of(test.group, "sha");
  const EVP_MD* const algorithm = name == "SHA-256"   ? ::EVP_sha256()
                                  : name == "SHA-384" ? ::EVP_sha384()
                                                      : nullptr;
  if (algorithm == nullptr) return {};
  const Bytes message = test.hex("msg");
  Bytes digest(static_cast<std::size_t>(::EVP_MD_get_size(algorithm)));
  if (::EVP_Digest(message.data(), message.size(), reinterpret_cast<unsigned char*>(digest.data()),
                   nullptr, algorithm, nullptr) != 1) {
    return {};
  }
  return digest;
}

Outcome verify_rsa(const VectorTest& test, crypto::RsaScheme scheme) {
  const Bytes digest = digest_of(test);
  const auto key = crypto::RsaPublicKey::parse(hex_of(test.group, "publicKeyDer"));
  if (digest.size() != crypto::kSha256Bytes) return Outcome::kSkipped;
  return holds(key && key->verify(scheme, digest, test.hex("sig")).has_value());
}

Outcome verify_ecdsa(const VectorTest& test, const Bytes& signature) {
  const auto key = crypto::EcPublicKey::parse(hex_of(test.group, "publicKeyDer"));
  return holds(key && key->verify(digest_of(test), signature).has_value());
}

}  // namespace

Outcome run_rsa_pkcs1_signature(const VectorTest& test) {
  return verify_rsa(test, crypto::RsaScheme::kPkcs1Sha256);
}

Outcome run_rsa_pss(const VectorTest& test) {
  const Outcome outcome = verify_rsa(test, crypto::RsaScheme::kPssSha256);
  const bool ours =
      text_of(test.group, "mgfSha") == "SHA-256" && number_of(test.group, "sLen") == 32;
  if (ours || outcome == Outcome::kSkipped) return outcome;
  // Good signatures with another MGF or salt are not Coffer's and must be refused.
  return outcome == Outcome::kRefused ? Outcome::kSkipped : Outcome::kDiffers;
}

Outcome run_ecdsa(const VectorTest& test) {
  return verify_ecdsa(test, test.hex("sig"));
}

Outcome run_ecdsa_p1363(const VectorTest& test) {
  const auto der =
      crypto::signature_to_der(test.hex("sig"), crypto::scalar_bytes(crypto::EcCurve::kP256));
  return der ? verify_ecdsa(test, *der) : Outcome::kRefused;
}

}  // namespace coffer::cli

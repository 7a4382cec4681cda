// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "cli/selftest/known_answers.h"
#include "core/base/encoding.h"
#include "core/crypto/digest.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"

// One published signature or ciphertext of each algorithm that has keys of two halves, and one of
// our own. The first ones are from the vectors that tests/vectors names: Wycheproof's, and those of
// OpenSSL's tests for SM2.
namespace coffer::cli {
namespace {

// The key and the message of the two vectors below.
constexpr std::string_view kRsaKey =
    "30820122300d06092a864886f70d01010105000382010f003082010a0282010100a2b451a07d0aa5f96e4556"
    "71513550514a8a5b462ebef717094fa1fee82224e637f9746d3f7cafd31878d80325b6ef5a1700f65903b469"
    "429e89d6eac8845097b5ab393189db92512ed8a7711a1253facd20f79c15e8247f3d3e42e46e48c98e254a2f"
    "e9765313a03eff8f17e1a029397a1fa26a8dce26f490ed81299615d9814c22da610428e09c7d9658594266f5"
    "c021d0fceca08d945a12be82de4d1ece6b4c03145b5d3495d4ed5411eb878daf05fd7afc3e09ada0f1126422"
    "f590975a1969816f48698bcbba1b4d9cae79d460d8f9f85e7975005d9bc22c4e5ac0f7c1a45d12569a62807d"
    "3b9a02e5a530e773066f453d1f5b4c2e9cf7820283f742b9d50203010001";
constexpr std::string_view kRsaMessage = "54657374";

// rsa_pss_2048_sha256_mgf1_32.json, tcId 3
constexpr std::string_view kPssSignature =
    "401eb03cdb47ca88033e3030f6bdecbac8f5c8fc1dd6a13d23d379ed9a2b309891d13d74fea9d21d159b9e6d"
    "8f37efa2489962e24555f56dd434ff1d31ce4f9f5abd3f22cbea8b691d6a11e44efb83e2bca155e6a164325e"
    "0fde2a8865afd5c9f51161a9d615f62af7ec2e31b3e5ab649c164490d31d88cfae35b84aea7925690f929a14"
    "4b6d2f48e8fb894a52deecd1b9a6496990c4ecf1588699a42cacd10c53af350514e4291ea9a058e77f101e32"
    "c1c0cefa61d945f7bc931f8bd19e7ba3169358a60e5a8b0123bc3199b9fdcafe8e519c41ba675491a27b85e4"
    "4ef2d77277c10fe107293c8290186913bc9a99b640d8da041b64f31eab1d35920985f4a5";

// rsa_signature_2048_sha256.json, tcId 3
constexpr std::string_view kPkcs1Signature =
    "264491e844c119f14e425c03282139a558dcdaeb82a4628173cd407fd319f9076eaebc0dd87a1c22e4d17839"
    "096886d58a9d5b7f7aeb63efec56c45ac7bead4203b6886e1faa90e028ec0ae094d46bf3f97efdd19045cfbc"
    "25a1abda2432639f9876405c0d68f8edbf047c12a454f7681d5d5a2b54bd3723d193dbad4338baad75326400"
    "6e2d08931c4b8bb79aa1c9cad10eb6605f87c5831f6e2b08e002f9c6f21141f5841d92727dd3e1d99c36bc56"
    "0da3c9067df99fcaf818941f72588be33032bad22caf6704223bb114d575b6d02d9d222b580005d930e8f40c"
    "ce9f672eebb634a20177d84351627964b83f2053d736a84ab1a005f63bd5ba943de6205c";

// ecdsa_secp256r1_sha256.json, tcId 3
constexpr std::string_view kP256Key =
    "3059301306072a8648ce3d020106082a8648ce3d0301070342000404aaec73635726f213fb8a9e64da3b8632"
    "e41495a944d0045b522eba7240fad587d9315798aaa3a5ba01775787ced05eaaf7b4e09fc81d6d1aa546e836"
    "5d525d";
constexpr std::string_view kP256Message = "313233343030";
constexpr std::string_view kP256Signature =
    "3046022100a8ea150cb80125d7381c4c1f1da8e9de2711f9917060406a73d7904519e51388022100f3ab9fa6"
    "8bd47973a73b2d40480c2ba50c22c9d76ec217257288293285449b86";

// ecdsa_secp384r1_sha384.json, tcId 3, with the SHA-384 of its message.
constexpr std::string_view kP384Key =
    "3076301006072a8648ce3d020106052b810400220362000429bdb76d5fa741bfd70233cb3a66cc7d44beb3b0"
    "663d92a8136650478bcefb61ef182e155a54345a5e8e5e88f064e5bc9a525ab7f764dad3dae1468c2b419f3b"
    "62b9ba917d5e8c4fb1ec47404a3fc76474b2713081be9db4c00e043ada9fc4a3";
constexpr std::string_view kP384Digest =
    "f9b127f0d81ebcd17b7ba0ea131c660d340b05ce557c82160e0f793de07d38179023942871acb7002dfafdff"
    "fc8deace";
constexpr std::string_view kP384Signature =
    "30650230234503fcca578121986d96be07fbc8da5d894ed8588c6dbcdbe974b4b813b21c52d20a8928f2e2fd"
    "ac14705b0705498c023100cd7b9b766b97b53d1a80fc0b760af16a11bf4a59c7c367c6c7275dfb6e18a88091"
    "eed3734bf5cf41b3dc6fecd6d3baaf";

// sm2_cross.json, the first test, and sm2_published.json, the fifth.
constexpr std::string_view kSm2PublicKey =
    "3059301306072a8648ce3d020106082a811ccf5501822d034200049c22c9bd4c08c5a6132b54cd6bdb0101d0"
    "4d64e8eba377cc5e2580f20257ab72557f40055194b83f2c9ea1822d7a56733e1390b379178175e230c1919b"
    "cd1241";
constexpr std::string_view kSm2Message = "6d73672d302d";
constexpr std::string_view kSm2Signature =
    "3045022064317af4468481a07286749b38ea20482df5c8be52e767c07f485c659fd253ca022100ca63769967"
    "03c336e9fb72116057df5c11a0a464e9d1f6cbc6afe77d537babba";
constexpr std::string_view kSm2PrivateKey =
    "308187020100301306072a8648ce3d020106082a811ccf5501822d046d306b0201010420d09156733017bdad"
    "809fd9bbd8c693f60230593169b6f94aaf1c8ee138cc99b5a14403420004393a2ad9e27e43acaaab85a19d3b"
    "85591e14406157175addd37bf77ff0caf9ed37fcf3a8b4f55c038523261fca6636afe6a7afa2a1482a606f5c"
    "b3a18b2e2a1e";
constexpr std::string_view kSm2Ciphertext =
    "3072022070dad60cda7c30d64cf4f278a849003581223f5324bfec9bb329229bffad21a6021f18afab2b3545"
    "9d2643243b242be4ea80c6fa5071d2d847340cc57eb9309e5d04200b772e4db664b2601e3b85e39c4aa8c2c1"
    "910308be13b331e009c5a9258c29fd040b6d588be9260a94da18e0e6";
constexpr std::string_view kSm2Text = "Hello World";

Bytes hex(std::string_view text) {
  return from_hex(text).value_or(Bytes());
}

bool rsa_holds(crypto::RsaScheme scheme, std::string_view signature) {
  const auto key = crypto::RsaPublicKey::parse(hex(kRsaKey));
  return key && key->verify(scheme, crypto::sha256(hex(kRsaMessage)), hex(signature));
}

bool ecdsa_holds(std::string_view key_der, ByteView digest, std::string_view signature) {
  const auto key = crypto::EcPublicKey::parse(hex(key_der));
  return key && key->verify(digest, hex(signature));
}

bool sm2_holds() {
  const auto key = crypto::Sm2PublicKey::parse(hex(kSm2PublicKey));
  if (!key) return false;
  const auto digest = key->message_digest(hex(kSm2Message));
  return digest && key->verify(*digest, hex(kSm2Signature));
}

bool sm2_decrypts() {
  const auto key = crypto::Sm2PrivateKey::parse(hex(kSm2PrivateKey));
  if (!key) return false;
  const auto text = key->decrypt(hex(kSm2Ciphertext));
  return text && as_text(text->reveal()) == kSm2Text;
}

// Whether a signature of a new key holds, and not for another digest; `scheme`: how the key signs,
// where it has several ways.
template <class Key, class... Scheme>
bool signs(const Result<Key>& key, Scheme... scheme) {
  if (!key) return false;
  const auto there = key->public_key();
  const auto digest = crypto::sha256(as_bytes("coffer"));
  const auto other = crypto::sha256(as_bytes("other"));
  const auto signature = key->sign(scheme..., digest);
  return there && signature && there->verify(scheme..., digest, *signature) &&
         !there->verify(scheme..., other, *signature);
}

}  // namespace

FileReport key_pair_answers() {
  using crypto::RsaScheme;
  FileReport report;
  report.file = "known answers: RSA, ECDSA, SM2";
  report.count(rsa_holds(RsaScheme::kPssSha256, kPssSignature), "RSA-PSS");
  report.count(!rsa_holds(RsaScheme::kPssSha256, kPkcs1Signature), "RSA-PSS, another signature");
  report.count(rsa_holds(RsaScheme::kPkcs1Sha256, kPkcs1Signature), "RSA PKCS #1");
  report.count(ecdsa_holds(kP256Key, crypto::sha256(hex(kP256Message)), kP256Signature),
               "ECDSA P-256");
  report.count(ecdsa_holds(kP384Key, hex(kP384Digest), kP384Signature), "ECDSA P-384");
  report.count(sm2_holds(), "SM2 signature");
  report.count(sm2_decrypts(), "SM2 decryption");

  const auto rsa = crypto::RsaPrivateKey::generate(2048);
  report.count(signs(rsa, RsaScheme::kPssSha256), "RSA-PSS, own signature");
  report.count(signs(rsa, RsaScheme::kPkcs1Sha256), "RSA PKCS #1, own signature");
  report.count(signs(crypto::EcPrivateKey::generate(crypto::EcCurve::kP256)),
               "ECDSA P-256, own signature");
  report.count(signs(crypto::EcPrivateKey::generate(crypto::EcCurve::kP384)),
               "ECDSA P-384, own signature");
  report.count(signs(crypto::Sm2PrivateKey::generate()), "SM2, own signature");
  return report;
}

}  // namespace coffer::cli

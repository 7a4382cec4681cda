// SPDX-License-Identifier: Apache-2.0
#include "hsm/rooted_keys.h"

#include <array>
#include <string>
#include <variant>

#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "core/crypto/sm4.h"
#include "hsm/gcm_cipher.h"
#include "hsm/key_pair.h"

namespace coffer::hsm {

using keyring::DecryptScheme;
using keyring::KeyAlgorithm;
using keyring::KeySupport;
using keyring::KeyUsage;
using keyring::Protection;
using keyring::SignScheme;

namespace {

constexpr std::size_t kAesKeyBytes = 32;

constexpr std::array kAlgorithms{
    KeyAlgorithm::kAes256,  KeyAlgorithm::kSm4, KeyAlgorithm::kRsa2048, KeyAlgorithm::kRsa3072,
    KeyAlgorithm::kRsa4096, KeyAlgorithm::kSm2, KeyAlgorithm::kEcP256,  KeyAlgorithm::kEcP384};
constexpr std::array kUsages{KeyUsage::kEncryptDecrypt, KeyUsage::kAsymmetricDecrypt,
                             KeyUsage::kSignVerify};

unsigned rsa_bits(KeyAlgorithm algorithm) {
  if (algorithm == KeyAlgorithm::kRsa2048) return 2048;
  return algorithm == KeyAlgorithm::kRsa3072 ? 3072 : 4096;
}

crypto::EcCurve curve_of(KeyAlgorithm algorithm) {
  return algorithm == KeyAlgorithm::kEcP256 ? crypto::EcCurve::kP256 : crypto::EcCurve::kP384;
}

// What binds closed bytes to their place: they open as that version of that key alone.
Bytes place_of(const CmkId& cmk, std::uint32_t number, KeyAlgorithm algorithm) {
  return ByteWriter()
      .text("coffer rooted key")
      .raw(cmk.bytes())
      .u32(number)
      .u8(static_cast<std::uint8_t>(algorithm))
      .take();
}

Result<KeyPair> draw(KeyAlgorithm algorithm) {
  switch (algorithm) {
    case KeyAlgorithm::kAes256:
    case KeyAlgorithm::kSm4: {
      auto key = SecretBytes::random(RootedKeys::symmetric_bytes(algorithm));
      if (!key) return tl::unexpected(key.error());
      return KeyPair{std::move(*key), {}};
    }
    case KeyAlgorithm::kRsa2048:
    case KeyAlgorithm::kRsa3072:
    case KeyAlgorithm::kRsa4096:
      return key_pair_of(crypto::RsaPrivateKey::generate(rsa_bits(algorithm)));
    case KeyAlgorithm::kSm2:
      return key_pair_of(crypto::Sm2PrivateKey::generate());
    case KeyAlgorithm::kEcP256:
    case KeyAlgorithm::kEcP384:
      return key_pair_of(crypto::EcPrivateKey::generate(curve_of(algorithm)));
  }
  return fail(Reason::kUnsupported, "no such algorithm");
}

using Secret =
    std::variant<SecretBytes, crypto::RsaPrivateKey, crypto::Sm2PrivateKey, crypto::EcPrivateKey>;

// What draw() made, back from its bytes.
Result<Secret> secret_of(KeyAlgorithm algorithm, SecretBytes bytes) {
  const auto taken = [](auto parsed) -> Result<Secret> {
    if (parsed) return Secret(std::move(*parsed));
    return fail(Reason::kRecordInvalid, "its bytes are not those of a private key");
  };
  switch (algorithm) {
    case KeyAlgorithm::kAes256:
    case KeyAlgorithm::kSm4:
      if (bytes.size() == RootedKeys::symmetric_bytes(algorithm)) return Secret(std::move(bytes));
      return fail(Reason::kRecordInvalid, "its bytes are of another length");
    case KeyAlgorithm::kRsa2048:
    case KeyAlgorithm::kRsa3072:
    case KeyAlgorithm::kRsa4096:
      return taken(crypto::RsaPrivateKey::parse(bytes.reveal()));
    case KeyAlgorithm::kSm2:
      return taken(crypto::Sm2PrivateKey::parse(bytes.reveal()));
    case KeyAlgorithm::kEcP256:
    case KeyAlgorithm::kEcP384:
      return taken(crypto::EcPrivateKey::parse(bytes.reveal()));
  }
  return fail(Reason::kRecordInvalid, "no such algorithm");
}

tl::unexpected<Error> wrong_usage(const TokenKey& key, std::string_view what) {
  return fail(Reason::kKeyUsage, "key " + key.record.id.str() + " is one of " +
                                     std::string(key_algorithm_name(key.record.algorithm)) +
                                     " and does not " + std::string(what));
}

}  // namespace

struct RootedKeys::Opened {
  Bytes material;  // What it was opened from.
  Secret key;
};

RootedKeys::RootedKeys(VaultToken& token, std::size_t keys_max)
    : token_(token), keys_max_(keys_max) {}
RootedKeys::~RootedKeys() = default;

std::size_t RootedKeys::symmetric_bytes(KeyAlgorithm algorithm) noexcept {
  return algorithm == KeyAlgorithm::kSm4 ? crypto::kSm4KeyBytes : kAesKeyBytes;
}

std::vector<KeySupport> RootedKeys::supports() {
  std::vector<KeySupport> all;
  for (const auto algorithm : kAlgorithms) {
    for (const auto usage : kUsages) {
      if (keyring::fits(algorithm, usage)) all.push_back({algorithm, usage, Protection::kRooted});
    }
  }
  return all;
}

Result<NewKey> RootedKeys::generate(const CmkId& cmk, std::uint32_t number,
                                    const KeySupport& kind) {
  auto pair = draw(kind.algorithm);
  if (!pair) return tl::unexpected(pair.error());
  return close(cmk, number, kind.algorithm, std::move(*pair));
}

Result<NewKey> RootedKeys::close(const CmkId& cmk, std::uint32_t number, KeyAlgorithm algorithm,
                                 KeyPair key) {
  auto material = token_.close_rooted(key.secret, place_of(cmk, number, algorithm));
  if (!material) return tl::unexpected(material.error());
  return NewKey{std::move(*material), std::move(key.public_key)};
}

Result<NewKey> RootedKeys::import_key(const CmkId& cmk, std::uint32_t number,
                                      const KeySupport& kind, KeyPair key) {
  const bool fits = keyring::is_symmetric(kind.algorithm)
                        ? key.secret.size() == symmetric_bytes(kind.algorithm)
                        : !key.secret.empty() && !key.public_key.empty();
  if (!fits) {
    return fail(Reason::kImportRefused,
                "what was brought is no key of " + std::string(key_algorithm_name(kind.algorithm)));
  }
  return close(cmk, number, kind.algorithm, std::move(key));
}

Result<std::shared_ptr<const RootedKeys::Opened>> RootedKeys::open(const TokenKey& key) {
  const Name name{key.record.id, key.version.number};
  std::uint64_t drops = 0;
  {
    const std::lock_guard lock(mutex_);
    drops = drops_;
    const auto found = kept_.find(name);
    if (found != kept_.end() && found->second.key->material == key.version.material) {
      by_use_.splice(by_use_.begin(), by_use_, found->second.place);
      return found->second.key;
    }
  }
  auto bytes = token_.open_rooted(
      key.version.material, place_of(key.record.id, key.version.number, key.record.algorithm));
  if (!bytes) return tl::unexpected(bytes.error());
  auto secret = secret_of(key.record.algorithm, std::move(*bytes));
  if (!secret) return pass(secret.error(), "open key " + key.record.id.str());
  const auto opened =
      std::make_shared<const Opened>(Opened{key.version.material, std::move(*secret)});
  keep(name, opened, drops);
  return opened;
}

void RootedKeys::keep(const Name& name, const std::shared_ptr<const Opened>& key,
                      std::uint64_t drops) {
  const std::lock_guard lock(mutex_);
  if (drops != drops_) return;
  const auto found = kept_.find(name);
  if (found != kept_.end()) {
    by_use_.erase(found->second.place);
    kept_.erase(found);
  }
  while (kept_.size() >= keys_max_ && !by_use_.empty()) {
    kept_.erase(by_use_.back());
    by_use_.pop_back();
  }
  by_use_.push_front(name);
  kept_.emplace(name, Kept{key, by_use_.begin()});
}

void RootedKeys::drop(const CmkId& cmk) {
  const std::lock_guard lock(mutex_);
  ++drops_;
  for (auto at = kept_.begin(); at != kept_.end();) {
    if (at->first.first != cmk) {
      ++at;
      continue;
    }
    by_use_.erase(at->second.place);
    at = kept_.erase(at);
  }
}

Result<Ciphertext> RootedKeys::encrypt(const TokenKey& key, const EncryptJob& job) {
  const auto opened = open(key);
  if (!opened) return tl::unexpected(opened.error());
  const auto* bytes = std::get_if<SecretBytes>(&(*opened)->key);
  if (bytes == nullptr) return wrong_usage(key, "wrap");
  return gcm_encrypt(key.record.algorithm, bytes->reveal(), job);
}

Result<SecretBytes> RootedKeys::decrypt(const TokenKey& key, const DecryptJob& job) {
  const auto opened = open(key);
  if (!opened) return tl::unexpected(opened.error());
  const auto* bytes = std::get_if<SecretBytes>(&(*opened)->key);
  if (bytes == nullptr) return wrong_usage(key, "unwrap");
  return gcm_decrypt(key.record.algorithm, bytes->reveal(), job);
}

Result<Bytes> RootedKeys::sign(const TokenKey& key, SignScheme scheme, ByteView digest) {
  const auto opened = open(key);
  if (!opened) return tl::unexpected(opened.error());
  const auto& secret = (*opened)->key;
  if (const auto* rsa = std::get_if<crypto::RsaPrivateKey>(&secret)) {
    if (scheme == SignScheme::kRsaPssSha256)
      return rsa->sign(crypto::RsaScheme::kPssSha256, digest);
    if (scheme == SignScheme::kRsaPkcs1Sha256) {
      return rsa->sign(crypto::RsaScheme::kPkcs1Sha256, digest);
    }
  }
  if (const auto* sm2 = std::get_if<crypto::Sm2PrivateKey>(&secret)) {
    if (scheme == SignScheme::kSm2) return sm2->sign(digest);
  }
  if (const auto* ec = std::get_if<crypto::EcPrivateKey>(&secret)) {
    if (scheme == SignScheme::kEcdsa) return ec->sign(digest);
  }
  return wrong_usage(key, "sign by " + std::string(sign_scheme_name(scheme)));
}

Result<SecretBytes> RootedKeys::decrypt_asymmetric(const TokenKey& key, DecryptScheme scheme,
                                                   ByteView ciphertext) {
  const auto opened = open(key);
  if (!opened) return tl::unexpected(opened.error());
  const auto& secret = (*opened)->key;
  if (const auto* rsa = std::get_if<crypto::RsaPrivateKey>(&secret)) {
    if (scheme == DecryptScheme::kRsaPkcs1) return rsa->decrypt_pkcs1(ciphertext);
    if (scheme == DecryptScheme::kRsaOaepSha1) return rsa->decrypt(crypto::kOaepSha1, ciphertext);
    if (scheme == DecryptScheme::kRsaOaepSha256) {
      return rsa->decrypt(crypto::kOaepSha256, ciphertext);
    }
  }
  if (const auto* sm2 = std::get_if<crypto::Sm2PrivateKey>(&secret)) {
    if (scheme == DecryptScheme::kSm2) return sm2->decrypt(ciphertext);
  }
  return wrong_usage(key, "decrypt by " + std::string(decrypt_scheme_name(scheme)));
}

}  // namespace coffer::hsm

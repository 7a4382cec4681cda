// SPDX-License-Identifier: Apache-2.0
// Import of key material (BYOK). A fresh key pair is made for each offer; its private half lies in
// the record as a rooted key does, so that the vault need not remember it, and what is wrapped to
// it is unwrapped in locked memory: no token of today does SHA-256 and AES key wrap in one step.
// What comes out is a symmetric key's bytes, or a private key in PKCS #8, which is always rooted.
#include <algorithm>
#include <chrono>

#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/private_key_info.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "core/keyring/import_limits.h"
#include "hsm/imported_pair.h"
#include "hsm/key_pair.h"
#include "hsm/ruled_vault_core.h"

namespace coffer::hsm {

using keyring::ImportMaterial;
using keyring::ImportOffer;
using keyring::ImportParameters;
using keyring::ImportWrapping;
using keyring::KeyAlgorithm;
using keyring::KeyState;

namespace {

constexpr std::chrono::hours kOfferTime{24};
constexpr unsigned kRsaBits = 2048;
constexpr unsigned kRsaAesBits = 4096;
constexpr std::string_view kTokenMagic = "CFIT";
constexpr std::uint8_t kTokenVersion = 1;
static_assert(kRsaAesBits / 8 + crypto::kPrivateKeyInfoBytesMax + 8 <=
              keyring::kImportWrappedBytesMax);

// How often one offer's private key is used, per process of the vault, and of how many keys that is
// counted.
constexpr unsigned kAttemptsPerOfferMax = 16;
constexpr std::size_t kOffersCountedMax = 65'536;

tl::unexpected<Error> not_imported(const CmkRecord& record) {
  return fail(Reason::kImportRefused, "import into key " + record.id.str() +
                                          ": the material does not unwrap to a key of " +
                                          std::string(key_algorithm_name(record.algorithm)));
}

Bytes offer_place(const CmkRecord& record, ByteView nonce) {
  return ByteWriter().text("coffer import offer").raw(record.id.bytes()).raw(nonce).take();
}

bool is_rsa_aes(ImportWrapping wrapping) {
  return wrapping == ImportWrapping::kRsaAesSha1 || wrapping == ImportWrapping::kRsaAesSha256;
}

Result<KeyPair> make_pair_for(ImportWrapping wrapping) {
  if (wrapping == ImportWrapping::kSm2) return key_pair_of(crypto::Sm2PrivateKey::generate());
  const auto bits = is_rsa_aes(wrapping) ? kRsaAesBits : kRsaBits;
  return key_pair_of(crypto::RsaPrivateKey::generate(bits));
}

Result<SecretBytes> unwrap_rsa(const crypto::RsaPrivateKey& key, ImportWrapping wrapping,
                               ByteView wrapped) {
  const bool sha1 =
      wrapping == ImportWrapping::kRsaOaepSha1 || wrapping == ImportWrapping::kRsaAesSha1;
  const auto& params = sha1 ? crypto::kOaepSha1 : crypto::kOaepSha256;
  if (wrapping == ImportWrapping::kRsaPkcs1) return key.decrypt_pkcs1(wrapped);
  if (!is_rsa_aes(wrapping)) return key.decrypt(params, wrapped);
  const std::size_t modulus_bytes = key.size_bits() / 8;
  if (wrapped.size() <= modulus_bytes) {
    return fail(Reason::kBlobInvalid, "too short for an RSA-AES key wrap");
  }
  const auto kek = key.decrypt(params, wrapped.first(modulus_bytes));
  if (!kek) return tl::unexpected(kek.error());
  return crypto::aes_kwp_unwrap(kek->reveal(), wrapped.subspan(modulus_bytes));
}

// What the CMK wraps by: the same material in two CMKs gives two keys, whose nonces are counted by
// themselves.
// A private key stays what it is: others know its public half.
Result<SecretBytes> own_key(const CmkRecord& record, const SecretBytes& material) {
  return crypto::hkdf_sha256(material.reveal(),
                             {record.id.bytes(), as_bytes("coffer imported key")}, material.size());
}

// What the ciphertext is to blame for, and not this host.
bool is_of_ciphertext(const Error& error) {
  return error.reason() == Reason::kBlobInvalid || error.reason() == Reason::kInvalidArgs;
}

Result<SecretBytes> unwrap_by(const ImportOffer& offer, const SecretBytes& secret,
                              ByteView wrapped) {
  const auto unreadable = [](const Error& error) {
    return fail(Reason::kRecordInvalid, "the private key of an import: " + error.message());
  };
  if (offer.wrapping == ImportWrapping::kSm2) {
    const auto key = crypto::Sm2PrivateKey::parse(secret.reveal());
    if (!key) return unreadable(key.error());
    return key->decrypt(wrapped);
  }
  const auto key = crypto::RsaPrivateKey::parse(secret.reveal());
  if (!key) return unreadable(key.error());
  return unwrap_rsa(*key, offer.wrapping, wrapped);
}

}  // namespace

// An owner needs one attempt, or a few; whoever asks a private key about paddings needs thousands.
Result<void> RuledVault::Core::count_attempt(const CmkRecord& record) {
  const std::lock_guard lock(mutex_);
  if (import_attempts_.size() >= kOffersCountedMax && !import_attempts_.contains(record.id)) {
    // Without room to count nothing is tried: the oldest offers are a day old at most.
    return fail(Reason::kLimitsExceeded, "too many imports since the vault was started");
  }
  auto& [nonce, count] = import_attempts_[record.id];
  if (nonce != record.offer->nonce) {
    nonce = record.offer->nonce;
    count = 0;
  }
  if (count >= kAttemptsPerOfferMax) {
    return fail(Reason::kImportTokenExpired, "import into key " + record.id.str() +
                                                 ": too many attempts with one token; prepare "
                                                 "the import anew");
  }
  ++count;
  return {};
}

Result<Bytes> RuledVault::Core::import_token(const CmkRecord& record, const ImportOffer& offer) {
  ByteWriter token;
  token.raw(as_bytes(kTokenMagic)).u8(kTokenVersion).raw(record.id.bytes()).raw(offer.nonce);
  const Bytes bound =
      ByteWriter().text("coffer import token").bytes(token.view()).bytes(offer.public_key).take();
  const auto mac = parts.token.mac(MacKey::kSeal, bound);
  if (!mac) return tl::unexpected(mac.error());
  return token.raw(*mac).take();
}

Result<Bytes> RuledVault::Core::material_digest(const CmkRecord& record, const KeyPair& key) {
  // A private key can be written in more than one way. Its public half cannot, and tells it.
  const bool symmetric = keyring::is_symmetric(record.algorithm);
  const Bytes bound =
      ByteWriter()
          .text(symmetric ? "coffer imported material" : "coffer imported private key")
          .raw(record.id.bytes())
          .raw(crypto::sha256(symmetric ? key.secret.reveal() : ByteView(key.public_key)))
          .take();
  const auto mac = parts.token.mac(MacKey::kSeal, bound);
  if (!mac) return tl::unexpected(mac.error());
  return Bytes(mac->begin(), mac->end());
}

Result<SealedRecord> RuledVault::Core::seal_next(CmkRecord record) {
  const auto floor = parts.floors.floor_of(record.id);
  if (!floor) return tl::unexpected(floor.error());
  record.revision = std::max(record.revision, floor->revision) + 1;
  record.changed = parts.clock.wall();
  return seal(record);
}

Result<ImportParameters> RuledVault::Core::prepare_import(ByteView current,
                                                          ImportWrapping wrapping) {
  auto record = open_and_present(current);
  if (!record) return tl::unexpected(record.error());
  if (auto may = require_may_prepare_import(*record); !may) return tl::unexpected(may.error());
  if (wrapping == ImportWrapping::kSm2 && record->algorithm != KeyAlgorithm::kSm4) {
    return fail(Reason::kUnsupported, "only keys of SM4 are wrapped by SM2");
  }
  if (!is_symmetric(record->algorithm) && !is_rsa_aes(wrapping)) {
    return fail(Reason::kUnsupported,
                "a private key is longer than what " + std::string(import_wrapping_name(wrapping)) +
                    " wraps: rsa-aes-key-wrap-sha256 or rsa-aes-key-wrap-sha1 does");
  }
  // Asked before a pair is made for nothing.
  const auto keeps = parts.token.keeps_rooted();
  if (!keeps) return tl::unexpected(keeps.error());
  if (!*keeps) return fail(Reason::kUnsupported, "this token takes no keys in");
  auto pair = make_pair_for(wrapping);
  if (!pair) return tl::unexpected(pair.error());
  const auto nonce = SecretBytes::random(ImportOffer::kNonceBytes);
  if (!nonce) return tl::unexpected(nonce.error());
  ImportOffer offer;
  offer.nonce.assign(nonce->reveal().begin(), nonce->reveal().end());
  offer.wrapping = wrapping;
  offer.valid_to = parts.clock.wall() + kOfferTime;
  auto closed = parts.token.close_rooted(pair->secret, offer_place(*record, offer.nonce));
  if (!closed) return pass(closed.error(), "prepare an import into key " + record->id.str());
  offer.private_key = std::move(*closed);
  offer.public_key = std::move(pair->public_key);

  auto token = import_token(*record, offer);
  if (!token) return tl::unexpected(token.error());
  record->offer = offer;
  auto sealed = seal_next(std::move(*record));
  if (!sealed) return tl::unexpected(sealed.error());
  return ImportParameters{std::move(*sealed), std::move(offer.public_key), std::move(*token),
                          offer.valid_to};
}

Result<KeyPair> RuledVault::Core::unwrap_import(const CmkRecord& record,
                                                const ImportMaterial& material) {
  const ImportOffer& offer = *record.offer;
  if (material.wrapped.size() > keyring::kImportWrappedBytesMax) return not_imported(record);
  const auto secret = parts.token.open_rooted(offer.private_key, offer_place(record, offer.nonce));
  if (!secret) return tl::unexpected(secret.error());
  auto key = unwrap_by(offer, *secret, material.wrapped);
  if (!key && !is_of_ciphertext(key.error())) return pass(key.error(), "unwrap an import");
  // One answer for every cause: what is wrong with a padding is nobody's to learn.
  if (!key) return not_imported(record);
  if (is_symmetric(record.algorithm)) {
    if (key->size() != RootedKeys::symmetric_bytes(record.algorithm)) return not_imported(record);
    return KeyPair{std::move(*key), {}};
  }
  // Who comes this far has the AES key that it was wrapped under, and may know what is wrong in it.
  auto pair = imported_pair(record.algorithm, *key);
  if (!pair) return pass(pair.error(), "import into key " + record.id.str());
  return pair;
}

Result<void> RuledVault::Core::take_in(CmkRecord& record, KeyPair key) {
  KeyVersion& version = record.versions.back();
  const keyring::KeySupport kind{record.algorithm, record.usage, record.protection};
  if (is_symmetric(record.algorithm)) {
    auto own = own_key(record, key.secret);
    if (!own) return tl::unexpected(own.error());
    key.secret = std::move(*own);
  }
  auto made = record.protection == keyring::Protection::kRooted
                  ? rooted.import_key(record.id, version.number, kind, std::move(key))
                  : parts.token.import_key(record.id, version.number, kind, key.secret);
  if (!made) return pass(made.error(), "import into key " + record.id.str());
  version.material = std::move(made->material);
  version.public_key = std::move(made->public_key);
  record.state = KeyState::kEnabled;
  return {};
}

Result<SealedRecord> RuledVault::Core::import_material(ByteView current,
                                                       const ImportMaterial& material) {
  auto record = open_and_present(current);
  if (!record) return tl::unexpected(record.error());
  if (auto may = require_may_import(*record); !may) return tl::unexpected(may.error());
  const WallTime now = parts.clock.wall();
  if (auto good = require_valid_to(material.valid_to, now); !good) {
    return tl::unexpected(good.error());
  }
  const std::string what = "import into key " + record->id.str();
  if (!record->offer || now >= record->offer->valid_to) {
    return fail(Reason::kImportTokenExpired, what + ": no import is prepared, or not any more");
  }
  const auto token = import_token(*record, *record->offer);
  if (!token) return tl::unexpected(token.error());
  if (!equal_constant_time(*token, material.token)) {
    return fail(Reason::kImportTokenExpired, what + ": the token is not the newest of this key");
  }
  if (auto counted = count_attempt(*record); !counted) return tl::unexpected(counted.error());
  auto key = unwrap_import(*record, material);
  if (!key) return tl::unexpected(key.error());
  auto digest = material_digest(*record, *key);
  if (!digest) return tl::unexpected(digest.error());
  if (!record->material_digest.empty() && !equal_constant_time(*digest, record->material_digest)) {
    return fail(Reason::kMaterialMismatch, what + ": it is not what was imported first");
  }
  if (record->state == KeyState::kPendingImport) {
    if (auto taken = take_in(*record, std::move(*key)); !taken) {
      return tl::unexpected(taken.error());
    }
  }
  record->material_digest = std::move(*digest);
  record->material_valid_to = material.valid_to;
  return seal_next(std::move(*record));
}

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_token.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <optional>
#include <utility>

#include "core/crypto/digest.h"
#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_template.h"

namespace coffer::hsm {
namespace {

using keyring::KekProfile;
using keyring::VaultState;

constexpr std::size_t kGcmNonceBytes = 12;
constexpr std::size_t kGcmTagBytes = 16;
constexpr std::size_t kBlockBytes = 16;
constexpr std::size_t kCmkBytes = 32;
constexpr std::size_t kWrappedCmkBytes = kCmkBytes + 8;  // RFC 3394

std::optional<KekProfile> profile_of(const TokenLink::Facts& facts) {
  if (facts.mechanisms.contains(CKM_AES_GCM)) return KekProfile::kAesGcm;
  if (facts.mechanisms.contains(CKM_AES_CBC_PAD)) return KekProfile::kAesCbcHmac;
  return std::nullopt;
}

// A mechanism with the parameters it points to; stays where it is made.
class CipherMechanism {
 public:
  CipherMechanism(KekProfile profile, ByteView nonce, ByteView aad) {
    if (profile == KekProfile::kAesGcm) {
      gcm_.pIv = p11_bytes(nonce);
      gcm_.ulIvLen = nonce.size();
      gcm_.ulIvBits = nonce.size() * 8;
      gcm_.pAAD = p11_bytes(aad);
      gcm_.ulAADLen = aad.size();
      gcm_.ulTagBits = kGcmTagBytes * 8;
      mechanism_ = {CKM_AES_GCM, &gcm_, sizeof gcm_};
    } else {
      mechanism_ = {CKM_AES_CBC_PAD, p11_bytes(nonce), nonce.size()};
    }
  }
  CipherMechanism(const CipherMechanism&) = delete;
  CipherMechanism& operator=(const CipherMechanism&) = delete;
  CK_MECHANISM* get() noexcept { return &mechanism_; }

 private:
  CK_GCM_PARAMS gcm_{};
  CK_MECHANISM mechanism_{};
};

std::size_t nonce_bytes(KekProfile profile) {
  return profile == KekProfile::kAesGcm ? kGcmNonceBytes : kBlockBytes;
}

Result<void> require_known(KekProfile profile) {
  if (profile == KekProfile::kAesGcm || profile == KekProfile::kAesCbcHmac) return {};
  return fail(Reason::kUnsupported, "no token made keys of that profile yet");
}

CK_RV generate_and_wrap(const TokenLink::Session& session, Bytes& wrapped) {
  // Extractable for the time of one wrap: a key that is not could never be stored outside.
  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES);
  wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true);
  wanted.flag(CKA_EXTRACTABLE, true).flag(CKA_ENCRYPT, false).flag(CKA_DECRYPT, false);
  wanted.flag(CKA_WRAP, false).flag(CKA_UNWRAP, false).flag(CKA_SIGN, false);
  wanted.flag(CKA_VERIFY, false).flag(CKA_DERIVE, false).number(CKA_VALUE_LEN, kCmkBytes);

  const auto& [module, owner, objects] = session.objects;
  const std::scoped_lock lock(objects);
  CK_MECHANISM generation{CKM_AES_KEY_GEN, nullptr, 0};
  CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
  CK_RV rv = module.call(&CK_FUNCTION_LIST::C_GenerateKey, owner, &generation, wanted.data(),
                         wanted.size(), &key);
  if (rv != CKR_OK) return rv;

  CK_MECHANISM wrapping{CKM_AES_KEY_WRAP, nullptr, 0};
  wrapped.assign(kWrappedCmkBytes, std::byte{0});
  CK_ULONG size = wrapped.size();
  rv = module.call(&CK_FUNCTION_LIST::C_WrapKey, owner, &wrapping, session.facts.keys.root, key,
                   p11_bytes(wrapped), &size);
  const CK_RV destroyed = module.call(&CK_FUNCTION_LIST::C_DestroyObject, owner, key);
  if (rv != CKR_OK) return rv;
  if (destroyed != CKR_OK) return destroyed;  // A CMK that could be taken out must not stay behind.
  return size == wrapped.size() ? CKR_OK : CKR_WRAPPED_KEY_LEN_RANGE;
}

// Every attribute is stated: the root key's unwrap template refuses one that is left to a default.
CK_RV unwrap_cmk(const TokenLink::Session& session, ByteView material, CK_OBJECT_HANDLE& out) {
  Template wanted;
  wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES);
  wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, true);
  wanted.flag(CKA_EXTRACTABLE, false).flag(CKA_ENCRYPT, true).flag(CKA_DECRYPT, true);
  wanted.flag(CKA_WRAP, false).flag(CKA_UNWRAP, false).flag(CKA_SIGN, false);
  wanted.flag(CKA_VERIFY, false).flag(CKA_DERIVE, false);
  CK_MECHANISM mechanism{CKM_AES_KEY_WRAP, nullptr, 0};
  return session.module.call(&CK_FUNCTION_LIST::C_UnwrapKey, session.objects.owner, &mechanism,
                             session.facts.keys.root, p11_bytes(material),
                             CK_ULONG{material.size()}, wanted.data(), wanted.size(), &out);
}

// Runs `rest` until each job has a result: of one that failed the error, and then those behind it.
template <class T, class Rest>
std::vector<Result<T>> each_in_turn(TokenLink& link, std::string_view step, std::size_t count,
                                    const Rest& rest) {
  std::vector<Result<T>> results;
  results.reserve(count);
  while (results.size() < count) {
    const auto done =
        link.run(step, [&](const TokenLink::Session& session) { return rest(session, results); });
    if (!done) results.emplace_back(tl::unexpected(done.error()));
  }
  return results;
}

template <class T>
std::vector<Result<T>> all_fail(std::size_t count, const Error& error) {
  std::vector<Result<T>> results;
  results.reserve(count);
  for (std::size_t i = 0; i < count; ++i) results.emplace_back(tl::unexpected(error));
  return results;
}

CK_RV encrypt_one(const TokenLink::Session& session, CK_OBJECT_HANDLE key, KekProfile profile,
                  const EncryptJob& job, Ciphertext& out) {
  const bool gcm = profile == KekProfile::kAesGcm;
  CipherMechanism mechanism(profile, out.nonce, job.aad);
  CK_RV rv =
      session.module.call(&CK_FUNCTION_LIST::C_EncryptInit, session.handle, mechanism.get(), key);
  if (rv != CKR_OK) return rv;
  const std::size_t expected =
      gcm ? job.plain.size() + kGcmTagBytes : (job.plain.size() / kBlockBytes + 1) * kBlockBytes;
  out.bytes.assign(expected, std::byte{0});
  CK_ULONG size = out.bytes.size();
  rv = session.module.call(&CK_FUNCTION_LIST::C_Encrypt, session.handle, p11_bytes(job.plain),
                           CK_ULONG{job.plain.size()}, p11_bytes(out.bytes), &size);
  if (rv != CKR_OK) return rv;
  if (size != expected) return CKR_GENERAL_ERROR;
  if (!gcm) return CKR_OK;
  const auto tag_at = out.bytes.end() - static_cast<std::ptrdiff_t>(kGcmTagBytes);
  out.tag.assign(tag_at, out.bytes.end());
  out.bytes.erase(tag_at, out.bytes.end());
  return CKR_OK;
}

bool is_shaped(KekProfile profile, const DecryptJob& job) {
  return job.nonce.size() == nonce_bytes(profile) &&
         (profile == KekProfile::kAesGcm
              ? job.tag.size() == kGcmTagBytes
              : !job.bytes.empty() && job.bytes.size() % kBlockBytes == 0);
}

// What is wrong with the job or what the token made of it stands in `out`.
CK_RV decrypt_one(const TokenLink::Session& session, CK_OBJECT_HANDLE key, KekProfile profile,
                  const DecryptJob& job, Result<SecretBytes>& out) {
  const bool gcm = profile == KekProfile::kAesGcm;
  if (!is_shaped(profile, job)) {
    out = fail(Reason::kBlobInvalid, "a wrapped key has parts of a wrong length");
    return CKR_OK;
  }
  Bytes sealed;
  sealed.reserve(job.bytes.size() + job.tag.size());
  sealed.assign(job.bytes.begin(), job.bytes.end());
  if (gcm) sealed.insert(sealed.end(), job.tag.begin(), job.tag.end());
  // As large as the ciphertext: SoftHSM refuses a buffer of the plaintext's size and then leaves
  // the operation open.
  auto plain = SecretBytes::zeroed(sealed.size());
  if (!plain) {
    out = std::move(plain);
    return CKR_OK;
  }
  CipherMechanism mechanism(profile, job.nonce, job.aad);
  session.judges_data = false;
  CK_RV rv =
      session.module.call(&CK_FUNCTION_LIST::C_DecryptInit, session.handle, mechanism.get(), key);
  if (rv != CKR_OK) return rv;
  CK_ULONG size = plain->size();
  session.judges_data = true;
  rv = session.module.call(&CK_FUNCTION_LIST::C_Decrypt, session.handle, p11_bytes(sealed),
                           CK_ULONG{sealed.size()}, p11_bytes(plain->reveal_mutable()), &size);
  if (rv != CKR_OK) return rv;
  if (gcm ? size == job.bytes.size() : size < sealed.size()) {
    plain->shrink(size);
    out = std::move(plain);
  } else {
    out = fail(Reason::kHsmFailed, "the token's plaintext has a wrong length");
  }
  return CKR_OK;
}

VaultState state_of(Reason reason) {
  switch (reason) {
    case Reason::kHsmAbsent:
      return VaultState::kAbsent;
    case Reason::kHsmLoginNeeded:
      return VaultState::kLoginNeeded;
    case Reason::kHsmPinIncorrect:
      return VaultState::kPinRefused;
    case Reason::kHsmPinLocked:
      return VaultState::kPinLocked;
    default:
      return VaultState::kFailed;
  }
}

}  // namespace

Pkcs11Token::Pkcs11Token(Options options)
    : handles_(options.handles_max),
      link_(std::move(options.link), [this] { handles_.forget_all(); }) {}

Result<VaultToken::Identity> Pkcs11Token::identity() {
  const auto found = link_.facts();
  if (!found) return tl::unexpected(found.error());
  const auto& facts = **found;
  const auto profile = profile_of(facts);
  if (!profile)
    return fail(Reason::kUnsupported, "the token has neither AES-GCM nor AES-CBC with padding");
  return Identity{
      facts.root_id,
      facts.token.hardware ? keyring::TokenKind::kHardware : keyring::TokenKind::kSoftware,
      *profile};
}

Result<Mac> Pkcs11Token::mac(MacKey key, ByteView message) {
  Mac out{};
  // A TPM takes 1 KiB at once, and tpm2-pkcs11 4 KiB in all, so such a token is given the digest.
  const auto digest = crypto::sha256(message);
  const auto done =
      link_.run("compute an HMAC in the token", [&](const TokenLink::Session& session) {
        CK_MECHANISM mechanism{CKM_SHA256_HMAC, nullptr, 0};
        const auto& keys = session.facts.keys;
        CK_RV rv = session.module.call(&CK_FUNCTION_LIST::C_SignInit, session.handle, &mechanism,
                                       key == MacKey::kSeal ? keys.seal : keys.wrap);
        if (rv != CKR_OK) return rv;
        const ByteView text = keys.form == RootForm::kEncrypts ? ByteView(digest) : message;
        CK_ULONG size = out.size();
        rv = session.module.call(&CK_FUNCTION_LIST::C_Sign, session.handle, p11_bytes(text),
                                 CK_ULONG{text.size()}, p11_bytes(out), &size);
        if (rv != CKR_OK) return rv;
        return size == out.size() ? CK_RV{CKR_OK} : CK_RV{CKR_GENERAL_ERROR};
      });
  if (!done) return tl::unexpected(done.error());
  return out;
}

Result<std::vector<keyring::KeySupport>> Pkcs11Token::supports() {
  const auto facts = link_.facts();
  if (!facts) return tl::unexpected(facts.error());
  std::vector<keyring::KeySupport> all;
  if ((*facts)->keys.form == RootForm::kWraps) all.emplace_back();
  const auto signing = private_keys_.signs(*facts);
  if (!signing) return tl::unexpected(signing.error());
  for (const auto algorithm : *signing)
    all.push_back({algorithm, keyring::KeyUsage::kSignVerify, keyring::Protection::kWrapped});
  return all;
}

CK_RV Pkcs11Token::open(const TokenLink::Session& session, const CmkHandles::Name& name,
                        ByteView material, CmkHandles::Handle& out) {
  const auto unwrap = [&](CK_OBJECT_HANDLE& object) {
    return unwrap_cmk(session, material, object);
  };
  return handles_.get(session.objects, name, material, unwrap, out);
}

Result<NewKey> Pkcs11Token::generate(const CmkId& cmk, std::uint32_t number,
                                     const keyring::KeySupport& kind) {
  const bool signs = kind.usage == keyring::KeyUsage::kSignVerify;
  if (signs && kind.protection == keyring::Protection::kWrapped)
    return private_keys_.generate(cmk, number, kind.algorithm);
  if (kind != keyring::KeySupport{})
    return fail(Reason::kUnsupported,
                "this token makes wrapped AES-256 keys and wrapped keys that sign alone");
  Bytes wrapped;
  const auto done =
      link_.run("generate version " + std::to_string(number) + " of key " + cmk.str(),
                [&](const TokenLink::Session& session) {
                  if (const CK_RV rv = generate_and_wrap(session, wrapped); rv != CKR_OK) return rv;
                  // Nothing may be wrapped under a key that does not come back.
                  CmkHandles::Handle back;
                  return open(session, {cmk, number}, wrapped, back);
                });
  if (!done) return tl::unexpected(done.error());
  return NewKey{.material = std::move(wrapped), .public_key = {}};
}

Result<void> Pkcs11Token::destroy(const CmkId& cmk, std::uint32_t number) {
  handles_.forget({cmk, number});
  return {};
}

std::vector<Result<Ciphertext>> Pkcs11Token::encrypt(const TokenKey& key,
                                                     std::span<const EncryptJob> jobs) {
  if (const auto known = require_known(key.version.profile); !known)
    return all_fail<Ciphertext>(jobs.size(), known.error());
  return each_in_turn<Ciphertext>(link_, "encrypt under key " + key.record.id.str(), jobs.size(),
                                  [&](const auto& session, auto& results) {
                                    return encrypt_rest(session, key, jobs, results);
                                  });
}

CK_RV Pkcs11Token::encrypt_rest(const TokenLink::Session& session, const TokenKey& key,
                                std::span<const EncryptJob> jobs,
                                std::vector<Result<Ciphertext>>& results) {
  const auto profile = key.version.profile;
  // Anew for each attempt: a nonce is never used twice.
  Bytes nonces(nonce_bytes(profile) * (jobs.size() - results.size()));
  CK_RV rv = session.module.call(&CK_FUNCTION_LIST::C_GenerateRandom, session.handle,
                                 p11_bytes(nonces), CK_ULONG{nonces.size()});
  if (rv != CKR_OK) return rv;
  CmkHandles::Handle cmk;
  rv = open(session, {key.record.id, key.version.number}, key.version.material, cmk);
  if (rv != CKR_OK) return rv;
  for (ByteView rest = nonces; results.size() < jobs.size();
       rest = rest.subspan(nonce_bytes(profile))) {
    const ByteView nonce = rest.first(nonce_bytes(profile));
    Ciphertext made{.nonce = {nonce.begin(), nonce.end()}, .bytes = {}, .tag = {}};
    rv = encrypt_one(session, *cmk, profile, jobs[results.size()], made);
    if (rv != CKR_OK) return rv;
    results.emplace_back(std::move(made));
    session.moved_on = true;
  }
  return CKR_OK;
}

std::vector<Result<SecretBytes>> Pkcs11Token::decrypt(const TokenKey& key,
                                                      std::span<const DecryptJob> jobs) {
  if (const auto known = require_known(key.version.profile); !known)
    return all_fail<SecretBytes>(jobs.size(), known.error());
  return each_in_turn<SecretBytes>(link_, "decrypt under key " + key.record.id.str(), jobs.size(),
                                   [&](const auto& session, auto& results) {
                                     return decrypt_rest(session, key, jobs, results);
                                   });
}

CK_RV Pkcs11Token::decrypt_rest(const TokenLink::Session& session, const TokenKey& key,
                                std::span<const DecryptJob> jobs,
                                std::vector<Result<SecretBytes>>& results) {
  CmkHandles::Handle cmk;
  CK_RV rv = open(session, {key.record.id, key.version.number}, key.version.material, cmk);
  while (rv == CKR_OK && results.size() < jobs.size()) {
    Result<SecretBytes> made;
    rv = decrypt_one(session, *cmk, key.version.profile, jobs[results.size()], made);
    if (rv != CKR_OK) break;
    results.push_back(std::move(made));
    session.moved_on = true;
  }
  return rv;
}

Result<Bytes> Pkcs11Token::sign(const TokenKey& key, keyring::SignScheme scheme, ByteView digest) {
  return private_keys_.sign(key, scheme, digest);
}

Result<bool> Pkcs11Token::keeps_rooted() {
  const auto facts = link_.facts();
  if (!facts) return tl::unexpected(facts.error());
  return (*facts)->keys.rooted != CK_INVALID_HANDLE && (*facts)->mechanisms.contains(CKM_AES_CBC);
}

Result<void> Pkcs11Token::require_rooted() {
  const auto keeps = keeps_rooted();
  if (!keeps) return tl::unexpected(keeps.error());
  if (*keeps) return {};
  return fail(Reason::kUnsupported, "the token has no key for rooted keys: it was set up without");
}

Result<Bytes> Pkcs11Token::close_rooted(const SecretBytes& key, ByteView aad) {
  if (const auto can = require_rooted(); !can) return tl::unexpected(can.error());
  return cipher_.close(key, aad);
}

Result<SecretBytes> Pkcs11Token::open_rooted(ByteView material, ByteView aad) {
  if (const auto can = require_rooted(); !can) return tl::unexpected(can.error());
  return cipher_.open(material, aad);
}

Result<SecretBytes> Pkcs11Token::random(std::size_t size_bytes) {
  if (size_bytes == 0 || size_bytes > kRandomBytesMax)
    return fail(Reason::kInvalidArgs, "1 to 65536 random bytes can be drawn at once");
  auto out = SecretBytes::zeroed(size_bytes);
  if (!out) return out;
  const auto done = link_.run("draw random bytes", [&](const TokenLink::Session& session) {
    return session.module.call(&CK_FUNCTION_LIST::C_GenerateRandom, session.handle,
                               p11_bytes(out->reveal_mutable()), CK_ULONG{size_bytes});
  });
  if (!done) return tl::unexpected(done.error());
  // A generator that wrote nothing must not become a key; a true one gives this once in 2^128.
  const bool written =
      std::ranges::any_of(out->reveal(), [](std::byte b) { return b != std::byte{0}; });
  if (size_bytes >= 16 && !written)
    return fail(Reason::kHsmFailed, "the token's random generator gives zeros");
  return out;
}

keyring::VaultHealth Pkcs11Token::health() {
  const auto start = std::chrono::steady_clock::now();
  const auto found = link_.probe();
  keyring::VaultHealth out;
  out.latency = std::chrono::duration_cast<std::chrono::microseconds>(
      std::chrono::steady_clock::now() - start);
  out.failures = link_.failures();
  if (!found) {
    out.state = state_of(found.error().reason());
    out.detail = found.error().message();
    return out;
  }
  const auto& facts = *found;
  out.state = VaultState::kUp;
  out.token_label = facts->token.identity.label;
  out.token_serial = facts->token.identity.serial;
  out.root_id = facts->root_id;
  out.kind = facts->token.hardware ? keyring::TokenKind::kHardware : keyring::TokenKind::kSoftware;
  out.maker = facts->is_tpm ? keyring::VaultMaker::kTpm2 : keyring::VaultMaker::kPkcs11;
  const auto profile = profile_of(*facts);
  if (profile) {
    out.profile = *profile;
    out.detail = "the token answers";
  } else {
    out.state = VaultState::kFailed;
    out.detail = "the token has no mechanism that Coffer can wrap keys with";
  }
  return out;
}

}  // namespace coffer::hsm

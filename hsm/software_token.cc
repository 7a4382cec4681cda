// SPDX-License-Identifier: Apache-2.0
#include "hsm/software_token.h"

#include <algorithm>
#include <utility>

#include "core/base/encoding.h"
#include "core/base/files.h"
#include "core/crypto/aead.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"
#include "hsm/gcm_cipher.h"

namespace coffer::hsm {
namespace {

using keyring::KekProfile;

constexpr std::size_t kKeyBytes = 32;
constexpr std::string_view kFileMagic = "coffer development token 1\n";
// Magic, the keys for root, seal and wrap, SHA-256 of everything before.
constexpr std::size_t kFileBytes = kFileMagic.size() + 3 * kKeyBytes + crypto::kSha256Bytes;

Result<SecretBytes> draw_file() {
  auto file = SecretBytes::random(kFileBytes);
  if (!file) return file;
  std::ranges::copy(as_bytes(kFileMagic), file->reveal_mutable().begin());
  const auto digest = crypto::sha256(file->reveal().first(kFileBytes - crypto::kSha256Bytes));
  std::ranges::copy(digest, file->reveal_mutable().last(crypto::kSha256Bytes).begin());
  return file;
}

Result<void> require_token_file(const SecretBytes& file, const std::string& path) {
  const bool sized = file.size() == kFileBytes;
  const auto bytes = file.reveal();
  if (sized && std::ranges::equal(bytes.first(kFileMagic.size()), as_bytes(kFileMagic)) &&
      std::ranges::equal(bytes.last(crypto::kSha256Bytes),
                         crypto::sha256(bytes.first(kFileBytes - crypto::kSha256Bytes)))) {
    return {};
  }
  return fail(Reason::kRecordInvalid, path + " is not a development token");
}

// What binds a CMK's material to its place: it opens as that version of that key alone.
Bytes material_aad(const CmkId& cmk, std::uint32_t number) {
  return ByteWriter().text("coffer development cmk").raw(cmk.bytes()).u32(number).take();
}

class SoftwareToken final : public VaultToken {
 public:
  SoftwareToken(SecretBytes file, KekProfile profile) : file_(std::move(file)), profile_(profile) {
    const auto check = crypto::hmac_sha256(key(0), as_bytes("coffer root key check"));
    root_id_ = "dev-" + to_hex(ByteView(check).first(8));
  }

  Result<Identity> identity() override {
    return Identity{root_id_, keyring::TokenKind::kSoftware, profile_};
  }

  Result<Mac> mac(MacKey which, ByteView message) override {
    return crypto::hmac_sha256(key(which == MacKey::kSeal ? 1 : 2), message);
  }

  Result<std::vector<keyring::KeySupport>> supports() override {
    return std::vector{keyring::KeySupport{}};
  }

  Result<NewKey> generate(const CmkId& cmk, std::uint32_t number,
                          const keyring::KeySupport& kind) override {
    if (kind != keyring::KeySupport{}) {
      return fail(Reason::kUnsupported, "the development vault makes wrapped AES-256 keys alone");
    }
    const auto fresh = SecretBytes::random(kKeyBytes);
    if (!fresh) return tl::unexpected(fresh.error());
    return wrap_material(cmk, number, *fresh);
  }

  std::vector<Result<Ciphertext>> encrypt(const TokenKey& token_key,
                                          std::span<const EncryptJob> jobs) override {
    std::vector<Result<Ciphertext>> results;
    results.reserve(jobs.size());
    const auto cmk = open_material(token_key);
    for (const auto& job : jobs) {
      if (!cmk) {
        results.emplace_back(tl::unexpected(cmk.error()));
      } else {
        results.push_back(encrypt_one(token_key.version.profile, *cmk, job));
      }
    }
    return results;
  }

  std::vector<Result<SecretBytes>> decrypt(const TokenKey& token_key,
                                           std::span<const DecryptJob> jobs) override {
    std::vector<Result<SecretBytes>> results;
    results.reserve(jobs.size());
    const auto cmk = open_material(token_key);
    for (const auto& job : jobs) {
      if (!cmk) {
        results.emplace_back(tl::unexpected(cmk.error()));
      } else {
        results.push_back(decrypt_one(token_key.version.profile, *cmk, job));
      }
    }
    return results;
  }

  Result<bool> keeps_rooted() override { return true; }

  Result<Bytes> close_rooted(const SecretBytes& bytes, ByteView aad) override {
    const auto closing = closing_key();
    if (!closing) return tl::unexpected(closing.error());
    return close(closing->reveal(), bytes, aad);
  }

  Result<SecretBytes> open_rooted(ByteView material, ByteView aad) override {
    const auto closing = closing_key();
    if (!closing) return tl::unexpected(closing.error());
    auto opened = open(closing->reveal(), material, aad);
    if (opened || opened.error().reason() != Reason::kBlobInvalid) return opened;
    return fail(Reason::kRecordInvalid, "a rooted key does not open under this token");
  }

  bool takes_keys_in() const noexcept override { return true; }
  Result<NewKey> import_key(const CmkId& cmk, std::uint32_t number, const keyring::KeySupport& kind,
                            const SecretBytes& bytes) override {
    if (kind != keyring::KeySupport{} || bytes.size() != kKeyBytes) {
      return fail(Reason::kUnsupported, "the development vault takes wrapped AES-256 keys alone");
    }
    return wrap_material(cmk, number, bytes);
  }

  Result<SecretBytes> random(std::size_t size_bytes) override {
    return SecretBytes::random(size_bytes);
  }

  keyring::VaultHealth health() override {
    keyring::VaultHealth health;
    health.state = keyring::VaultState::kUp;
    health.detail = std::string(kDevelopmentLabel);
    health.token_label = std::string(kDevelopmentLabel);
    health.token_serial = root_id_;
    health.root_id = root_id_;
    health.kind = keyring::TokenKind::kSoftware;
    health.profile = profile_;
    health.maker = keyring::VaultMaker::kDevelopment;
    return health;
  }

 private:
  Result<NewKey> wrap_material(const CmkId& cmk, std::uint32_t number, const SecretBytes& bytes) {
    auto material = close(key(0), bytes, material_aad(cmk, number));
    if (!material) return tl::unexpected(material.error());
    return NewKey{.material = std::move(*material), .public_key = {}};
  }

  // A nonce, then the key in GCM.
  static Result<Bytes> close(ByteView by, const SecretBytes& bytes, ByteView aad) {
    const auto nonce = SecretBytes::random(crypto::kGcmNonceBytes);
    if (!nonce) return tl::unexpected(nonce.error());
    const auto sealed = crypto::aes_gcm_seal(by, {nonce->reveal(), aad}, bytes.reveal());
    if (!sealed) return tl::unexpected(sealed.error());
    return ByteWriter().raw(nonce->reveal()).raw(*sealed).take();
  }
  static Result<SecretBytes> open(ByteView by, ByteView material, ByteView aad) {
    if (material.size() <= crypto::kGcmNonceBytes + crypto::kGcmTagBytes) {
      return fail(Reason::kRecordInvalid, "too short for a key's material");
    }
    return crypto::aes_gcm_open(by, {material.first(crypto::kGcmNonceBytes), aad},
                                material.subspan(crypto::kGcmNonceBytes));
  }

  // Of rooted keys, which the root key itself has nothing to do with.
  Result<SecretBytes> closing_key() const {
    return crypto::hkdf_sha256(key(0), {{}, as_bytes("coffer rooted keys")}, kKeyBytes);
  }

  std::span<const std::byte> key(std::size_t index) const {
    return file_.reveal().subspan(kFileMagic.size() + index * kKeyBytes, kKeyBytes);
  }

  Result<SecretBytes> open_material(const TokenKey& token_key) const {
    const ByteView material = token_key.version.material;
    if (material.size() != crypto::kGcmNonceBytes + kKeyBytes + crypto::kGcmTagBytes) {
      return fail(Reason::kRecordInvalid,
                  "key " + token_key.record.id.str() + " has no material of this token");
    }
    auto opened =
        open(key(0), material, material_aad(token_key.record.id, token_key.version.number));
    if (opened || opened.error().reason() != Reason::kBlobInvalid) return opened;
    return fail(Reason::kRecordInvalid, "material of key " + token_key.record.id.str() +
                                            " does not open under this root key");
  }

  static Result<Ciphertext> encrypt_one(KekProfile profile, const SecretBytes& cmk,
                                        const EncryptJob& job) {
    if (profile == KekProfile::kAesKeyWrapHmac) {
      auto wrapped = crypto::aes_kwp_wrap(cmk.reveal(), job.plain);
      if (!wrapped) return tl::unexpected(wrapped.error());
      return Ciphertext{{}, std::move(*wrapped), {}};
    }
    return gcm_encrypt(keyring::KeyAlgorithm::kAes256, cmk.reveal(), job);
  }

  static Result<SecretBytes> decrypt_one(KekProfile profile, const SecretBytes& cmk,
                                         const DecryptJob& job) {
    if (profile == KekProfile::kAesKeyWrapHmac) {
      return crypto::aes_kwp_unwrap(cmk.reveal(), job.bytes);
    }
    return gcm_decrypt(keyring::KeyAlgorithm::kAes256, cmk.reveal(), job);
  }

  const SecretBytes file_;  // Root, seal and wrap key; never changed, so threads share it.
  const KekProfile profile_;
  std::string root_id_;
};

Result<SecretBytes> open_file(const std::string& path) {
  if (path.empty()) return draw_file();
  auto file = read_secret_file(path, kFileBytes + 1);
  if (!file && file.error().reason() == Reason::kNoSuchFile) {
    file = draw_file();
    if (!file) return file;
    if (auto written = write_secret_file_durably(path, *file); !written) {
      return tl::unexpected(written.error());
    }
    return file;
  }
  if (!file) return file;
  if (auto good = require_token_file(*file, path); !good) return tl::unexpected(good.error());
  return file;
}

}  // namespace

Result<std::unique_ptr<VaultToken>> open_software_token(const SoftwareTokenOptions& options) {
  if (options.profile != KekProfile::kAesGcm && options.profile != KekProfile::kAesKeyWrapHmac) {
    return fail(Reason::kUnsupported, "the development vault does not wrap by " +
                                          std::string(kek_profile_name(options.profile)));
  }
  auto file = open_file(options.path);
  if (!file) return pass(file.error(), "open the development token");
  return std::make_unique<SoftwareToken>(std::move(*file), options.profile);
}

}  // namespace coffer::hsm

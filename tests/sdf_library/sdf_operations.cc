// SPDX-License-Identifier: Apache-2.0
// Operations with keys, and hashes (GM/T 0018 sections 6.4 to 6.6).
#include <algorithm>

#include "tests/sdf_library/sdf_call.h"

namespace coffer::tests::sdf {
namespace {

using hsm::sdf::Return;

constexpr unsigned int kTextBytesMax = 1U << 20U;

// The private key `kind`N, if this session has the right to use it.
Return find_private(const Session& session, const char* kind, unsigned int index, Scalar& out) {
  const auto& device = SdfDevice::instance();
  const auto stored = device.read(kind + std::to_string(index), sizeof(Scalar));
  if (!stored) return hsm::sdf::kKeyNotExist;
  if (device.password(index) && !session.rights.contains(index)) return hsm::sdf::kPrkRErr;
  std::ranges::copy(*stored, out.begin());
  return hsm::sdf::kOk;
}

struct Symmetric {
  Direction direction;
  void* key;
  unsigned int algorithm;
  std::byte* iv;
  ConstBytes in;
  std::byte* out;
  unsigned int* out_size;
};

Return run(const Session& session, const Symmetric& job) {
  const auto found = session.keys.find(job.key);
  if (found == session.keys.end()) return hsm::sdf::kKeyNotExist;
  const bool cbc = job.algorithm == hsm::sdf::kSm4Cbc;
  if (!cbc && job.algorithm != hsm::sdf::kSm4Ecb) return hsm::sdf::kAlgModNotSupport;
  if (job.in.size() > kTextBytesMax || (cbc && job.iv == nullptr)) return hsm::sdf::kInArgErr;
  Block iv{};
  if (cbc) std::copy_n(job.iv, iv.size(), iv.begin());
  if (!sm4(job.direction, found->second, cbc ? &iv : nullptr, job.in, {job.out, job.in.size()}))
    return hsm::sdf::kSymOpErr;
  if (cbc) std::ranges::copy(iv, job.iv);
  *job.out_size = static_cast<unsigned int>(job.in.size());
  return hsm::sdf::kOk;
}

Return finish(std::optional<Sm3>& under_way, std::byte* out, unsigned int* size) {
  if (!under_way) return hsm::sdf::kStepErr;
  const auto digest = under_way->finish();
  under_way.reset();
  std::ranges::copy(digest, out);
  *size = static_cast<unsigned int>(digest.size());
  return hsm::sdf::kOk;
}

}  // namespace
}  // namespace coffer::tests::sdf

using coffer::hsm::sdf::Return;
using coffer::tests::sdf::ConstBytes;
using coffer::tests::sdf::in_session;
using coffer::tests::sdf::Session;
namespace api = coffer::hsm::sdf;
namespace sdf = coffer::tests::sdf;

// NOLINTBEGIN(readability-identifier-naming): names of the standard.
extern "C" {

int SDF_InternalSign_ECC(void* session, unsigned int index, const std::byte* digest,
                         unsigned int digest_size, api::EccSignature* signature) {
  const sdf::Output output{signature->s.data(), nullptr, sizeof signature->s};
  return in_session("SDF_InternalSign_ECC", session, output, [&](const Session& own) {
    sdf::Scalar secret{};
    const Return found = sdf::find_private(own, "sign-", index, secret);
    if (found != api::kOk) return found;
    const auto made = sdf::sm2_sign(secret, {digest, digest_size});
    if (!made) return api::kSignErr;
    *signature = *made;
    return api::kOk;
  });
}

int SDF_ExternalVerify_ECC(void* session, unsigned int algorithm, const api::EccPublicKey* key,
                           const std::byte* digest, unsigned int digest_size,
                           const api::EccSignature* signature) {
  return in_session("SDF_ExternalVerify_ECC", session, {}, [&](const Session&) {
    if (algorithm != api::kSm2Sign) return api::kAlgNotSupport;
    return sdf::sm2_verify(*key, {digest, digest_size}, *signature) ? api::kOk : api::kVerifyErr;
  });
}

int SDF_ExternalEncrypt_ECC(void* session, unsigned int algorithm, const api::EccPublicKey* key,
                            const std::byte* plain, unsigned int plain_size,
                            api::EccCipher* cipher) {
  return in_session("SDF_ExternalEncrypt_ECC", session, {}, [&](const Session&) {
    if (algorithm != api::kSm2Encrypt) return api::kAlgNotSupport;
    return sdf::sm2_encrypt(*key, {plain, plain_size}, *cipher) ? api::kOk : api::kPkOpErr;
  });
}

int SDF_InternalDecrypt_ECC(void* session, unsigned int index, unsigned int algorithm,
                            const api::EccCipher* cipher, std::byte* plain,
                            unsigned int* plain_size) {
  const sdf::Output output{plain, plain_size};
  return in_session("SDF_InternalDecrypt_ECC", session, output, [&](const Session& own) {
    if (algorithm != api::kSm2Encrypt) return api::kAlgNotSupport;
    sdf::Scalar secret{};
    const Return found = sdf::find_private(own, "enc-", index, secret);
    if (found != api::kOk) return found;
    const auto made = sdf::sm2_decrypt(secret, *cipher);
    if (!made) return api::kSkOpErr;
    std::ranges::copy(*made, plain);
    *plain_size = static_cast<unsigned int>(made->size());
    return api::kOk;
  });
}

int SDF_Encrypt(void* session, void* key, unsigned int algorithm, std::byte* iv,
                const std::byte* plain, unsigned int plain_size, std::byte* out,
                unsigned int* out_size) {
  return in_session("SDF_Encrypt", session, {out, out_size}, [&](const Session& own) {
    return sdf::run(
        own, {sdf::Direction::kEncrypt, key, algorithm, iv, {plain, plain_size}, out, out_size});
  });
}

int SDF_Decrypt(void* session, void* key, unsigned int algorithm, std::byte* iv,
                const std::byte* text, unsigned int text_size, std::byte* out,
                unsigned int* out_size) {
  return in_session("SDF_Decrypt", session, {out, out_size}, [&](const Session& own) {
    return sdf::run(
        own, {sdf::Direction::kDecrypt, key, algorithm, iv, {text, text_size}, out, out_size});
  });
}

int SDF_CalculateMAC(void* session, void* key, unsigned int algorithm, std::byte* iv,
                     const std::byte* data, unsigned int size, std::byte* mac,
                     unsigned int* mac_size) {
  return in_session("SDF_CalculateMAC", session, {mac, mac_size}, [&](const Session& own) {
    const auto found = own.keys.find(key);
    if (found == own.keys.end()) return api::kKeyNotExist;
    if (algorithm != api::kSm4Mac) return api::kAlgNotSupport;
    sdf::Block start{};
    std::copy_n(iv, start.size(), start.begin());
    const auto made = sdf::sm4_mac(found->second, start, {data, size});
    if (!made) return api::kMacErr;
    std::ranges::copy(*made, mac);
    *mac_size = static_cast<unsigned int>(made->size());
    return api::kOk;
  });
}

int SDF_HashInit(void* session, unsigned int algorithm, const api::EccPublicKey* key,
                 const std::byte* id, unsigned int id_size) {
  return in_session("SDF_HashInit", session, {}, [&](Session& own) {
    if (algorithm != api::kSm3) return api::kAlgNotSupport;
    if (id_size != 0 && key == nullptr) return api::kInArgErr;
    own.hash.emplace();
    if (id_size != 0) own.hash->update(sdf::sm2_za(*key, {id, id_size}));
    return api::kOk;
  });
}

int SDF_HashUpdate(void* session, const std::byte* data, unsigned int size) {
  return in_session("SDF_HashUpdate", session, {}, [&](Session& own) {
    if (!own.hash) return api::kStepErr;
    own.hash->update({data, size});
    return api::kOk;
  });
}

int SDF_HashFinal(void* session, std::byte* hash, unsigned int* hash_size) {
  return in_session("SDF_HashFinal", session, {hash, hash_size},
                    [&](Session& own) { return sdf::finish(own.hash, hash, hash_size); });
}

int SDF_HMACInit(void* session, void* key, unsigned int algorithm) {
  return in_session("SDF_HMACInit", session, {}, [&](Session& own) {
    const auto found = own.keys.find(key);
    if (found == own.keys.end()) return api::kKeyNotExist;
    if (algorithm != api::kSm3) return api::kAlgNotSupport;
    own.hmac.emplace(ConstBytes(found->second));
    return api::kOk;
  });
}

int SDF_HMACUpdate(void* session, const std::byte* data, unsigned int size) {
  return in_session("SDF_HMACUpdate", session, {}, [&](Session& own) {
    if (!own.hmac) return api::kStepErr;
    own.hmac->update({data, size});
    return api::kOk;
  });
}

int SDF_HMACFinal(void* session, std::byte* mac, unsigned int* mac_size) {
  return in_session("SDF_HMACFinal", session, {mac, mac_size},
                    [&](Session& own) { return sdf::finish(own.hmac, mac, mac_size); });
}
}
// NOLINTEND(readability-identifier-naming)

// SPDX-License-Identifier: Apache-2.0
// Device, sessions, rights and keys (GM/T 0018 sections 6.2 and 6.3).
#include <openssl/rand.h>

#include <algorithm>
#include <atomic>

#include "tests/sdf_library/sdf_call.h"

namespace coffer::tests::sdf {
namespace {

using hsm::sdf::Return;

constexpr unsigned int kSessionKeyBytesMax = 64;

bool draw(std::span<std::byte> out) {
  return ::RAND_bytes(reinterpret_cast<unsigned char*>(out.data()), static_cast<int>(out.size())) ==
         1;
}

void* keep(Session& session, std::vector<std::byte> key) {
  static std::atomic<std::uintptr_t> last{0x1000};
  auto* const handle = reinterpret_cast<void*>(++last);  // NOLINT(performance-no-int-to-ptr)
  session.keys.emplace(handle, std::move(key));
  return handle;
}

// Wraps or unwraps a session key under a key encryption key; ECB and CBC with an IV of zeros.
Return under_kek(Direction direction, unsigned int algorithm, unsigned int kek, ConstBytes in,
                 std::vector<std::byte>& out) {
  const auto key = SdfDevice::instance().read("kek-" + std::to_string(kek), sizeof(Block));
  if (!key) return hsm::sdf::kKeyNotExist;
  if (algorithm != hsm::sdf::kSm4Ecb && algorithm != hsm::sdf::kSm4Cbc)
    return hsm::sdf::kAlgNotSupport;
  Block iv{};
  out.resize(in.size());
  const bool done = sm4(direction, *key, algorithm == hsm::sdf::kSm4Cbc ? &iv : nullptr, in, out);
  return done ? hsm::sdf::kOk : hsm::sdf::kSymOpErr;
}

int export_key(std::string_view function, void* session, const char* kind, unsigned int index,
               EccPublicKey* out) {
  return in_session(function, session, {}, [&](Session&) {
    const auto stored = SdfDevice::instance().read(kind + std::to_string(index), sizeof(Scalar));
    if (!stored || out == nullptr) return hsm::sdf::kKeyNotExist;
    Scalar secret{};
    std::ranges::copy(*stored, secret.begin());
    const auto key = sm2_public_of(secret);
    if (!key) return hsm::sdf::kKeyErr;
    *out = *key;
    return hsm::sdf::kOk;
  });
}

void put(std::span<char> field, std::string_view text) {
  std::ranges::fill(field, ' ');
  std::ranges::copy(text.substr(0, field.size()), field.begin());
}

}  // namespace
}  // namespace coffer::tests::sdf

using coffer::hsm::sdf::Return;
using coffer::tests::sdf::in_call;
using coffer::tests::sdf::in_session;
using coffer::tests::sdf::SdfDevice;
using coffer::tests::sdf::Session;
namespace api = coffer::hsm::sdf;
namespace sdf = coffer::tests::sdf;

// NOLINTBEGIN(readability-identifier-naming): names of the standard.
extern "C" {

int SDF_OpenDevice(void** device) {
  return in_call("SDF_OpenDevice", {}, [&] {
    if (device == nullptr) return api::kOutArgErr;
    *device = &SdfDevice::instance();
    return api::kOk;
  });
}

int SDF_CloseDevice(void* device) {
  return in_call("SDF_CloseDevice", {},
                 [&] { return device == &SdfDevice::instance() ? api::kOk : api::kInArgErr; });
}

int SDF_OpenSession(void* device, void** session) {
  return in_call("SDF_OpenSession", {}, [&] {
    if (device != &SdfDevice::instance()) return api::kInArgErr;
    *session = SdfDevice::instance().open_session();
    return api::kOk;
  });
}

int SDF_CloseSession(void* session) {
  return in_call("SDF_CloseSession", {}, [&] {
    return SdfDevice::instance().close_session(session) ? api::kOk : api::kInArgErr;
  });
}

int SDF_GetDeviceInfo(void* session, api::DeviceInfo* info) {
  return in_session("SDF_GetDeviceInfo", session, {}, [&](Session&) {
    *info = {};
    sdf::put(info->issuer, "Coffer tests");
    sdf::put(info->name, "SDF-TEST");
    sdf::put(info->serial, SdfDevice::instance().serial());
    info->version = 1;
    info->standard_version = 2;
    info->asymmetric = {api::kSm2Sign | api::kSm2Encrypt, 256};
    info->symmetric = api::kSm4Ecb | api::kSm4Cbc | api::kSm4Mac;
    info->hash = api::kSm3;
    info->buffer_bytes = 1U << 20U;
    return api::kOk;
  });
}

int SDF_GenerateRandom(void* session, unsigned int size, std::byte* random) {
  return in_session("SDF_GenerateRandom", session, {random, nullptr, size},
                    [&](Session&) { return sdf::draw({random, size}) ? api::kOk : api::kRandErr; });
}

int SDF_GetPrivateKeyAccessRight(void* session, unsigned int index, const std::byte* password,
                                 unsigned int password_size) {
  return in_session("SDF_GetPrivateKeyAccessRight", session, {}, [&](Session& own) {
    const auto expected = SdfDevice::instance().password(index);
    if (!expected) return api::kKeyNotExist;
    if (!std::ranges::equal(*expected, std::span(password, password_size))) return api::kPrkRErr;
    own.rights.insert(index);
    return api::kOk;
  });
}

int SDF_ReleasePrivateKeyAccessRight(void* session, unsigned int index) {
  return in_session("SDF_ReleasePrivateKeyAccessRight", session, {}, [&](Session& own) {
    return own.rights.erase(index) == 1 ? api::kOk : api::kPrkRErr;
  });
}

int SDF_ExportSignPublicKey_ECC(void* session, unsigned int index, api::EccPublicKey* key) {
  return sdf::export_key("SDF_ExportSignPublicKey_ECC", session, "sign-", index, key);
}

int SDF_ExportEncPublicKey_ECC(void* session, unsigned int index, api::EccPublicKey* key) {
  return sdf::export_key("SDF_ExportEncPublicKey_ECC", session, "enc-", index, key);
}

int SDF_GenerateKeyPair_ECC(void* session, unsigned int algorithm, unsigned int bits,
                            api::EccPublicKey* public_key, api::EccPrivateKey* private_key) {
  return in_session("SDF_GenerateKeyPair_ECC", session, {}, [&](Session&) {
    if (algorithm != api::kSm2Sign && algorithm != api::kSm2Encrypt) return api::kAlgNotSupport;
    const auto secret = sdf::sm2_draw();
    const auto key = secret ? sdf::sm2_public_of(*secret) : std::nullopt;
    if (bits != 256 || !key) return api::kInArgErr;
    *public_key = *key;
    *private_key = {};
    private_key->bits = bits;
    std::ranges::copy(*secret, private_key->k.end() - secret->size());
    return api::kOk;
  });
}

int SDF_GenerateKeyWithKEK(void* session, unsigned int bits, unsigned int algorithm,
                           unsigned int kek, std::byte* wrapped, unsigned int* wrapped_size,
                           void** key) {
  return in_session("SDF_GenerateKeyWithKEK", session, {wrapped, wrapped_size}, [&](Session& own) {
    if (bits == 0 || bits % 128 != 0 || bits / 8 > sdf::kSessionKeyBytesMax) return api::kInArgErr;
    std::vector<std::byte> fresh(bits / 8);
    if (!sdf::draw(fresh)) return api::kRandErr;
    std::vector<std::byte> out;
    const Return done = sdf::under_kek(sdf::Direction::kEncrypt, algorithm, kek, fresh, out);
    if (done != api::kOk) return done;
    std::ranges::copy(out, wrapped);
    *wrapped_size = static_cast<unsigned int>(out.size());
    *key = sdf::keep(own, std::move(fresh));
    return api::kOk;
  });
}

int SDF_ImportKeyWithKEK(void* session, unsigned int algorithm, unsigned int kek,
                         const std::byte* wrapped, unsigned int wrapped_size, void** key) {
  return in_session("SDF_ImportKeyWithKEK", session, {}, [&](Session& own) {
    if (wrapped_size > sdf::kSessionKeyBytesMax) return api::kInArgErr;
    std::vector<std::byte> out;
    const Return done =
        sdf::under_kek(sdf::Direction::kDecrypt, algorithm, kek, {wrapped, wrapped_size}, out);
    if (done == api::kOk) *key = sdf::keep(own, std::move(out));
    return done;
  });
}

int SDF_ImportKey(void* session, const std::byte* bytes, unsigned int size, void** key) {
  return in_session("SDF_ImportKey", session, {}, [&](Session& own) {
    if (size == 0 || size > sdf::kSessionKeyBytesMax) return api::kInArgErr;
    *key = sdf::keep(own, {bytes, bytes + size});
    return api::kOk;
  });
}

int SDF_DestroyKey(void* session, void* key) {
  return in_session("SDF_DestroyKey", session, {}, [&](Session& own) {
    return own.keys.erase(key) == 1 ? api::kOk : api::kKeyNotExist;
  });
}
}
// NOLINTEND(readability-identifier-naming)

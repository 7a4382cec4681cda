// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/kdf.h"

#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "core/base/unique_fd.h"
#include "core/crypto/digest.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using Kdf = CHandle<EVP_KDF, ::EVP_KDF_free>;
using KdfContext = CHandle<EVP_KDF_CTX, ::EVP_KDF_CTX_free>;

constexpr std::size_t kHkdfBytesMax = 255 * kSha256Bytes;
constexpr std::size_t kPbkdfBytesMax = 1024;
constexpr std::uint32_t kIterationsMax = 100'000'000;

OSSL_PARAM octets(const char* name, ByteView bytes) {
  // The interface takes no const, and does not write.
  return ::OSSL_PARAM_construct_octet_string(name, const_cast<unsigned char*>(uchars(bytes)),
                                             bytes.size());
}

const EVP_MD* digest_for(PbkdfHash hash) {
  switch (hash) {
    case PbkdfHash::kSha1:
      return ::EVP_sha1();
    case PbkdfHash::kSha256:
      return ::EVP_sha256();
    case PbkdfHash::kSha384:
      return ::EVP_sha384();
    case PbkdfHash::kSha512:
      return ::EVP_sha512();
  }
  return nullptr;
}

}  // namespace

Result<SecretBytes> hkdf_sha256(ByteView key, const HkdfContext& context, std::size_t size_bytes) {
  if (size_bytes == 0 || size_bytes > kHkdfBytesMax) {
    return fail(Reason::kInvalidArgs, "HKDF of " + std::to_string(size_bytes) + " bytes");
  }
  auto derived = SecretBytes::zeroed(size_bytes);
  if (!derived) return derived;
  const Kdf kdf(::EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  const KdfContext state(kdf ? ::EVP_KDF_CTX_new(kdf.get()) : nullptr);
  std::string digest = "SHA256";
  const std::array<OSSL_PARAM, 5> params{
      ::OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest.data(), 0),
      octets(OSSL_KDF_PARAM_KEY, key), octets(OSSL_KDF_PARAM_SALT, context.salt),
      octets(OSSL_KDF_PARAM_INFO, context.info), ::OSSL_PARAM_construct_end()};
  const bool done =
      state != nullptr && ::EVP_KDF_derive(state.get(), out_uchars(derived->reveal_mutable()),
                                           size_bytes, params.data()) == 1;
  if (!done) return openssl_failure(Reason::kInternal, "derive a key with HKDF");
  return derived;
}

Result<SecretBytes> pbkdf2(ByteView password, const PbkdfParams& params, std::size_t size_bytes) {
  const bool fits = params.iterations > 0 && params.iterations <= kIterationsMax &&
                    size_bytes > 0 && size_bytes <= kPbkdfBytesMax &&
                    params.salt.size() <= kPbkdfBytesMax && password.size() <= (1U << 20U);
  const EVP_MD* digest = digest_for(params.hash);
  if (!fits || digest == nullptr) return fail(Reason::kInvalidArgs, "parameters of PBKDF2");
  auto derived = SecretBytes::zeroed(size_bytes);
  if (!derived) return derived;
  const int done = ::PKCS5_PBKDF2_HMAC(
      reinterpret_cast<const char*>(uchars(password)), static_cast<int>(password.size()),
      uchars(params.salt), static_cast<int>(params.salt.size()),
      static_cast<int>(params.iterations), digest, static_cast<int>(size_bytes),
      out_uchars(derived->reveal_mutable()));
  if (done != 1) return openssl_failure(Reason::kInternal, "derive a key with PBKDF2");
  return derived;
}

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/key_wrap.h"

#include <openssl/evp.h>

#include "core/base/unique_fd.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using CipherContext = CHandle<EVP_CIPHER_CTX, ::EVP_CIPHER_CTX_free>;
using Algorithm = const EVP_CIPHER* (*)();

constexpr std::size_t kBlockBytes = 8;
constexpr std::size_t kSlackBytes = 16;  // OpenSSL may write one block more while it unwraps.

// The wrap modes by size of the kek: 16, 24, 32 bytes.
struct WrapMode {
  std::array<Algorithm, 3> algorithms;
  std::string_view name;
};
constexpr WrapMode kKw{{&::EVP_aes_128_wrap, &::EVP_aes_192_wrap, &::EVP_aes_256_wrap},
                       "AES key wrap"};
constexpr WrapMode kKwp{{&::EVP_aes_128_wrap_pad, &::EVP_aes_192_wrap_pad, &::EVP_aes_256_wrap_pad},
                        "AES key wrap with padding"};

const EVP_CIPHER* cipher_for(const WrapMode& mode, std::size_t kek_bytes) {
  if (kek_bytes != 16 && kek_bytes != 24 && kek_bytes != 32) return nullptr;
  return mode.algorithms[kek_bytes / 8 - 2]();
}

tl::unexpected<Error> bad_size(const WrapMode& mode, std::string_view what, std::size_t size) {
  return fail(Reason::kInvalidArgs, std::string(mode.name) + ": " + std::string(what) + " of " +
                                        std::to_string(size) + " bytes");
}

enum class Direction : int { kUnwrap = 0, kWrap = 1 };

// Runs the whole wrap or unwrap; the bytes written, or nothing when it failed.
std::optional<std::size_t> run(Direction direction, const EVP_CIPHER* cipher, ByteView kek,
                               ByteView in, std::span<std::byte> out) {
  const CipherContext context(::EVP_CIPHER_CTX_new());
  if (context == nullptr) return std::nullopt;
  ::EVP_CIPHER_CTX_set_flags(context.get(), EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
  int written = 0;
  int last = 0;
  const bool done =
      ::EVP_CipherInit_ex(context.get(), cipher, nullptr, uchars(kek), nullptr,
                          static_cast<int>(direction)) == 1 &&
      ::EVP_CipherUpdate(context.get(), out_uchars(out), &written, uchars(in),
                         static_cast<int>(in.size())) == 1 &&
      written > 0 &&
      ::EVP_CipherFinal_ex(context.get(),
                           out_uchars(out.subspan(static_cast<std::size_t>(written))), &last) == 1;
  if (!done) return std::nullopt;
  return static_cast<std::size_t>(written + last);
}

Result<Bytes> wrap(const WrapMode& mode, ByteView kek, ByteView key) {
  const EVP_CIPHER* cipher = cipher_for(mode, kek.size());
  if (cipher == nullptr) return bad_size(mode, "kek", kek.size());
  Bytes out(key.size() + kBlockBytes + kWrapOverheadBytes + kSlackBytes);
  const auto written = run(Direction::kWrap, cipher, kek, key, out);
  if (!written) return openssl_failure(Reason::kInternal, mode.name);
  out.resize(*written);
  return out;
}

Result<SecretBytes> unwrap(const WrapMode& mode, ByteView kek, ByteView wrapped,
                           std::size_t wrapped_bytes_min) {
  const EVP_CIPHER* cipher = cipher_for(mode, kek.size());
  if (cipher == nullptr) return bad_size(mode, "kek", kek.size());
  if (wrapped.size() < wrapped_bytes_min || wrapped.size() % kBlockBytes != 0 ||
      wrapped.size() > kWrappableBytesMax + kBlockBytes + kWrapOverheadBytes) {
    return fail(Reason::kBlobInvalid, std::string(mode.name) + ": no wrap has " +
                                          std::to_string(wrapped.size()) + " bytes");
  }
  auto key = SecretBytes::zeroed(wrapped.size() + kSlackBytes);
  if (!key) return key;
  const auto written = run(Direction::kUnwrap, cipher, kek, wrapped, key->reveal_mutable());
  if (!written) {
    return openssl_failure(Reason::kBlobInvalid,
                           std::string(mode.name) + ": the integrity check failed");
  }
  key->shrink(*written);
  return key;
}

}  // namespace

Result<Bytes> aes_kw_wrap(ByteView kek, ByteView key) {
  if (key.size() < 16 || key.size() % kBlockBytes != 0 || key.size() > kWrappableBytesMax) {
    return bad_size(kKw, "key", key.size());
  }
  return wrap(kKw, kek, key);
}

Result<Bytes> aes_kwp_wrap(ByteView kek, ByteView key) {
  if (key.empty() || key.size() > kWrappableBytesMax) return bad_size(kKwp, "key", key.size());
  return wrap(kKwp, kek, key);
}

Result<SecretBytes> aes_kw_unwrap(ByteView kek, ByteView wrapped) {
  return unwrap(kKw, kek, wrapped, 24);
}

Result<SecretBytes> aes_kwp_unwrap(ByteView kek, ByteView wrapped) {
  return unwrap(kKwp, kek, wrapped, 16);
}

}  // namespace coffer::crypto

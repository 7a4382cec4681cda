// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/xts.h"

#include <openssl/evp.h>

#include "core/base/secret_bytes.h"
#include "core/base/unique_fd.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using CipherContext = CHandle<EVP_CIPHER_CTX, ::EVP_CIPHER_CTX_free>;

constexpr std::size_t kUnitBytesMin = 16;
constexpr std::size_t kUnitBytesMax = std::size_t{16} << 20U;
constexpr std::size_t kTweakStepBytes = 512;

enum class Direction : int { kDecrypt = 0, kEncrypt = 1 };

const EVP_CIPHER* cipher_for(std::size_t key_bytes) {
  if (key_bytes == 32) return ::EVP_aes_128_xts();
  if (key_bytes == 64) return ::EVP_aes_256_xts();
  return nullptr;
}

// A context that holds the key; the tweak comes with each unit.
Result<CipherContext> begin(Direction direction, ByteView key) {
  const EVP_CIPHER* cipher = cipher_for(key.size());
  if (cipher == nullptr) {
    return fail(Reason::kInvalidArgs, "AES-XTS key of " + std::to_string(key.size()) + " bytes");
  }
  const std::size_t half = key.size() / 2;
  if (equal_constant_time(key.first(half), key.last(half))) {
    return fail(Reason::kInvalidArgs, "both halves of the AES-XTS key are equal");
  }
  CipherContext context(::EVP_CIPHER_CTX_new());
  if (context == nullptr || ::EVP_CipherInit_ex(context.get(), cipher, nullptr, uchars(key),
                                                nullptr, static_cast<int>(direction)) != 1) {
    return openssl_failure(Reason::kInternal, "set up AES-XTS");
  }
  return context;
}

Result<void> run_unit(EVP_CIPHER_CTX* context, const XtsTweak& tweak, ByteView in,
                      std::span<std::byte> out) {
  int written = 0;
  const bool done =
      ::EVP_CipherInit_ex(context, nullptr, nullptr, nullptr, uchars(tweak), -1) == 1 &&
      ::EVP_CipherUpdate(context, out_uchars(out), &written, uchars(in),
                         static_cast<int>(in.size())) == 1;
  if (!done) return openssl_failure(Reason::kInternal, "run AES-XTS");
  return {};
}

Result<void> one_unit(Direction direction, ByteView key, const XtsTweak& tweak, ByteView in,
                      std::span<std::byte> out) {
  if (in.size() < kUnitBytesMin || in.size() > kUnitBytesMax || in.size() != out.size()) {
    return fail(Reason::kInvalidArgs, "AES-XTS unit of " + std::to_string(in.size()) + " bytes");
  }
  const auto context = begin(direction, key);
  if (!context) return tl::unexpected(context.error());
  return run_unit(context->get(), tweak, in, out);
}

Result<void> sectors(Direction direction, ByteView key, const XtsSectors& where, ByteView in,
                     std::span<std::byte> out) {
  const std::size_t size = where.sector_bytes;
  const bool known_size = size == 512 || size == 1024 || size == 2048 || size == 4096;
  if (!known_size || in.size() % size != 0 || in.size() != out.size()) {
    return fail(Reason::kInvalidArgs, "sectors of " + std::to_string(size) + " bytes");
  }
  const auto context = begin(direction, key);
  if (!context) return tl::unexpected(context.error());
  std::uint64_t tweak = where.first_tweak;
  for (std::size_t at = 0; at < in.size(); at += size, tweak += size / kTweakStepBytes) {
    const auto done =
        run_unit(context->get(), plain64_tweak(tweak), in.subspan(at, size), out.subspan(at, size));
    if (!done) return done;
  }
  return {};
}

}  // namespace

XtsTweak plain64_tweak(std::uint64_t sector) noexcept {
  XtsTweak tweak{};
  for (std::size_t i = 0; i < 8; ++i)
    tweak[i] = static_cast<std::byte>((sector >> (8 * i)) & 0xFFU);
  return tweak;
}

Result<void> aes_xts_encrypt(ByteView key, const XtsTweak& tweak, ByteView in,
                             std::span<std::byte> out) {
  return one_unit(Direction::kEncrypt, key, tweak, in, out);
}

Result<void> aes_xts_decrypt(ByteView key, const XtsTweak& tweak, ByteView in,
                             std::span<std::byte> out) {
  return one_unit(Direction::kDecrypt, key, tweak, in, out);
}

Result<void> aes_xts_encrypt_sectors(ByteView key, const XtsSectors& where, ByteView in,
                                     std::span<std::byte> out) {
  return sectors(Direction::kEncrypt, key, where, in, out);
}

Result<void> aes_xts_decrypt_sectors(ByteView key, const XtsSectors& where, ByteView in,
                                     std::span<std::byte> out) {
  return sectors(Direction::kDecrypt, key, where, in, out);
}

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#include "cli/selftest/sector_cipher.h"

#include <openssl/evp.h>

#include <algorithm>

#include "core/base/unique_fd.h"
#include "core/crypto/digest.h"
#include "core/crypto/xts.h"

namespace coffer::cli {
namespace {

using CipherContext = CHandle<EVP_CIPHER_CTX, ::EVP_CIPHER_CTX_free>;
using Block = std::array<std::byte, 16>;

const unsigned char* uchars(ByteView bytes) {
  return reinterpret_cast<const unsigned char*>(bytes.data());
}

// One run of a block cipher without padding.
bool run_cipher(const EVP_CIPHER* cipher, bool encrypt, ByteView key, const Block* iv, ByteView in,
                std::span<std::byte> out) {
  const CipherContext context(::EVP_CIPHER_CTX_new());
  int size = 0;
  return context != nullptr &&
         ::EVP_CipherInit_ex(context.get(), cipher, nullptr, uchars(key),
                             iv == nullptr ? nullptr : uchars(*iv), encrypt ? 1 : 0) == 1 &&
         ::EVP_CIPHER_CTX_set_padding(context.get(), 0) == 1 &&
         ::EVP_CipherUpdate(context.get(), reinterpret_cast<unsigned char*>(out.data()), &size,
                            uchars(in), static_cast<int>(in.size())) == 1;
}

// ESSIV: the sector's number, encrypted under the hash of the key.
bool decrypt_cbc_essiv(ByteView key, std::uint64_t sector, ByteView in, std::span<std::byte> out) {
  Block iv{};
  return key.size() == 32 &&
         run_cipher(::EVP_aes_256_ecb(), true, crypto::sha256(key), nullptr,
                    crypto::plain64_tweak(sector), iv) &&
         run_cipher(::EVP_aes_256_cbc(), false, key, &iv, in, out);
}

bool decrypt_sector(std::string_view cipher, ByteView key, std::uint64_t sector, ByteView in,
                    std::span<std::byte> out) {
  if (cipher == "aes-cbc-essiv:sha256") return decrypt_cbc_essiv(key, sector, in, out);
  const bool narrow = cipher == "aes-xts-plain";  // The older IV wraps at 32 bits.
  const auto tweak = crypto::plain64_tweak(narrow ? sector & 0xffffffffU : sector);
  return crypto::aes_xts_decrypt(key, tweak, in, out).has_value();
}

}  // namespace

Result<Bytes> decrypt_sectors(const SectorParams& params, ByteView key, ByteView ciphertext) {
  constexpr std::array<std::string_view, 3> kCiphers = {"aes-xts-plain64", "aes-xts-plain",
                                                        "aes-cbc-essiv:sha256"};
  if (std::ranges::find(kCiphers, params.cipher) == kCiphers.end()) {
    return fail(Reason::kUnsupported, "cipher " + std::string(params.cipher));
  }
  if (params.sector_bytes < 512 || ciphertext.size() % params.sector_bytes != 0) {
    return fail(Reason::kInvalidArgs, "not whole sectors");
  }
  const std::uint64_t step = params.iv_large_sectors ? 1 : params.sector_bytes / 512;
  Bytes plain(ciphertext.size());
  std::uint64_t sector = params.first_sector;
  for (std::size_t at = 0; at < plain.size(); at += params.sector_bytes, sector += step) {
    const auto out = std::span(plain).subspan(at, params.sector_bytes);
    if (!decrypt_sector(params.cipher, key, sector, ciphertext.subspan(at, params.sector_bytes),
                        out)) {
      return fail(Reason::kInvalidArgs, "key or sector size");
    }
  }
  return plain;
}

}  // namespace coffer::cli

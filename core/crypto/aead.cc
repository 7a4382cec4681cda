// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/aead.h"

#include <openssl/evp.h>

#include "core/base/unique_fd.h"
#include "core/crypto/openssl_error.h"

namespace coffer::crypto {
namespace {

using CipherContext = CHandle<EVP_CIPHER_CTX, ::EVP_CIPHER_CTX_free>;

constexpr std::size_t kTextBytesMax = std::size_t{1}
                                      << 30U;  // Fits the int of OpenSSL's interface.
constexpr std::size_t kNonceBytesMin = 1;
constexpr std::size_t kNonceBytesMax = 128;

const EVP_CIPHER* cipher_for(std::size_t key_bytes) {
  if (key_bytes == 16) return ::EVP_aes_128_gcm();
  if (key_bytes == 24) return ::EVP_aes_192_gcm();
  if (key_bytes == 32) return ::EVP_aes_256_gcm();
  return nullptr;
}

Result<void> check_sizes(ByteView key, const GcmContext& context, std::size_t text_bytes) {
  if (cipher_for(key.size()) == nullptr) {
    return fail(Reason::kInvalidArgs, "AES-GCM key of " + std::to_string(key.size()) + " bytes");
  }
  if (context.nonce.size() < kNonceBytesMin || context.nonce.size() > kNonceBytesMax) {
    return fail(Reason::kInvalidArgs,
                "AES-GCM nonce of " + std::to_string(context.nonce.size()) + " bytes");
  }
  if (text_bytes > kTextBytesMax || context.aad.size() > kTextBytesMax) {
    return fail(Reason::kInvalidArgs, "AES-GCM text is too long");
  }
  return {};
}

enum class Direction : int { kOpen = 0, kSeal = 1 };

// A context that has read key, nonce and AAD; null when OpenSSL failed.
CipherContext begin(Direction direction, ByteView key, const GcmContext& input) {
  CipherContext context(::EVP_CIPHER_CTX_new());
  const int seal = static_cast<int>(direction);
  int unused = 0;
  const bool begun = context != nullptr &&
                     ::EVP_CipherInit_ex(context.get(), cipher_for(key.size()), nullptr, nullptr,
                                         nullptr, seal) == 1 &&
                     ::EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_AEAD_SET_IVLEN,
                                           static_cast<int>(input.nonce.size()), nullptr) == 1 &&
                     ::EVP_CipherInit_ex(context.get(), nullptr, nullptr, uchars(key),
                                         uchars(input.nonce), seal) == 1 &&
                     ::EVP_CipherUpdate(context.get(), nullptr, &unused, uchars(input.aad),
                                        static_cast<int>(input.aad.size())) == 1;
  if (!begun) context.reset();
  return context;
}

}  // namespace

Result<Bytes> aes_gcm_seal(ByteView key, const GcmContext& context, ByteView plaintext) {
  if (auto sizes = check_sizes(key, context, plaintext.size()); !sizes) {
    return tl::unexpected(sizes.error());
  }
  const CipherContext cipher = begin(Direction::kSeal, key, context);
  Bytes sealed(plaintext.size() + kGcmTagBytes);
  const std::span<std::byte> out(sealed);
  int written = 0;
  int last = 0;
  const bool done = cipher != nullptr &&
                    ::EVP_CipherUpdate(cipher.get(), out_uchars(out), &written, uchars(plaintext),
                                       static_cast<int>(plaintext.size())) == 1 &&
                    ::EVP_CipherFinal_ex(cipher.get(), out_uchars(out), &last) == 1 &&
                    ::EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_GET_TAG, kGcmTagBytes,
                                          out_uchars(out.last(kGcmTagBytes))) == 1;
  if (!done) return openssl_failure(Reason::kInternal, "encrypt with AES-GCM");
  return sealed;
}

Result<SecretBytes> aes_gcm_open(ByteView key, const GcmContext& context, ByteView sealed) {
  if (auto sizes = check_sizes(key, context, sealed.size()); !sizes) {
    return tl::unexpected(sizes.error());
  }
  if (sealed.size() < kGcmTagBytes) {
    return fail(Reason::kBlobInvalid, "AES-GCM text is shorter than its tag");
  }
  const ByteView ciphertext = sealed.first(sealed.size() - kGcmTagBytes);
  Bytes tag(sealed.end() - kGcmTagBytes, sealed.end());

  // One byte more than needed, so that there is memory to write to even for an empty text.
  auto plaintext = SecretBytes::zeroed(ciphertext.size() + 1);
  if (!plaintext) return plaintext;
  const std::span<std::byte> out = plaintext->reveal_mutable();
  const CipherContext cipher = begin(Direction::kOpen, key, context);
  int written = 0;
  int last = 0;
  const bool ready =
      cipher != nullptr &&
      ::EVP_CipherUpdate(cipher.get(), out_uchars(out), &written, uchars(ciphertext),
                         static_cast<int>(ciphertext.size())) == 1 &&
      ::EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_AEAD_SET_TAG, kGcmTagBytes, tag.data()) == 1;
  if (!ready) return openssl_failure(Reason::kInternal, "decrypt with AES-GCM");
  if (::EVP_CipherFinal_ex(cipher.get(), out_uchars(out.last(1)), &last) != 1) {
    return openssl_failure(Reason::kBlobInvalid, "the AES-GCM tag does not match");
  }
  plaintext->shrink(ciphertext.size());
  return plaintext;
}

}  // namespace coffer::crypto

// SPDX-License-Identifier: Apache-2.0
#include "core/crypto/sm4.h"

#include <gcrypt.h>

#include <algorithm>

#include "core/base/unique_fd.h"

namespace coffer::crypto {
namespace {

using Cipher = CHandle<gcry_cipher_handle, ::gcry_cipher_close>;  // Closing wipes.

constexpr std::size_t kTextBytesMax = std::size_t{1} << 30U;
constexpr std::size_t kNonceBytesMax = 128;

// Other libraries of the process may use libgcrypt as well: whoever comes first finishes the
// initialisation. Its secure memory is left off, because keys come from ours.
bool library_ready() {
  static const bool kReady = [] {
    if (::gcry_check_version(GCRYPT_VERSION) == nullptr) return false;
    if (::gcry_control(GCRYCTL_INITIALIZATION_FINISHED_P) != 0) return true;
    return ::gcry_control(GCRYCTL_DISABLE_SECMEM, 0) == 0 &&
           ::gcry_control(GCRYCTL_INITIALIZATION_FINISHED, 0) == 0;
  }();
  return kReady;
}

tl::unexpected<Error> failure(gcry_error_t error, std::string_view step) {
  const auto code = ::gcry_err_code(error);
  const bool refused = code == GPG_ERR_CIPHER_ALGO || code == GPG_ERR_NOT_SUPPORTED ||
                       code == GPG_ERR_INV_CIPHER_MODE;
  return fail(refused ? Reason::kUnsupported : Reason::kInternal,
              std::string(step) + ": " + ::gcry_strerror(error));
}

// A context that has read the key.
Result<Cipher> open_cipher(gcry_cipher_modes mode, ByteView key, std::size_t text_bytes) {
  if (key.size() != kSm4KeyBytes)
    return fail(Reason::kInvalidArgs, "SM4 key of " + std::to_string(key.size()) + " bytes");
  if (text_bytes > kTextBytesMax) return fail(Reason::kInvalidArgs, "SM4 text is too long");
  if (!library_ready())
    return fail(Reason::kUnsupported, "libgcrypt is older than " GCRYPT_VERSION);
  gcry_cipher_hd_t opened = nullptr;
  gcry_error_t error = ::gcry_cipher_open(&opened, GCRY_CIPHER_SM4, mode, 0);
  Cipher cipher(opened);
  if (error == 0) error = ::gcry_cipher_setkey(cipher.get(), key.data(), key.size());
  if (error != 0) return failure(error, "set up SM4");
  return cipher;
}

// Encrypts or decrypts all of `in`; nothing is to be done for an empty text.
using Run = gcry_error_t (*)(gcry_cipher_hd_t, void*, std::size_t, const void*, std::size_t);
gcry_error_t run(Run direction, const Cipher& cipher, ByteView in, std::span<std::byte> out) {
  if (in.empty()) return 0;
  return direction(cipher.get(), out.data(), out.size(), in.data(), in.size());
}

Result<Cipher> open_gcm(ByteView key, const GcmContext& context, std::size_t text_bytes) {
  const std::size_t nonce_bytes = context.nonce.size();
  if (nonce_bytes < 1 || nonce_bytes > kNonceBytesMax)
    return fail(Reason::kInvalidArgs, "SM4-GCM nonce of " + std::to_string(nonce_bytes) + " bytes");
  auto cipher = open_cipher(GCRY_CIPHER_MODE_GCM, key, std::max(text_bytes, context.aad.size()));
  if (!cipher) return cipher;
  gcry_error_t error = ::gcry_cipher_setiv(cipher->get(), context.nonce.data(), nonce_bytes);
  if (error == 0 && !context.aad.empty())
    error = ::gcry_cipher_authenticate(cipher->get(), context.aad.data(), context.aad.size());
  if (error != 0) return failure(error, "set up SM4-GCM");
  return cipher;
}

Result<Cipher> open_cbc(ByteView key, const Sm4Block& iv, std::size_t text_bytes) {
  auto cipher = open_cipher(GCRY_CIPHER_MODE_CBC, key, text_bytes);
  if (!cipher) return cipher;
  const gcry_error_t error = ::gcry_cipher_setiv(cipher->get(), iv.data(), iv.size());
  if (error != 0) return failure(error, "set up SM4-CBC");
  return cipher;
}

// How many bytes of padding stand in the last block, 0 when they are not as they must be. Takes the
// same time for every block.
std::size_t padding_bytes(ByteView block) {
  const auto count = std::to_integer<unsigned>(block.back());
  unsigned wrong = ((count - 1U) | (unsigned{kSm4BlockBytes} - count)) >> 31U;  // Not 1 to 16.
  for (unsigned i = 0; i < kSm4BlockBytes; ++i) {
    const unsigned inside = (i - count) >> 31U;  // i < count, counted from the end.
    const unsigned differs = std::to_integer<unsigned>(block[kSm4BlockBytes - 1 - i]) ^ count;
    wrong |= differs & (0U - inside);
  }
  return wrong == 0 ? count : 0;
}

}  // namespace

Result<Bytes> sm4_gcm_seal(ByteView key, const GcmContext& context, ByteView plaintext) {
  const auto cipher = open_gcm(key, context, plaintext.size());
  if (!cipher) return tl::unexpected(cipher.error());
  Bytes sealed(plaintext.size() + kGcmTagBytes);
  const std::span<std::byte> out(sealed);
  gcry_error_t error = run(::gcry_cipher_encrypt, *cipher, plaintext, out.first(plaintext.size()));
  if (error == 0)
    error = ::gcry_cipher_gettag(cipher->get(), out.last(kGcmTagBytes).data(), kGcmTagBytes);
  if (error != 0) return failure(error, "encrypt with SM4-GCM");
  return sealed;
}

Result<SecretBytes> sm4_gcm_open(ByteView key, const GcmContext& context, ByteView sealed) {
  const auto cipher = open_gcm(key, context, sealed.size());
  if (!cipher) return tl::unexpected(cipher.error());
  if (sealed.size() < kGcmTagBytes)
    return fail(Reason::kBlobInvalid, "SM4-GCM text is shorter than its tag");
  const ByteView ciphertext = sealed.first(sealed.size() - kGcmTagBytes);
  auto plaintext = SecretBytes::zeroed(ciphertext.size());
  if (!plaintext) return plaintext;
  gcry_error_t error = run(::gcry_cipher_decrypt, *cipher, ciphertext, plaintext->reveal_mutable());
  if (error != 0) return failure(error, "decrypt with SM4-GCM");
  error = ::gcry_cipher_checktag(cipher->get(), sealed.last(kGcmTagBytes).data(), kGcmTagBytes);
  if (::gcry_err_code(error) == GPG_ERR_CHECKSUM)
    return fail(Reason::kBlobInvalid, "the SM4-GCM tag does not match");
  if (error != 0) return failure(error, "check the tag of SM4-GCM");
  return plaintext;
}

Result<void> sm4_ctr(ByteView key, const Sm4Block& counter, ByteView in, std::span<std::byte> out) {
  if (in.size() != out.size())
    return fail(Reason::kInvalidArgs, "SM4-CTR: input and output differ in size");
  const auto cipher = open_cipher(GCRY_CIPHER_MODE_CTR, key, in.size());
  if (!cipher) return tl::unexpected(cipher.error());
  gcry_error_t error = ::gcry_cipher_setctr(cipher->get(), counter.data(), counter.size());
  if (error == 0) error = run(::gcry_cipher_encrypt, *cipher, in, out);
  if (error != 0) return failure(error, "run SM4-CTR");
  return {};
}

Result<Bytes> sm4_cbc_encrypt(ByteView key, const Sm4Block& iv, ByteView plaintext) {
  const auto cipher = open_cbc(key, iv, plaintext.size());
  if (!cipher) return tl::unexpected(cipher.error());
  const std::size_t padding = kSm4BlockBytes - plaintext.size() % kSm4BlockBytes;
  Bytes text(plaintext.size() + padding, static_cast<std::byte>(padding));
  std::ranges::copy(plaintext, text.begin());
  // In place, so that no other copy of the plaintext is left.
  const gcry_error_t error = run(::gcry_cipher_encrypt, *cipher, text, text);
  if (error == 0) return text;
  wipe(text);
  return failure(error, "encrypt with SM4-CBC");
}

Result<SecretBytes> sm4_cbc_decrypt(ByteView key, const Sm4Block& iv, ByteView ciphertext) {
  const auto cipher = open_cbc(key, iv, ciphertext.size());
  if (!cipher) return tl::unexpected(cipher.error());
  if (ciphertext.empty() || ciphertext.size() % kSm4BlockBytes != 0)
    return fail(Reason::kBlobInvalid, "SM4-CBC text is not whole blocks");
  auto plaintext = SecretBytes::zeroed(ciphertext.size());
  if (!plaintext) return plaintext;
  const gcry_error_t error =
      run(::gcry_cipher_decrypt, *cipher, ciphertext, plaintext->reveal_mutable());
  if (error != 0) return failure(error, "decrypt with SM4-CBC");
  const std::size_t padding = padding_bytes(plaintext->reveal().last(kSm4BlockBytes));
  if (padding == 0) return fail(Reason::kBlobInvalid, "the padding of SM4-CBC is wrong");
  plaintext->shrink(plaintext->size() - padding);
  return plaintext;
}

}  // namespace coffer::crypto

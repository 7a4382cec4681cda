// SPDX-License-Identifier: Apache-2.0
#include "hsm/root_cipher.h"

#include <algorithm>

#include "hsm/block_padding.h"
#include "hsm/pkcs11_module.h"

namespace coffer::hsm {
namespace {

constexpr std::uint8_t kFormat = 1;
constexpr std::size_t kBlockBytes = kPaddedBlockBytes;
constexpr std::size_t kMacBytes = sizeof(Mac);
constexpr std::size_t kHeadBytes = 1 + kBlockBytes;  // Format and vector.
constexpr std::size_t kMaterialBytesMax =
    kHeadBytes + RootCipher::kKeyBytesMax + kBlockBytes + kMacBytes;

using Start = CK_RV (*CK_FUNCTION_LIST::*)(CK_SESSION_HANDLE, CK_MECHANISM*, CK_OBJECT_HANDLE);
using Step = CK_RV (*CK_FUNCTION_LIST::*)(CK_SESSION_HANDLE, CK_BYTE*, CK_ULONG, CK_BYTE*,
                                          CK_ULONG*);

// One encryption or decryption of whole blocks with the key for rooted keys.
CK_RV run_cbc(const TokenLink::Session& session, Start start, Step step, ByteView vector,
              std::span<const std::byte> in, std::span<std::byte> out) {
  CK_MECHANISM mechanism{CKM_AES_CBC, p11_bytes(vector), vector.size()};
  CK_RV rv = session.module.call(start, session.handle, &mechanism, session.facts.keys.rooted);
  if (rv != CKR_OK) return rv;
  CK_ULONG size = out.size();
  rv = session.module.call(step, session.handle, p11_bytes(in), CK_ULONG{in.size()}, p11_bytes(out),
                           &size);
  if (rv != CKR_OK) return rv;
  return size == out.size() ? CK_RV{CKR_OK} : CK_RV{CKR_GENERAL_ERROR};
}

}  // namespace

Result<Bytes> RootCipher::close(const SecretBytes& key, ByteView aad) {
  if (key.empty() || key.size() > kKeyBytesMax)
    return fail(Reason::kInvalidArgs, "a rooted key has 1 to 3072 bytes");
  const auto text = pad_blocks(key.reveal());
  if (!text) return tl::unexpected(text.error());
  Bytes vector(kBlockBytes);
  Bytes ciphertext(text->size());
  const auto done =
      link_.run("encrypt a rooted key", [&](const TokenLink::Session& session) -> CK_RV {
        // Anew for each attempt.
        const CK_RV rv = session.module.call(&CK_FUNCTION_LIST::C_GenerateRandom, session.handle,
                                             p11_bytes(vector), CK_ULONG{vector.size()});
        if (rv != CKR_OK) return rv;
        return run_cbc(session, &CK_FUNCTION_LIST::C_EncryptInit, &CK_FUNCTION_LIST::C_Encrypt,
                       vector, text->reveal(), ciphertext);
      });
  if (!done) return tl::unexpected(done.error());
  const auto tag = mac(aad, vector, ciphertext);
  if (!tag) return tl::unexpected(tag.error());
  return ByteWriter().u8(kFormat).raw(vector).raw(ciphertext).raw(*tag).take();
}

Result<SecretBytes> RootCipher::open(ByteView material, ByteView aad) {
  const auto invalid = [] {
    return fail(Reason::kRecordInvalid, "the bytes of a rooted key are damaged, or of another key");
  };
  const bool shaped = material.size() >= kHeadBytes + kBlockBytes + kMacBytes &&
                      material.size() <= kMaterialBytesMax &&
                      (material.size() - kHeadBytes - kMacBytes) % kBlockBytes == 0 &&
                      material.front() == std::byte{kFormat};
  if (!shaped) return invalid();
  const auto vector = material.subspan(1, kBlockBytes);
  const auto ciphertext = material.subspan(kHeadBytes, material.size() - kHeadBytes - kMacBytes);
  const auto tag = mac(aad, vector, ciphertext);
  if (!tag) return tl::unexpected(tag.error());
  if (!equal_constant_time(*tag, material.last(kMacBytes))) return invalid();

  auto text = SecretBytes::zeroed(ciphertext.size());
  if (!text) return text;
  const auto done =
      link_.run("decrypt a rooted key", [&](const TokenLink::Session& session) -> CK_RV {
        return run_cbc(session, &CK_FUNCTION_LIST::C_DecryptInit, &CK_FUNCTION_LIST::C_Decrypt,
                       vector, ciphertext, text->reveal_mutable());
      });
  if (!done) return tl::unexpected(done.error());
  // Authentic, so a wrong padding is the token's fault.
  if (!unpad_blocks(*text))
    return fail(Reason::kHsmFailed, "the token decrypts a rooted key to something else");
  return text;
}

Result<Mac> RootCipher::mac(ByteView aad, ByteView vector, ByteView ciphertext) {
  // Begins like no message of wrapped-key.md, which the same key authenticates.
  return token_.mac(MacKey::kWrap, ByteWriter()
                                       .raw(as_bytes("coffer rooted material v1"))
                                       .bytes(aad)
                                       .bytes(vector)
                                       .bytes(ciphertext)
                                       .view());
}

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/token_link.h"
#include "hsm/vault_token.h"

namespace coffer::hsm {

// RootCipher closes the bytes of rooted keys under the token's key for them
// (TokenKeys::rooted): AES-256-CBC by that key with a random vector, then HMAC-SHA-256 by the
// token's wrap key, which is checked before anything is decrypted. Format:
// docs/formats/rooted-material.md.
//
// Thread-safe, as both parts are. Errors as TokenLink::run() names them; besides those named.
class RootCipher {
 public:
  static constexpr std::size_t kKeyBytesMax = 3072;

  // `token` makes the HMACs; neither is owned.
  RootCipher(TokenLink& link, VaultToken& token) noexcept : link_(link), token_(token) {}

  // Authenticated together with `aad`.   kInvalidArgs: the key is empty, or too long.
  Result<Bytes> close(const SecretBytes& key, ByteView aad);
  // kRecordInvalid: not what close() made with this `aad`.
  Result<SecretBytes> open(ByteView material, ByteView aad);

 private:
  Result<Mac> mac(ByteView aad, ByteView vector, ByteView ciphertext);

  TokenLink& link_;
  VaultToken& token_;
};

}  // namespace coffer::hsm

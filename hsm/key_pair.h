// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "core/base/bytes.h"
#include "core/base/result.h"
#include "core/base/secret_bytes.h"

namespace coffer::hsm {

// A key as it is closed and shown: the private half in PKCS#8 (of a symmetric key its bytes), and
// the public half as SubjectPublicKeyInfo, DER (of a symmetric key nothing).
struct KeyPair {
  SecretBytes secret;
  Bytes public_key;
};

// Of a private key of core/crypto, as its generate() or parse() gave it.
template <class Private>
Result<KeyPair> key_pair_of(const Result<Private>& made) {
  if (!made) return tl::unexpected(made.error());
  auto secret = made->to_der();
  if (!secret) return tl::unexpected(secret.error());
  const auto half = made->public_key();
  if (!half) return tl::unexpected(half.error());
  auto der = half->to_der();
  if (!der) return tl::unexpected(der.error());
  return KeyPair{std::move(*secret), std::move(*der)};
}

}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mutex>
#include <vector>

#include "core/base/result.h"
#include "hsm/cmk_handles.h"
#include "hsm/token_link.h"
#include "hsm/vault_token.h"

namespace coffer::hsm {

// TokenPrivateKeys makes private keys of a PKCS#11 token that sign inside it: RSA (PKCS #1 v1.5 and
// PSS, both with SHA-256) and EC on P-256 and P-384. A pair is made as session objects; the private
// half is stored outside, wrapped by the token's key for private keys (TokenKeys::private_keys,
// CKM_AES_KEY_WRAP_PAD), and unwrapped back as a session object that nothing takes out again. Keys
// that decrypt are not made here: docs/decisions/0170.
//
// No signature leaves that its public half does not hold for: a token that errs, as one under
// attack by faults may, would give parts of the key away with it.
//
// Thread-safe. Errors as TokenLink::run() names them; besides those named.
class TokenPrivateKeys {
 public:
  // Neither is owned.
  TokenPrivateKeys(TokenLink& link, CmkHandles& handles) noexcept
      : link_(link), handles_(handles) {}

  // The algorithms that the token makes such keys of, ascending: it shows the mechanisms for them,
  // has the key that wraps, and a pair (on P-256, where it has EC) was made, wrapped, unwrapped and
  // used once since `facts` were read. A trial that fails for what may pass is an error, and made
  // again the next time: no key is rooted for life because a token was busy.
  Result<std::vector<keyring::KeyAlgorithm>> signs(const TokenLink::FactsPtr& facts);

  // Once it has signed as it will when it is used.
  //   kUnsupported   not such an algorithm, or the token has no key that wraps it.
  //   kHsmFailed     also: what came back does not sign for the public half.
  Result<NewKey> generate(const CmkId& cmk, std::uint32_t number, keyring::KeyAlgorithm algorithm);

  //   kInvalidArgs   the size of the digest.
  //   kKeyUsage      a scheme of other keys.
  //   kHsmFailed     also: the token's signature does not hold.
  Result<Bytes> sign(const TokenKey& key, keyring::SignScheme scheme, ByteView digest);

 private:
  TokenLink& link_;
  CmkHandles& handles_;
  std::mutex mutex_;           // Guards what follows.
  TokenLink::FactsPtr tried_;  // Of which the outcome stands.
  std::vector<keyring::KeyAlgorithm> signs_;
};

}  // namespace coffer::hsm

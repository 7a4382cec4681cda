// SPDX-License-Identifier: Apache-2.0
#include "hsm/token_seed.h"

#include <array>

#include "core/base/encoding.h"
#include "core/crypto/digest.h"
#include "core/crypto/kdf.h"
#include "core/crypto/key_wrap.h"

namespace coffer::hsm {

std::string_view token_key_id(TokenKeyRole role) noexcept {
  switch (role) {
    case TokenKeyRole::kRoot:
      return "coffer-root-1";
    case TokenKeyRole::kSeal:
      return "coffer-seal-1";
    case TokenKeyRole::kWrap:
      return "coffer-wrap-1";
    case TokenKeyRole::kRooted:
      return "coffer-rooted-1";
    case TokenKeyRole::kPrivate:
      return "coffer-private-1";
  }
  return "";
}

Result<SecretBytes> derive_token_key(const SecretBytes& seed, TokenKeyRole role) {
  if (seed.size() != kSeedBytes) return fail(Reason::kInvalidArgs, "a seed has 32 bytes");
  return crypto::hkdf_sha256(seed.reveal(),
                             {as_bytes("coffer token keys v1"), as_bytes(token_key_id(role))}, 32);
}

std::string root_id_of(ByteView closed, ByteView seal, ByteView wrap) {
  ByteWriter all;
  all.text(kRootIdPurpose).bytes(closed).bytes(seal).bytes(wrap);
  return to_hex(ByteView(crypto::sha256(all.view())).first(16));
}

Result<std::string> root_id_of_seed(const SecretBytes& seed) {
  const auto root = derive_token_key(seed, TokenKeyRole::kRoot);
  if (!root) return tl::unexpected(root.error());
  const auto seal = derive_token_key(seed, TokenKeyRole::kSeal);
  if (!seal) return tl::unexpected(seal.error());
  const auto wrap = derive_token_key(seed, TokenKeyRole::kWrap);
  if (!wrap) return tl::unexpected(wrap.error());
  const std::array<std::byte, 32> zeros{};
  const auto closed = crypto::aes_kw_wrap(root->reveal(), zeros);
  if (!closed) return tl::unexpected(closed.error());
  const auto purpose = as_bytes(kRootIdPurpose);
  return root_id_of(*closed, crypto::hmac_sha256(seal->reveal(), purpose),
                    crypto::hmac_sha256(wrap->reveal(), purpose));
}

}  // namespace coffer::hsm

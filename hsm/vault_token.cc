// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_token.h"

namespace coffer::hsm {
namespace {

tl::unexpected<Error> not_by_this_token(const char* what) {
  return fail(Reason::kUnsupported, std::string("this token does not ") + what);
}

}  // namespace

Result<NewKey> VaultToken::import_key(const CmkId& /*cmk*/, std::uint32_t /*number*/,
                                      const keyring::KeySupport& /*kind*/,
                                      const SecretBytes& /*key*/) {
  return not_by_this_token("take keys in");
}

// Without resident keys there is nothing to remove.
Result<void> VaultToken::destroy(const CmkId& /*cmk*/, std::uint32_t /*number*/) {
  return {};
}

Result<Bytes> VaultToken::sign(const TokenKey& /*key*/, keyring::SignScheme /*scheme*/,
                               ByteView /*digest*/) {
  return not_by_this_token("sign");
}

Result<SecretBytes> VaultToken::decrypt_asymmetric(const TokenKey& /*key*/,
                                                   keyring::DecryptScheme /*scheme*/,
                                                   ByteView /*ciphertext*/) {
  return not_by_this_token("decrypt by private keys");
}

Result<Bytes> VaultToken::close_rooted(const SecretBytes& /*key*/, ByteView /*aad*/) {
  return not_by_this_token("keep keys that are used outside of it");
}

Result<SecretBytes> VaultToken::open_rooted(ByteView /*material*/, ByteView /*aad*/) {
  return not_by_this_token("keep keys that are used outside of it");
}

}  // namespace coffer::hsm

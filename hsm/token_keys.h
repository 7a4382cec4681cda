// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/pkcs11_module.h"
#include "hsm/token_seed.h"

namespace coffer::hsm {

// What the root key does, which the token's mechanisms decide.
//
//   kWraps     It wraps and unwraps (CKM_AES_KEY_WRAP), and nothing else. Its CKA_UNWRAP_TEMPLATE
//   is
//              what makes a CMK that lies outside the token as safe as one inside: a key it unwraps
//              is never extractable.
//   kEncrypts  It encrypts and decrypts (CKM_AES_CBC), and nothing else: the token wraps no keys,
//   as
//              those of a TPM. Whoever may log in can have it decrypt a CMK, so CMKs are `rooted`.
//              Such a token makes and takes no keys through PKCS#11 either: its own tool does.
enum class RootForm : std::uint8_t { kWraps = 1, kEncrypts = 2 };
std::string_view token_key_label(TokenKeyRole role) noexcept;  // "coffer root", …

struct TokenKeys {
  RootForm form = RootForm::kWraps;
  CK_OBJECT_HANDLE root = CK_INVALID_HANDLE;
  CK_OBJECT_HANDLE seal = CK_INVALID_HANDLE;
  CK_OBJECT_HANDLE wrap = CK_INVALID_HANDLE;
  CK_OBJECT_HANDLE rooted = CK_INVALID_HANDLE;        // As above; may be absent.
  CK_OBJECT_HANDLE private_keys = CK_INVALID_HANDLE;  // Wraps them; may be absent.
};

// What calls on objects need. `objects` is held during each of them: SoftHSM 2.6 races searching
// against creating.
struct ObjectAccess {
  const Pkcs11Module& module;
  CK_SESSION_HANDLE owner;
  std::mutex& objects;
};

// The form of the token's root key.   kUnsupported: the token can do neither.
Result<RootForm> root_form(const ObjectAccess& access);

// The handle of the key of `role`.
//   kNoSuchKey     the token has none: `coffer init` was not run on it.
//   kHsmKeyUnsafe  it has several.
Result<CK_OBJECT_HANDLE> find_token_key(const ObjectAccess& access, TokenKeyRole role);

// Refuses a key whose attributes would let it, or what it protects, leave the token.
//   kHsmKeyUnsafe  naming the attribute.
Result<void> require_safe(const ObjectAccess& access, TokenKeyRole role, RootForm form,
                          CK_OBJECT_HANDLE key);

// Both, for all keys.
//   kUnsupported  instead of kNoSuchKey where `coffer init` could not make it
//   (RootForm::kEncrypts).
Result<TokenKeys> find_safe_keys(const ObjectAccess& access);

// Whether the root key was made in the token and never was outside (CKA_NEVER_EXTRACTABLE). Not
// required: a root key with recovery shares was imported.
Result<bool> root_never_left(const ObjectAccess& access, CK_OBJECT_HANDLE root);

// Key check value of root, seal and wrap together: equal on two tokens when these three keys are.
// The keys for rooted and for private keys are derived beside them, and a token may lack either.
Result<std::string> read_root_id(const ObjectAccess& access, const TokenKeys& keys);

// Makes the key of `role` as a token object with the attributes require_safe() wants of
// RootForm::kWraps: from `value` (32 bytes), or in the token when it is null. Needs a session that
// may write.
Result<CK_OBJECT_HANDLE> make_token_key(const ObjectAccess& access, TokenKeyRole role,
                                        const SecretBytes* value);

}  // namespace coffer::hsm

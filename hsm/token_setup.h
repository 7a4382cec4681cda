// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/pin_mark.h"
#include "hsm/pkcs11_module.h"
#include "hsm/pkcs11_uri.h"
#include "hsm/token_seed.h"

namespace coffer::hsm {

// What `coffer init` does to a token, in steps of which each can be asked whether it is done. The
// module is initialised; nothing else uses it meanwhile.

// A new token in a free slot, with `pin` as its user's PIN. The security officer's PIN is drawn and
// forgotten: a token whose PIN is lost is made anew from the recovery shares.
//   kHsmFailed     no slot is free, or the module refused.
//   kInvalidArgs   the label is empty or longer than 32 bytes.
Result<TokenIdentity> make_token(Pkcs11Module& module, std::string_view label,
                                 const SecretBytes& pin);

// Which of Coffer's keys the token has.
enum class KeySet : std::uint8_t { kNone, kPart, kWhole };

struct SetUp {
  KeySet found = KeySet::kNone;  // Before anything was made.
  std::string root_id;
  bool root_never_left = false;  // Generated in the token, so nobody can have a copy.
};

// Makes the keys in the token that `uri` names (token_keys.h): derived from `seed` (kSeedBytes), or
// generated in the token when it is null. A whole set that is there already is checked and left
// alone. A part, which an interrupted run left, is destroyed first: the root key is made last, so
// nothing was ever protected by a part.
//   kHsmKeyUnsafe     the keys that are there, or those just made, would not be safe.
//   kUnsupported      a key is missing in a token that makes none through PKCS#11 (a TPM's).
//
// `mark` remembers a PIN that the token refused, so that no rerun gives it again; null for a token
// that was just made with this PIN. A token's last try is never used.
//   kHsmPinIncorrect, kHsmPinLocked, kStoreDamaged, kStoreUnavailable   as log_in_once()
Result<SetUp> make_token_keys(Pkcs11Module& module, const Pkcs11Uri& uri, const SecretBytes& pin,
                              const SecretBytes* seed, PinMark* mark = nullptr);

// Checks a whole set and changes nothing.   kNoSuchKey: it is not there, or a part of it alone;
// kUnsupported: the same in a token that makes none through PKCS#11.
Result<SetUp> look_at_token_keys(Pkcs11Module& module, const Pkcs11Uri& uri, const SecretBytes& pin,
                                 PinMark* mark = nullptr);

}  // namespace coffer::hsm

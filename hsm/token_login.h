// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <cstdint>

#include "core/base/result.h"
#include "core/base/secret_bytes.h"
#include "hsm/pin_mark.h"
#include "hsm/pkcs11_module.h"

namespace coffer::hsm {

// The one way to log in to a token that was there before: a few wrong PINs lock it, and nothing
// that Coffer does by itself may come near that.

// What the token says about logging in to it.
enum class PinTries : std::uint8_t { kNotNeeded, kAll, kFewer };  // kFewer: a wrong PIN was given.

// kHsmPinLocked: the PIN is locked, or one try is left, which is a person's. As fail_return().
Result<PinTries> look_at_tries(const Pkcs11Module& module, CK_SLOT_ID slot);

// Gives the token the PIN, unless `mark` says that it refused it; notes what came of it.
//   kHsmPinIncorrect, kHsmPinLocked  the token refused it, now or before
//   kStoreDamaged, kStoreUnavailable the mark cannot be read or written: no PIN is tried, and none
//                                    that is replaced meanwhile would be
//   as fail_return()                 the token did not judge the PIN
Result<void> log_in_once(const Pkcs11Module& module, CK_SESSION_HANDLE session, PinTries tries,
                         const SecretBytes& pin, PinMark& mark);

}  // namespace coffer::hsm

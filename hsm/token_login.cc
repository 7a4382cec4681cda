// SPDX-License-Identifier: Apache-2.0
#include "hsm/token_login.h"

#include <string>

#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_template.h"

namespace coffer::hsm {
namespace {

// A mark that cannot be kept is a matter of the store: no PIN that comes later would help.
tl::unexpected<Error> fail_mark(const Error& error) {
  const bool damaged = error.reason() == Reason::kStoreDamaged;
  return fail(damaged ? Reason::kStoreDamaged : Reason::kStoreUnavailable,
              "the mark of a tried PIN: " + error.message());
}

Result<void> cleared(PinMark& mark) {
  const auto done = mark.clear();
  if (!done) return fail_mark(done.error());
  return {};
}

}  // namespace

Result<PinTries> look_at_tries(const Pkcs11Module& module, CK_SLOT_ID slot) {
  TokenSlot token;
  if (const CK_RV rv = module.read_token(slot, token); rv != CKR_OK)
    return fail_return(rv, "read the token's state");
  if ((token.token_flags & CKF_LOGIN_REQUIRED) == 0) return PinTries::kNotNeeded;
  if ((token.token_flags & CKF_USER_PIN_LOCKED) != 0)
    return fail(Reason::kHsmPinLocked, "the token says that its PIN is locked");
  if ((token.token_flags & CKF_USER_PIN_FINAL_TRY) != 0)
    return fail(Reason::kHsmPinLocked,
                "the token has one try left, which is never used automatically: log in by hand");
  return (token.token_flags & CKF_USER_PIN_COUNT_LOW) != 0 ? PinTries::kFewer : PinTries::kAll;
}

Result<void> log_in_once(const Pkcs11Module& module, CK_SESSION_HANDLE session, PinTries tries,
                         const SecretBytes& pin, PinMark& mark) {
  const auto verdict = mark.of(pin);
  if (!verdict) return fail_mark(verdict.error());
  const bool went_wrong = *verdict == PinMark::Verdict::kRefused ||
                          (*verdict == PinMark::Verdict::kTried && tries == PinTries::kFewer);
  if (went_wrong)
    return fail(Reason::kHsmPinIncorrect,
                "the token refused this PIN before; another is tried, or this one once " +
                    mark.path() + " is removed");

  if (const auto noted = mark.note(pin, PinMark::Verdict::kTried); !noted)
    return fail_mark(noted.error());
  const CK_RV rv = module.call(&CK_FUNCTION_LIST::C_Login, session, CK_USER_TYPE{CKU_USER},
                               p11_bytes(pin.reveal()), CK_ULONG{pin.size()});
  if (rv == CKR_OK || rv == CKR_USER_ALREADY_LOGGED_IN) return cleared(mark);
  // Locked or expired says nothing about this PIN: it may be the right one once the token's own
  // tool has reset it. The mark stays at kTried, so it is given again only when the token tells of
  // no wrong PIN.
  if (return_info(rv).reason == Reason::kHsmPinLocked) return fail_return(rv, "log in");
  if (return_info(rv).kind == ReturnClass::kPin) {
    const auto noted = mark.note(pin, PinMark::Verdict::kRefused);
    if (!noted) return fail(return_info(rv).reason, "log in: refused, and: " + noted.error().str());
    return fail_return(rv, "log in");
  }
  // The token did not judge the PIN.
  if (const auto done = cleared(mark); !done)
    return tl::unexpected(with_leftover(fail_return(rv, "log in").value(), done.error()));
  return fail_return(rv, "log in");
}

}  // namespace coffer::hsm

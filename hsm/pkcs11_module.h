// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "hsm/call_watch.h"
#include "hsm/pkcs11_uri.h"

namespace coffer::hsm {

// A slot whose token a URI names, with what the token says of itself.
struct TokenSlot {
  CK_SLOT_ID slot = 0;
  TokenIdentity identity;
  CK_FLAGS token_flags = 0;  // CKF_LOGIN_REQUIRED, CKF_USER_PIN_…
  // The slot claims to be hardware (CKF_HW_SLOT), and its token is not known to be a program: the
  // TPM of libtpms claims it too.
  bool hardware = false;
};

// Pkcs11Module is a loaded PKCS#11 module: the one place that calls into it, each call watched. The
// library stays loaded until the object goes; initialize() and finalize() may follow each other
// often, which is how a module that lost its device is made to look again. Objects of one library
// share its initialisation: it ends when the last of them finalizes.
//
// Between initialize() and finalize() the process must not fork: a child could use the parent's
// sessions. Thread-safe but for those two.
class Pkcs11Module {
 public:
  // `path` is absolute. Calls are watched by `watch` (not owned; null: by nobody).
  //   kConfigInvalid  cannot be loaded, or is no PKCS#11 module.
  static Result<std::unique_ptr<Pkcs11Module>> load(const std::string& path, CallWatch* watch);
  ~Pkcs11Module();
  Pkcs11Module(const Pkcs11Module&) = delete;
  Pkcs11Module& operator=(const Pkcs11Module&) = delete;

  CK_RV initialize();
  void finalize();
  bool initialized() const noexcept { return initialized_; }

  // call(&CK_FUNCTION_LIST::C_Sign, session, …). A function the module lacks is not supported.
  template <class... Parameters, class... Arguments>
  CK_RV call(CK_RV (*CK_FUNCTION_LIST::*function)(Parameters...), Arguments... arguments) const {
    const CallWatch::Guard guard(watch_);
    return enter(function, arguments...);
  }

  // The same of one that may take long though nothing hangs, as a pair of RSA-4096 does.
  template <class... Parameters, class... Arguments>
  CK_RV long_call(CK_RV (*CK_FUNCTION_LIST::*function)(Parameters...),
                  Arguments... arguments) const {
    const CallWatch::Guard guard(watch_, kDeadlinesOfALongCall);
    return enter(function, arguments...);
  }
  static constexpr unsigned kDeadlinesOfALongCall = 24;

  // The slot with the one token that `uri` names.
  //   kHsmAbsent      no token matches.
  //   kConfigInvalid  several do: the URI must say more.
  //   others          as the return value's row says.
  Result<TokenSlot> find_token(const Pkcs11Uri& uri) const;

  // What the token in `slot` says of itself now; the return value as it came.
  CK_RV read_token(CK_SLOT_ID slot, TokenSlot& out) const;

  // What the token in `slot` can do.
  CK_RV list_mechanisms(CK_SLOT_ID slot, std::set<CK_MECHANISM_TYPE>& out) const;

  // Whether it says of itself that it is tpm2-pkcs11. One that does not say what it is, is not.
  bool is_of_tpm() const;

  // All slots, with or without a token.
  CK_RV list_slots(std::vector<CK_SLOT_ID>& out) const;

 private:
  template <class... Parameters, class... Arguments>
  CK_RV enter(CK_RV (*CK_FUNCTION_LIST::*function)(Parameters...), Arguments... arguments) const {
    auto* const entry = functions_->*function;
    return entry == nullptr ? CKR_FUNCTION_NOT_SUPPORTED : entry(arguments...);
  }

  Pkcs11Module(CK_FUNCTION_LIST* functions, CallWatch* watch) noexcept
      : functions_(functions), watch_(watch) {}

  CK_FUNCTION_LIST* functions_;
  CallWatch* watch_;
  bool initialized_ = false;
};

// Bytes as PKCS#11 wants them. Inputs are never written to, whatever the type says.
inline CK_BYTE* p11_bytes(std::span<const std::byte> bytes) noexcept {
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): the interface knows no const.
  return reinterpret_cast<CK_BYTE*>(const_cast<std::byte*>(bytes.data()));
}

}  // namespace coffer::hsm

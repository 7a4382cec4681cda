// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <p11-kit/pkcs11.h>

#include <chrono>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <shared_mutex>
#include <string>
#include <string_view>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "hsm/call_watch.h"
#include "hsm/connect_pause.h"
#include "hsm/pin_mark.h"
#include "hsm/pkcs11_module.h"
#include "hsm/pkcs11_session_pool.h"
#include "hsm/pkcs11_uri.h"
#include "hsm/token_keys.h"

namespace coffer::hsm {

// TokenLink keeps a token usable: it loads the module, finds the token, logs in, finds and checks
// the keys, and does all that again when the token was away. Work is handed in as a function; what
// its return value means, and whether it is repeated, is decided here by the table of
// pkcs11_errors.h.
//
// The PIN is read when a login needs it and wiped right after. A refused one is noted durably
// (PinMark) and not tried again; the token's own flags are looked at before every login, and its
// last try is never used.
//
// Thread-safe. Blocks as long as the module does: `watch` is what ends that.
class TokenLink {
 public:
  struct Options {
    std::string module_path;
    Pkcs11Uri uri;
    std::string pin_file;       // The credential; a line break at its end is not part of the PIN.
    std::string pin_mark_file;  // In the state folder.
    std::size_t sessions_max = 8;
    // After a failed attempt to reach the token, requests fail at once for this long.
    std::chrono::milliseconds reconnect_pause{500};
    // Called before each initialisation of the module; a failure counts as an absent token.
    std::function<Result<void>()> before_initialize;
    CallWatch* watch = nullptr;
    const Clock* clock = &system_clock();
  };

  // What is known of the token since the last connection.
  struct Facts {
    TokenSlot token;
    TokenKeys keys;
    std::string root_id;
    std::set<CK_MECHANISM_TYPE> mechanisms;
    bool is_tpm = false;  // The module is tpm2-pkcs11.
    // Encrypts in probes: a session key, or the root key of RootForm::kEncrypts.
    CK_OBJECT_HANDLE probe_key = CK_INVALID_HANDLE;
  };

  // What work gets: a session of its own for operations, and the owner session for objects.
  struct Session {
    const Pkcs11Module& module;
    CK_SESSION_HANDLE handle;
    ObjectAccess objects;
    const Facts& facts;
    bool& judges_data;  // Work sets it before the one call whose unclear answer may mean bad data.
    // Work that does several things in turn sets it when one is done: it goes on behind that when
    // it is run again, and what is repeated once is repeated once for each.
    bool& moved_on;
  };
  using Work = std::function<CK_RV(const Session&)>;

  // `on_lost` is called when all session objects are gone, while no work runs.
  TokenLink(Options options, std::function<void()> on_lost);
  ~TokenLink();
  TokenLink(const TokenLink&) = delete;
  TokenLink& operator=(const TokenLink&) = delete;

  // Runs `work`, after connecting when that is needed, once more where the table says so.
  //   kHsmAbsent, kHsmLoginNeeded, kHsmPinIncorrect, kHsmPinLocked, kHsmBusy, kHsmFailed,
  //   kHsmKeyUnsafe, kConfigInvalid
  //   kStoreDamaged, kStoreUnavailable  the mark of a tried PIN, as log_in_once()
  //   kBlobInvalid  a call that judges data was unclear twice, and a probe of the token went well.
  Result<void> run(std::string_view step, const Work& work);

  // The facts, connecting when needed.
  using FactsPtr = std::shared_ptr<const Facts>;  // Never null.
  Result<FactsPtr> facts();

  // Connects when needed, without a pause, and makes every kind of call once.
  Result<FactsPtr> probe();

  // Whether it is connected as far as is known, without asking the token.
  bool connected();

  std::uint64_t failures() const;

 private:
  Result<void> connect_if_needed(bool at_once);
  Result<void> connect();
  Result<void> log_in(const TokenSlot& token);
  Result<void> read_facts(const TokenSlot& token);
  void disconnect(bool finalize);
  Result<void> reopen(std::uint64_t seen_generation);
  CK_RV probe_calls(const Session& session) const;
  // One attempt of some work, and what is needed to judge it.
  struct Attempt {
    CK_RV rv = CKR_OK;
    std::uint64_t generation = 0;  // Of the connection it was made on.
    bool judged_data = false;
    bool moved_on = false;
  };
  Attempt attempt(const Work& work);
  void disconnect_from(std::uint64_t generation);

  const Options options_;
  const std::function<void()> on_lost_;
  PinMark pin_mark_;
  ConnectPause pause_;

  // Held shared while work runs, alone while the connection changes. Guards what follows.
  std::shared_mutex gate_;
  std::unique_ptr<Pkcs11Module> module_;
  std::unique_ptr<SessionPool> pool_;
  FactsPtr facts_;                // Null while there is no connection.
  std::uint64_t generation_ = 0;  // Counts connections.

  mutable std::mutex objects_;  // As ObjectAccess wants it.
};

}  // namespace coffer::hsm

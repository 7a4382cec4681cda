// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "agent/engine_types.h"
#include "core/base/clock.h"
#include "core/keyring/key_vault.h"

namespace coffer::agent {

// ProviderMonitor knows how the token is and when to look at it again: often while something waits
// for it, backing off with jitter, and now and then while all is well.
//
// Bound to the event loop; the probes themselves are the engine's.
class ProviderMonitor {
 public:
  struct Options {
    std::string name = "local";
    std::chrono::milliseconds retry_min{2000};
    std::chrono::milliseconds retry_max{10'000};
    std::chrono::milliseconds idle{60'000};  // Between probes of a token that is up.
    // A number from 0 to 1 for the jitter; the default draws one.
    std::function<double()> draw;
  };
  ProviderMonitor(Options options, const Clock& clock);

  const ProviderInfo& info() const noexcept { return info_; }
  bool up() const noexcept { return info_.state == "up"; }

  // Whether it is time for a probe and none is under way; then one is.
  bool begin_probe();
  // What the probe found. True: the token is there again, or for the first time.
  bool take(const keyring::VaultHealth& health);
  // It was not made after all: another one when that is due.
  void put_off_probe();
  // An operation failed for `error`: look at the token soon.
  void note_failure(const Error& error);

 private:
  void plan_next();

  const Options options_;
  const Clock& clock_;
  ProviderInfo info_;
  std::chrono::milliseconds backoff_;
  SteadyTime next_;
  bool probing_ = false;
};

// Whether a volume that failed for `reason` is tried again when the token, the worker or the disk
// of the agent's state is back.
bool may_pass(Reason reason) noexcept;

// Whether that is likely within seconds: a process that starts or was killed, a token that is slow.
bool passes_soon(Reason reason) noexcept;

}  // namespace coffer::agent

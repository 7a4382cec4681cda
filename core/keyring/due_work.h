// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <optional>

#include "core/base/clock.h"
#include "core/keyring/key_store.h"
#include "core/keyring/key_transitions.h"
#include "core/keyring/keyring.h"

namespace coffer::keyring {

// DueWork does what the clock says is due of keys, for the Keyring: it destroys those whose time
// has come, drops material and offers that have expired, and rotates. It does not believe the wall
// clock at once: what cannot be taken back waits until it was due for kSureAfter of the steady
// clock, in which the wall clock was not turned; a rotation planned by a clock that was ahead is
// planned anew. A key that fails is tried again later and later, and holds up no other.
//
// Thread-safe; one run at a time.
class DueWork {
 public:
  static constexpr std::chrono::hours kSureAfter{1};
  // How far a wall clock may be off without anybody having turned it.
  static constexpr std::chrono::minutes kClockSlack{5};

  // Owns nothing; all of them outlive it. `rotated` is told of new versions.
  struct Parts {
    KeyStore& store;
    KeyTransitions& transitions;
    const Clock& clock;
    std::function<void(const CmkRecord&)> rotated;
  };
  explicit DueWork(Parts parts) : parts_(std::move(parts)) {}

  Result<DueReport> run(const audit::Actor& actor);

 private:
  // A key that was due and is not done.
  struct Waiting {
    std::optional<SteadyTime> due_since;  // What cannot be taken back, since that time.
    SteadyTime again_at{};
    std::chrono::milliseconds wait{0};  // Longer with each failure.
    std::uint64_t run = 0;              // The last one that found it due.
  };

  void look_at_clock(WallTime now);
  // The record as it is now; none: not yet.
  Result<std::optional<CmkRecord>> do_one(const CmkId& id, WallTime now, const audit::Actor& actor);
  bool is_sure(const CmkId& id);
  Result<bool> is_bound(const CmkId& id);
  void take_failure(const CmkId& id);
  void note_next(DueReport& report, WallTime now) const;

  const Parts parts_;
  std::mutex mutex_;  // Guards what follows; held while a run blocks.
  struct Seen {
    WallTime wall{};
    std::chrono::microseconds since_boot{0};
  };
  std::optional<Seen> seen_;  // Both clocks, at the last run.
  std::map<CmkId, Waiting> waiting_;
  std::uint64_t runs_ = 0;
};

}  // namespace coffer::keyring

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "dbus/message.h"

namespace coffer::dbus {

// How much one caller may ask at a time. Root is not held to the rate.
struct CallerLimits {
  std::uint32_t outstanding_per_name_max = 128;
  std::uint32_t outstanding_per_uid_max = 512;
  double calls_per_second = 100;  // Of one uid, sustained.
  double burst = 300;
};

// Callers knows who stands behind each unique name, and how much each has outstanding. A uid comes
// from the bus itself, asked for without blocking the loop and remembered until the name vanishes:
// the bus never gives a unique name twice.
//
// Bound to the event loop and to one connection.
class Callers {
 public:
  using Identified = std::function<void(const Result<std::uint32_t>& uid)>;

  Callers(sd_bus* bus, const CallerLimits& limits, const Clock& clock);
  ~Callers();
  Callers(const Callers&) = delete;
  Callers& operator=(const Callers&) = delete;

  // A place among the outstanding calls; destroying it gives the place back.
  using Place = std::shared_ptr<void>;
  // kLimitsExceeded: the name has too many calls waiting.
  Result<Place> admit(const std::string& name);
  // kLimitsExceeded: the uid has too many; kRateLimited: it asks too often.
  Result<Place> admit_uid(std::uint32_t uid);

  // Calls `done` with the uid of `name`, at once when it is known; the calls of one name are
  // answered in order. kAccessDenied: the bus does not know the name any more.
  void identify(const std::string& name, Identified done);

  void forget(const std::string& name);  // It vanished.

 private:
  struct Lookup {
    Callers* owner = nullptr;
    std::string name;
    std::vector<Identified> waiting;
    SlotPtr slot;
  };
  struct Bucket {
    double tokens = 0;
    SteadyTime filled;
  };
  using Counts = std::map<std::string, std::uint32_t>;

  static int on_credentials(sd_bus_message* answer, void* userdata, sd_bus_error* out) noexcept;
  void finish(Lookup& lookup, const Result<std::uint32_t>& uid);
  static Result<Place> take(const std::shared_ptr<Counts>& counts, const std::string& key,
                            std::uint32_t count_max);
  bool spend_token(std::uint32_t uid);

  sd_bus* bus_;
  const CallerLimits limits_;
  const Clock& clock_;
  std::map<std::string, std::uint32_t> uids_;
  std::map<std::string, std::unique_ptr<Lookup>> lookups_;
  std::map<std::uint32_t, Bucket> buckets_;
  std::shared_ptr<Counts> outstanding_;  // Shared with the places, which may outlive us.
};

}  // namespace coffer::dbus

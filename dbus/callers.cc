// SPDX-License-Identifier: Apache-2.0
#include "dbus/callers.h"

#include <algorithm>

namespace coffer::dbus {
namespace {

constexpr std::size_t kUidsMax = 4096;     // Names remembered.
constexpr std::size_t kBucketsMax = 4096;  // Users whose rate is kept.
constexpr std::uint64_t kLookupTimeoutUsec = 5'000'000;

constexpr const char* kBusDaemon = "org.freedesktop.DBus";

}  // namespace

Callers::Callers(sd_bus* bus, const CallerLimits& limits, const Clock& clock)
    : bus_(bus), limits_(limits), clock_(clock), outstanding_(std::make_shared<Counts>()) {}

Callers::~Callers() = default;

Result<Callers::Place> Callers::take(const std::shared_ptr<Counts>& counts, const std::string& key,
                                     std::uint32_t count_max) {
  auto& count = (*counts)[key];
  if (count >= count_max)
    return fail(Reason::kLimitsExceeded,
                "the caller already waits for " + std::to_string(count) + " answers");
  ++count;
  return Place(counts.get(), [counts, key](void*) {
    const auto at = counts->find(key);
    if (--at->second == 0) counts->erase(at);
  });
}

Result<Callers::Place> Callers::admit(const std::string& name) {
  return take(outstanding_, name, limits_.outstanding_per_name_max);
}

Result<Callers::Place> Callers::admit_uid(std::uint32_t uid) {
  if (uid == 0) return Place();
  if (!spend_token(uid))
    return fail(Reason::kRateLimited, "user " + std::to_string(uid) + " asks too often");
  return take(outstanding_, "uid " + std::to_string(uid), limits_.outstanding_per_uid_max);
}

bool Callers::spend_token(std::uint32_t uid) {
  const auto now = clock_.steady();
  // Users beyond the table share one bucket: better slow than unbounded.
  const bool known = buckets_.contains(uid) || buckets_.size() < kBucketsMax;
  auto [at, added] = buckets_.try_emplace(known ? uid : UINT32_MAX, Bucket{limits_.burst, now});
  auto& bucket = at->second;
  const std::chrono::duration<double> passed = now - bucket.filled;
  bucket.tokens =
      std::min(limits_.burst, bucket.tokens + passed.count() * limits_.calls_per_second);
  bucket.filled = now;
  if (bucket.tokens < 1) return false;
  bucket.tokens -= 1;
  return true;
}

void Callers::identify(const std::string& name, Identified done) {
  // A call of the same name may still wait for the answer: then this one waits behind it.
  if (const auto waiting = lookups_.find(name); waiting != lookups_.end()) {
    waiting->second->waiting.push_back(std::move(done));
    return;
  }
  if (const auto known = uids_.find(name); known != uids_.end()) return done(known->second);

  auto lookup = std::make_unique<Lookup>();
  lookup->owner = this;
  lookup->name = name;
  sd_bus_slot* slot = nullptr;
  sd_bus_message* message = nullptr;
  int r = ::sd_bus_message_new_method_call(bus_, &message, kBusDaemon, "/org/freedesktop/DBus",
                                           kBusDaemon, "GetConnectionUnixUser");
  const MessagePtr call(message);
  if (r >= 0) r = ::sd_bus_message_append_basic(message, SD_BUS_TYPE_STRING, name.c_str());
  if (r >= 0)
    r = ::sd_bus_call_async(bus_, &slot, message, &Callers::on_credentials, lookup.get(),
                            kLookupTimeoutUsec);
  if (r < 0) return done(fail_errno(-r, "ask the bus who calls", Reason::kAccessDenied));
  lookup->slot.reset(slot);
  lookup->waiting.push_back(std::move(done));
  lookups_.emplace(name, std::move(lookup));
}

int Callers::on_credentials(sd_bus_message* answer, void* userdata, sd_bus_error*) noexcept try {
  auto& lookup = *static_cast<Lookup*>(userdata);
  std::uint32_t uid = 0;
  if (::sd_bus_message_is_method_error(answer, nullptr) > 0 ||
      ::sd_bus_message_read(answer, "u", &uid) < 0) {
    lookup.owner->finish(lookup, fail(Reason::kAccessDenied, "the caller left the bus"));
  } else {
    lookup.owner->finish(lookup, uid);
  }
  return 1;
} catch (const std::exception&) {
  return -ENOMEM;
}

void Callers::finish(Lookup& lookup, const Result<std::uint32_t>& uid) {
  // The callbacks may call identify() again, so the entry is gone before they run.
  const auto node = lookups_.extract(lookup.name);
  if (uid) {
    if (uids_.size() >= kUidsMax) uids_.clear();
    uids_.emplace(lookup.name, *uid);
  }
  for (const auto& done : node.mapped()->waiting) done(uid);
}

void Callers::forget(const std::string& name) {
  uids_.erase(name);
  if (const auto at = lookups_.find(name); at != lookups_.end())
    finish(*at->second, fail(Reason::kAccessDenied, "the caller left the bus"));
}

}  // namespace coffer::dbus

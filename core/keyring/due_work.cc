// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/due_work.h"

#include <algorithm>
#include <utility>

#include "core/keyring/key_states.h"
#include "core/keyring/stored_records.h"

namespace coffer::keyring {
namespace {

constexpr std::size_t kKeysPerPage = 1000;
constexpr std::chrono::minutes kWaitMin{1};
constexpr std::chrono::hours kWaitMax{1};

}  // namespace

// A wall clock that went otherwise than the time since boot was turned: what it says to be due
// counts from now. Slewing is at most a thousandth.
void DueWork::look_at_clock(WallTime now) {
  const Seen here{now, parts_.clock.since_boot()};
  const auto before = std::exchange(seen_, here);
  if (!before) return;
  const auto passed = here.since_boot - before->since_boot;
  const auto off = (here.wall - before->wall) - passed;
  const std::chrono::microseconds slack = kClockSlack + std::chrono::abs(passed) / 1000;
  if (std::chrono::abs(off) <= slack) return;
  for (auto& [id, key] : waiting_) key.due_since.reset();
}

bool DueWork::is_sure(const CmkId& id) {
  const SteadyTime now = parts_.clock.steady();
  Waiting& key = waiting_[id];
  if (!key.due_since) key.due_since = now;
  const SteadyTime sure_at = *key.due_since + kSureAfter;
  if (now >= sure_at) return true;
  key.again_at = sure_at;
  return false;
}

Result<bool> DueWork::is_bound(const CmkId& id) {
  const auto bound = parts_.store.count_bindings(id);
  if (!bound) return tl::unexpected(bound.error());
  return *bound != 0;
}

Result<std::optional<CmkRecord>> DueWork::do_one(const CmkId& id, WallTime now,
                                                 const audit::Actor& actor) {
  const auto stored = read_record(parts_.store, id);
  if (!stored) return tl::unexpected(stored.error());
  const CmkRecord& record = stored->record;
  const auto change = [&](const CmkChange& what) -> Result<std::optional<CmkRecord>> {
    auto done = parts_.transitions.change(id, what, actor);
    if (!done) return tl::unexpected(done.error());
    return std::move(*done);
  };
  if (record.delete_at && *record.delete_at <= now) {
    if (!is_sure(id)) return std::nullopt;
    return change(CmkChange::kDestroy);
  }
  if (record.material_valid_to && *record.material_valid_to <= now) {
    // Of a key that is in use the material does not expire.
    const auto bound = is_bound(id);
    if (!bound) return tl::unexpected(bound.error());
    if (*bound && record.state != KeyState::kPendingDelete) return change(CmkChange::kSetValidTo);
    if (!is_sure(id)) return std::nullopt;
    return change(CmkChange::kExpireMaterial);
  }
  // A new one can be asked for at any time.
  if (record.offer && record.offer->valid_to <= now) return change(CmkChange::kExpireMaterial);
  if (const auto planned = rotation_planned_at(record); planned && *planned > now + kClockSlack) {
    CmkChange again = CmkChange::kSetRotation;
    again.days = record.rotation_days;
    return change(again);
  }
  if (record.state == KeyState::kEnabled && record.next_rotation && *record.next_rotation <= now) {
    auto rotated = change(CmkChange::kRotate);
    if (rotated) parts_.rotated(**rotated);
    return rotated;
  }
  // Changed in between, or found by a row that says otherwise than its record.
  return fail(Reason::kInProgress, "key " + id.str() + ": nothing is due any more");
}

void DueWork::take_failure(const CmkId& id) {
  Waiting& key = waiting_[id];
  key.wait = std::clamp<std::chrono::milliseconds>(key.wait * 2, kWaitMin, kWaitMax);
  key.again_at = parts_.clock.steady() + key.wait;
}

// When those that wait are to be tried again.
void DueWork::note_next(DueReport& report, WallTime now) const {
  const SteadyTime steady = parts_.clock.steady();
  for (const auto& [id, key] : waiting_) {
    const auto wait = std::chrono::ceil<std::chrono::microseconds>(key.again_at - steady);
    const WallTime at = now + std::max(wait, std::chrono::microseconds(0));
    if (!report.next || at < *report.next) report.next = at;
  }
}

Result<DueReport> DueWork::run(const audit::Actor& actor) {
  const std::lock_guard lock(mutex_);
  const WallTime now = parts_.clock.wall();
  look_at_clock(now);
  ++runs_;
  DueReport report;
  report.failed = parts_.transitions.present_again();
  if (!report.failed.empty()) report.next = now + kWaitMin;

  std::optional<DueKey> after;
  for (;;) {
    const auto page = parts_.store.due(now, now + kClockSlack, after, kKeysPerPage);
    if (!page) return tl::unexpected(page.error());
    for (const auto& [due, id] : *page) {
      const auto waiting = waiting_.find(id);
      if (waiting != waiting_.end()) waiting->second.run = runs_;
      const bool later =
          waiting != waiting_.end() && waiting->second.again_at > parts_.clock.steady();
      if (later) continue;
      auto done = do_one(id, now, actor);
      if (!done) {
        report.failed.push_back(done.error());
        take_failure(id);
      } else if (*done) {
        report.done.push_back(std::move(**done));
        waiting_.erase(id);
        continue;
      }
      waiting_[id].run = runs_;
    }
    if (page->size() < kKeysPerPage) break;
    after = page->back();
  }
  // What is no longer due is not waited for.
  std::erase_if(waiting_, [&](const auto& key) { return key.second.run != runs_; });

  const auto next = parts_.store.next_due(now);
  if (!next) return tl::unexpected(next.error());
  if (*next && (!report.next || **next < *report.next)) report.next = *next;
  note_next(report, now);
  return report;
}

}  // namespace coffer::keyring

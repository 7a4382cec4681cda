// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/engine.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace coffer::agent {

// JobTable holds the jobs: what they do, how far each of their volumes is, what came of it, and for
// how long they are shown afterwards. It starts and stops nothing itself.
//
// Bound to the event loop. The observer hears of each change after it was made.
class JobTable {
 public:
  struct Limits {
    std::size_t jobs_max = 256;             // Queued and running.
    std::size_t jobs_per_caller_max = 128;  // Of those, of one D-Bus user that is not root.
    std::size_t items_max = 10'000;         // Of one job.
    std::size_t ended_max = 1024;           // Kept after their end; then the oldest go early.
    std::chrono::seconds kept{60};          // After their end.
  };
  struct Item {
    VolumeId volume;
    std::string name;
  };
  struct Outcome {
    std::string result = "done";  // "done", "failed", "skipped", "cancelled"
    std::optional<Error> error{};
    std::string note{};
    std::chrono::microseconds usable{0};
    std::chrono::microseconds settled{0};

    static Outcome failed(Error error) { return {.result = "failed", .error = std::move(error)}; }
  };

  JobTable(const Limits& limits, const Clock& clock) : limits_(limits), clock_(clock) {}

  void set_observer(EngineObserver* observer) noexcept { observer_ = observer; }

  // Makes a queued job. kLimitsExceeded: as Limits says; the agent's own jobs are only held to
  // items_max.
  Result<JobId> add(const std::string& operation, const std::vector<Item>& items,
                    const Caller& caller, bool cancelable);

  // The item is now being worked on, and so is the job. Nothing happens to an item that has ended.
  void begin_item(JobId id, const VolumeId& volume);
  // The item ended. The last one ends the job.
  void end_item(JobId id, const VolumeId& volume, const Outcome& outcome);
  // Ends a job with no items (kRunning is skipped): with `error`, or well.
  void end_job(JobId id, const std::optional<Error>& error, const std::string& message);
  // Puts another volume in the place of an item that was made before its volume was known.
  void rename_item(JobId id, const VolumeId& before, const Item& now);

  // Ends every item that was not begun as cancelled, and marks the job. Returns the volumes whose
  // items it ended. kNoSuchJob.
  Result<std::vector<VolumeId>> cancel(JobId id);
  bool cancelled(JobId id) const;

  std::vector<JobInfo> jobs() const;
  Result<JobInfo> job(JobId id) const;                     // kNoSuchJob
  Result<std::vector<JobItem>> job_items(JobId id) const;  // kNoSuchJob

  // Drops the jobs that were kept long enough. To be called every now and then.
  void expire();

 private:
  struct Job {
    JobInfo info;
    std::vector<JobItem> items;
    std::vector<bool> begun;
    std::map<VolumeId, std::size_t> index_of;
    std::string bus_name;
    SteadyTime started;
    std::optional<SteadyTime> ended;
    bool cancelled = false;
  };

  Result<void> require_room(const Caller& caller, std::size_t item_count) const;
  void end_item_at(Job& job, std::size_t at, const Outcome& outcome);
  void end(Job& job, JobState state, const std::string& message);
  void end_if_complete(Job& job);

  const Limits limits_;
  const Clock& clock_;
  EngineObserver* observer_ = nullptr;
  std::map<JobId, Job> jobs_;
  std::deque<JobId> ended_;  // In the order of their ends.
  std::size_t active_count_ = 0;
  JobId last_id_ = 0;
};

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/job_table.h"

#include <algorithm>
#include <cassert>

namespace coffer::agent {
namespace {

bool is_ended(const JobItem& item) {
  return item.result != "pending";
}

struct Tally {
  std::size_t good = 0;
  std::size_t bad = 0;
  std::size_t cancelled = 0;
  std::size_t timed_out = 0;
};

Tally tally(const std::vector<JobItem>& items) {
  Tally sum;
  for (const JobItem& item : items) {
    if (item.result == "cancelled") {
      ++sum.cancelled;
    } else if (item.result == "failed") {
      ++sum.bad;
      if (item.error && item.error->reason() == Reason::kTimedOut) ++sum.timed_out;
    } else {
      ++sum.good;
    }
  }
  return sum;
}

JobState state_of(const Tally& sum) {
  if (sum.cancelled > 0) return JobState::kCancelled;
  if (sum.bad == 0) return JobState::kDone;
  if (sum.good > 0) return JobState::kPartial;
  return sum.timed_out == sum.bad ? JobState::kTimedOut : JobState::kFailed;
}

std::string sentence_of(const Tally& sum, const std::vector<JobItem>& items) {
  if (items.size() == 1 && items.front().error) return items.front().error->str();
  std::string text = std::to_string(sum.good) + " of " + std::to_string(items.size()) + " done";
  if (sum.bad > 0) text += ", " + std::to_string(sum.bad) + " failed";
  if (sum.cancelled > 0) text += ", " + std::to_string(sum.cancelled) + " cancelled";
  return text;
}

}  // namespace

Result<void> JobTable::require_room(const Caller& caller, std::size_t item_count) const {
  if (item_count > limits_.items_max) {
    return fail(Reason::kLimitsExceeded,
                "more than " + std::to_string(limits_.items_max) + " volumes in one job");
  }
  if (caller.bus_name.empty()) return {};
  if (active_count_ >= limits_.jobs_max) {
    return fail(Reason::kLimitsExceeded,
                std::to_string(limits_.jobs_max) + " jobs are queued or running");
  }
  if (caller.uid == 0) return {};
  const auto same_caller = [&](const auto& entry) {
    return !entry.second.ended && entry.second.info.started_by_uid == caller.uid;
  };
  const auto count = std::count_if(jobs_.begin(), jobs_.end(), same_caller);
  if (static_cast<std::size_t>(count) >= limits_.jobs_per_caller_max) {
    return fail(Reason::kLimitsExceeded, std::to_string(limits_.jobs_per_caller_max) +
                                             " jobs of this user are queued or running");
  }
  return {};
}

Result<JobId> JobTable::add(const std::string& operation, const std::vector<Item>& items,
                            const Caller& caller, bool cancelable) {
  if (const auto room = require_room(caller, items.size()); !room) {
    return tl::unexpected(room.error());
  }
  // Numbers come round after 2^32 jobs; one that is still shown is passed over.
  do {
    ++last_id_;
  } while (last_id_ == 0 || jobs_.contains(last_id_));

  Job& job = jobs_[last_id_];
  job.info.id = last_id_;
  job.info.operation = operation;
  job.info.total = static_cast<std::uint32_t>(items.size());
  job.info.started_by_uid = caller.uid;
  job.info.cancelable = cancelable;
  job.info.started = clock_.wall();
  job.started = clock_.steady();
  job.bus_name = caller.bus_name;
  for (const Item& item : items) {
    job.info.volumes.push_back(item.volume);
    job.index_of[item.volume] = job.items.size();
    JobItem pending;
    pending.volume = item.volume;
    pending.name = item.name;
    pending.result = "pending";
    job.items.push_back(std::move(pending));
  }
  job.begun.resize(items.size());
  ++active_count_;
  if (observer_ != nullptr) observer_->job_added(last_id_);
  return last_id_;
}

void JobTable::begin_item(JobId id, const VolumeId& volume) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.ended) return;
  Job& job = found->second;
  if (const auto at = job.index_of.find(volume); at != job.index_of.end()) {
    JobItem& item = job.items[at->second];
    if (is_ended(item)) return;
    job.begun[at->second] = true;
    item.started = clock_.wall();
  }
  if (job.info.state != JobState::kQueued) return;
  job.info.state = JobState::kRunning;
  if (observer_ != nullptr) observer_->job_changed(id);
}

void JobTable::end_item(JobId id, const VolumeId& volume, const Outcome& outcome) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  const auto at = job.index_of.find(volume);
  if (at == job.index_of.end() || is_ended(job.items[at->second])) return;
  end_item_at(job, at->second, outcome);
  end_if_complete(job);
}

void JobTable::end_item_at(Job& job, std::size_t at, const Outcome& outcome) {
  JobItem& item = job.items[at];
  item.result = outcome.result;
  item.error = outcome.error;
  item.note = outcome.note;
  item.usable = outcome.usable;
  item.settled = outcome.settled;
  ++job.info.done;
  if (outcome.result == "failed") ++job.info.failed;
  const auto per_item = (clock_.steady() - job.started) / job.info.done;
  job.info.expected_end =
      clock_.wall() + std::chrono::duration_cast<std::chrono::microseconds>(
                          per_item * (job.info.total - std::min(job.info.done, job.info.total)));
  if (observer_ == nullptr) return;
  observer_->job_item_done(job.info.id, item);
  observer_->job_changed(job.info.id);
}

void JobTable::end_if_complete(Job& job) {
  if (job.ended || job.info.done < job.info.total) return;
  const Tally sum = tally(job.items);
  end(job, state_of(sum), sentence_of(sum, job.items));
}

void JobTable::end_job(JobId id, const std::optional<Error>& error, const std::string& message) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end() || found->second.ended) return;
  const bool timed_out = error && error->reason() == Reason::kTimedOut;
  const JobState bad = timed_out ? JobState::kTimedOut : JobState::kFailed;
  end(found->second, error ? bad : JobState::kDone, error ? error->str() : message);
}

void JobTable::end(Job& job, JobState state, const std::string& message) {
  assert(!job.ended);
  const JobId id = job.info.id;
  job.info.state = state;
  job.info.message = message;
  job.info.ended = clock_.wall();
  job.info.expected_end = {};
  job.info.cancelable = false;
  job.ended = clock_.steady();
  --active_count_;
  ended_.push_back(id);
  if (observer_ != nullptr) {
    observer_->job_changed(id);
    observer_->job_completed(id);
  }
  expire();
}

void JobTable::rename_item(JobId id, const VolumeId& before, const Item& now) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return;
  Job& job = found->second;
  const auto at = job.index_of.find(before);
  if (at == job.index_of.end()) return;
  const std::size_t index = at->second;
  job.index_of.erase(at);
  job.index_of[now.volume] = index;
  job.items[index].volume = now.volume;
  job.items[index].name = now.name;
  job.info.volumes[index] = now.volume;
}

Result<std::vector<VolumeId>> JobTable::cancel(JobId id) {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return fail(Reason::kNoSuchJob, "no job " + std::to_string(id));
  Job& job = found->second;
  std::vector<VolumeId> ended;
  if (job.ended || !job.info.cancelable) return ended;
  job.cancelled = true;
  for (std::size_t at = 0; at < job.items.size(); ++at) {
    if (job.begun[at] || is_ended(job.items[at])) continue;
    ended.push_back(job.items[at].volume);
    end_item_at(
        job, at,
        {.result = "cancelled", .error = Error(Reason::kCancelled, "the job was cancelled")});
  }
  if (!job.items.empty()) end_if_complete(job);
  return ended;
}

bool JobTable::cancelled(JobId id) const {
  const auto found = jobs_.find(id);
  return found == jobs_.end() || found->second.cancelled;
}

std::vector<JobInfo> JobTable::jobs() const {
  std::vector<JobInfo> all;
  all.reserve(jobs_.size());
  for (const auto& [id, job] : jobs_) all.push_back(job.info);
  return all;
}

Result<JobInfo> JobTable::job(JobId id) const {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return fail(Reason::kNoSuchJob, "no job " + std::to_string(id));
  return found->second.info;
}

Result<std::vector<JobItem>> JobTable::job_items(JobId id) const {
  const auto found = jobs_.find(id);
  if (found == jobs_.end()) return fail(Reason::kNoSuchJob, "no job " + std::to_string(id));
  return found->second.items;
}

void JobTable::expire() {
  const SteadyTime now = clock_.steady();
  while (!ended_.empty()) {
    const auto found = jobs_.find(ended_.front());
    const bool early = ended_.size() > limits_.ended_max;
    if (found != jobs_.end() && !early && now - *found->second.ended < limits_.kept) return;
    const JobId id = ended_.front();
    ended_.pop_front();
    jobs_.erase(id);
    if (observer_ != nullptr) observer_->job_removed(id);
  }
}

}  // namespace coffer::agent

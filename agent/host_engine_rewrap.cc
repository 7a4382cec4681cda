// SPDX-License-Identifier: Apache-2.0
// Rotation that reaches the disks: all volumes of a key moved to its newest version, at a pace, and
// older versions destroyed once no volume needs them.
#include <algorithm>

#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"
#include "agent/volume/bindings.h"
#include "agent/volume/rewrap.h"
#include "agent/volume/version_proof.h"
#include "core/keyring/key_states.h"

namespace coffer::agent {
namespace {

// At once: each may wait for token and disk on the pool that others need as well.
constexpr std::size_t kRewrapsAtOnce = 3;
constexpr std::chrono::seconds kRewrapTimeout{60};
constexpr std::chrono::seconds kProofTimeout{120};

bool uses(const VolumeRow& row, const CmkId& key) {
  return std::find(row.keys.begin(), row.keys.end(), key) != row.keys.end();
}

}  // namespace

Result<JobId> HostEngine::rewrap_all(const CmkId& key, const RewrapOptions& options,
                                     const Caller& caller) {
  const auto found = keys_.find(key);
  if (found == keys_.end()) return fail(Reason::kNoSuchKey, "no key " + key.str());
  const keyring::CmkRecord& record = found->second;
  if (const auto wraps = keyring::require_state(record, keyring::KeyState::kEnabled, "rewrap");
      !wraps) {
    return tl::unexpected(wraps.error());
  }
  if (record.usage != keyring::KeyUsage::kEncryptDecrypt) {
    return fail(Reason::kKeyUsage, "key " + key.str() + " wraps no keys");
  }
  if (options.per_minute > kRewrapsPerMinuteMax) {
    return fail(Reason::kInvalidArgs, "at most " + std::to_string(kRewrapsPerMinuteMax) +
                                          " volumes are rewrapped in a minute");
  }
  for (const auto& [job, work] : works_) {
    if (work.operation == "rewrap" && work.rewrap.key == key) {
      return fail(Reason::kInProgress, "job " + std::to_string(job) +
                                           " rewraps the volumes of key " + key.str() + " already");
    }
  }
  Work work;
  work.operation = "rewrap";
  work.caller = caller;
  work.rewrap = {key, options.per_minute, caller.uid, parts_.clock.wall()};
  work.next_at = SteadyTime::max();  // Until the job is noted.
  std::vector<JobTable::Item> items;
  for (const VolumeId& id : volumes_.ids()) {
    const VolumeRow& row = volumes_.find(id)->row;
    if (!uses(row, key)) continue;
    items.push_back({id, row.name});
    work.waiting.push_back(id);
  }
  const auto job = jobs_.add(work.operation, items, caller, true);
  if (!job) return job;
  if (items.empty()) {
    jobs_.end_job(*job, std::nullopt, "no volume uses the key");
    return job;
  }
  works_.insert_or_assign(*job, std::move(work));
  if (rewraps_asked_) rewraps_asked_->insert(key);
  note_rewrap(*job);
  return job;
}

// Durable before the first volume is moved: what was begun is gone on with.
void HostEngine::note_rewrap(JobId job) {
  const OpenRewrap rewrap = works_.at(job).rewrap;
  const auto begin = [this, job, rewrap](const Result<void>& noted) {
    if (!noted) print(4, "it would not go on after a restart: " + noted.error().str());
    const auto work = works_.find(job);
    if (work == works_.end()) return forget_rewrap(rewrap);  // Cancelled meanwhile.
    work->second.next_at = parts_.clock.steady();
    pace_rewraps();
  };
  run_beside(
      pool_, [this, rewrap] { return parts_.registry.note_rewrap(rewrap); }, begin,
      [this, begin](const Error& error) {
        post([begin, error] { begin(tl::unexpected(error)); });
      });
}

void HostEngine::forget_rewrap(const OpenRewrap& rewrap) {
  run_beside(
      pool_, [this, rewrap] { return parts_.registry.end_rewrap(rewrap); },
      [this](const Result<void>& ended) {
        if (!ended) print(4, ended.error().str());
      },
      [this](const Error& error) { print(4, "end a rewrap: " + error.str()); });
}

// A volume enters its line only when its turn comes: until then nothing waits behind the job.
void HostEngine::pace_rewraps() {
  const SteadyTime now = parts_.clock.steady();
  auto next = SteadyTime::max();
  for (auto& [job, work] : works_) {
    if (work.waiting.empty() || work.next_at == SteadyTime::max()) continue;
    if (rewraps_.size() < kRewrapsAtOnce && work.next_at <= now) begin_rewrap(job, work);
    if (!work.waiting.empty()) next = std::min(next, std::max(work.next_at, now));
  }
  // With all places taken, the next one to end calls again.
  if (next == SteadyTime::max() || rewraps_.size() >= kRewrapsAtOnce) return;
  auto timer = parts_.loop.after(std::chrono::duration_cast<std::chrono::microseconds>(next - now) +
                                     std::chrono::microseconds(1),
                                 [this] { post([this] { pace_rewraps(); }); });
  if (timer) rewrap_timer_ = std::move(*timer);
}

void HostEngine::begin_rewrap(JobId job, Work& work) {
  const VolumeId id = work.waiting.front();
  work.waiting.pop_front();
  const std::uint32_t per_minute =
      work.rewrap.per_minute > 0 ? work.rewrap.per_minute : parts_.config.rewraps_per_minute;
  work.next_at =
      parts_.clock.steady() +
      std::chrono::duration_cast<SteadyTime::duration>(std::chrono::minutes(1)) / per_minute;
  rewraps_.insert({job, id});
  if (!queue_.push(id, job)) return;
  work.ready.push_back(id);
  post([this, job] { launch(job); });
}

void HostEngine::launch_rewrap(JobId job, const VolumeId& id) {
  const Volume* volume = volumes_.find(id);
  if (volume == nullptr) {
    const Error error(Reason::kNoSuchVolume, "no volume " + id.str());
    finish_item(job, id, JobTable::Outcome::failed(error));
    return leave_rewrap(job, id);
  }
  const Work& work = works_.at(job);
  const RewrapCall call{.call = life_call(job, work.caller, kRewrapTimeout),
                        .key = work.rewrap.key};
  const auto take = [this, job, id, name = volume->row.name](const Result<RewrapEnd>& end) {
    JobTable::Outcome outcome;
    if (end) {
      outcome.note = end->note;
      Volume& now = volumes_.put(end->row);
      volumes_.set_header(now, end->header, end->device_bytes);
      print(6, name + ": " + end->note, &id);
    } else {
      outcome = JobTable::Outcome::failed(end.error());
      print(4, end.error().str(), &id, &end.error());
    }
    finish_item(job, id, outcome);
    leave_rewrap(job, id);
  };
  run_beside(
      pool_,
      [this, row = volume->row, call]() -> Result<RewrapEnd> {
        const auto disks = parts_.watch.list();
        if (!disks) return tl::unexpected(disks.error());
        return rewrap_volume(row, call, *disks, life_parts());
      },
      take, [take](const Error& error) { take(tl::unexpected(error)); });
}

void HostEngine::leave_rewrap(JobId job, const VolumeId& id) {
  rewraps_.erase({job, id});
  pace_rewraps();
}

// Once the boot is through: it has the disks to itself, and most of them are there then.
void HostEngine::resume_rewraps() {
  if (boot_finished_ == WallTime{} || std::exchange(rewraps_resumed_, true)) return;
  const auto take = [this](const Result<std::vector<OpenRewrap>>& open) {
    if (open) return take_open_rewraps(*open);
    print(4, "rewraps that a restart cut off are not gone on with: " + open.error().str());
  };
  run_beside(
      pool_, [this] { return parts_.registry.open_rewraps(); }, take,
      [take](const Error& error) { take(tl::unexpected(error)); });
}

void HostEngine::take_open_rewraps(const std::vector<OpenRewrap>& open) {
  const auto asked = std::exchange(rewraps_asked_, std::nullopt);
  for (const OpenRewrap& rewrap : open) {
    if (asked && asked->contains(rewrap.key)) continue;
    Caller caller;
    caller.uid = rewrap.uid;
    caller.origin = "recovery";
    const auto job = rewrap_all(rewrap.key, {.per_minute = rewrap.per_minute}, caller);
    if (job) {
      print(5, "the rewrap of key " + rewrap.key.str() + " goes on as job " + std::to_string(*job));
    } else if (job.error().reason() != Reason::kInProgress) {
      print(4, "the rewrap of key " + rewrap.key.str() + " ends: " + job.error().str());
      forget_rewrap(rewrap);
    }
  }
}

// No volume and nothing else that is bound needs the version. What is current is not asked about:
// it wraps what is being made, and nothing older does.
Result<void> HostEngine::require_no_volume_needs(const CmkId& key, std::uint32_t version) {
  const auto record = parts_.keyring.get(key);
  if (!record) return tl::unexpected(record.error());
  if (auto free = require_only_volumes(key, parts_.keyring); !free) return free;
  const keyring::KeyVersion* found = record->find_version(version);
  if (found == nullptr || found->state != keyring::VersionState::kDecryptOnly) return {};
  const auto disks = parts_.watch.list();
  if (!disks) return tl::unexpected(disks.error());
  const VersionUse use{key, version};
  const Deadline deadline(parts_.clock.steady() + kProofTimeout);
  const auto proof = prove_unused(use, *disks, deadline, life_parts());
  if (!proof) return tl::unexpected(proof.error());
  return require_unused(use, *proof);
}

void HostEngine::destroy_version(const CmkId& key, const KeyChange& change, const Caller& caller,
                                 const Done<void>& done) {
  const std::uint32_t version = change.change.version;
  const auto when = change.force ? keyring::WhenBound::kGoOn : keyring::WhenBound::kProved;
  const KeyCall call{"key.destroy-version", {key}, caller};
  run_beside(
      proof_pool_,
      [this, key, version, when, call, actor = actor_of(caller)]() -> Result<keyring::CmkRecord> {
        if (stopping_) return fail(Reason::kCancelled, "the agent stops");
        if (const auto recorded = record_reason(call); !recorded) {
          return tl::unexpected(recorded.error());
        }
        if (const auto free = require_no_volume_needs(key, version); !free) {
          record_refused(call, free.error(), version);
          return tl::unexpected(free.error());
        }
        return parts_.keyring.destroy_version(key, version, actor, when);
      },
      [done](const Result<keyring::CmkRecord>& changed) {
        if (!changed) return done(tl::unexpected(changed.error()));
        done({});
      },
      [this, call, done](const Error& error) {
        const Error refused(error.reason(), "too many versions are destroyed: " + error.message());
        record_refusal(call.operation, call.keys.front().str(), refused, call.caller);
        done(tl::unexpected(refused));
      });
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
// The engine's side of the unlock path: batches out, results in, and waiting for udev.
#include <algorithm>

#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"
#include "agent/unlock/unlock_pipeline.h"
#include "agent/volume/first_opening.h"

namespace coffer::agent {
namespace {

constexpr std::chrono::milliseconds kRetryMax{60'000};

bool is_automatic(const Caller& caller) {
  return caller.origin != "dbus";
}

std::chrono::microseconds timeout_of(const Config& config, const UnlockOptions& options) {
  if (options.timeout.count() > 0) return options.timeout;
  return config.unlock_timeout;
}

// Notes that these volumes are their admin's from now on: no file system is made on them by itself
// any more. Before they open, for what is noted behind that may be lost. The places of the targets.
std::vector<std::size_t> note_first_use(UnlockBatch& batch, Registry& registry,
                                        const Clock& clock) {
  std::vector<std::size_t> noted;
  if (batch.action != Action::kActivate || batch.dry_run) return noted;
  for (std::size_t i = 0; i < batch.targets.size(); ++i) {
    UnlockTarget& target = batch.targets[i];
    if (!target.running() || !lacks_file_system(target.row)) continue;
    VolumeRow used = target.row;
    used.last_unlock = clock.wall();
    if (const auto stored = registry.put(used); !stored) {
      target.fail_with(stored.error());
      continue;
    }
    target.row.last_unlock = used.last_unlock;
    noted.push_back(i);
  }
  return noted;
}

// Those of them that never opened were not used.
void take_back_first_use(UnlockBatch& batch, const std::vector<std::size_t>& noted,
                         Registry& registry) {
  for (const std::size_t i : noted) {
    UnlockTarget& target = batch.targets[i];
    const bool may_be_open = target.activated || target.delivered || target.delivery_unknown ||
                             (target.error && target.error->reason() == Reason::kAlreadyUnlocked);
    if (may_be_open) continue;
    VolumeRow unused = target.row;
    unused.last_unlock = WallTime{};
    if (registry.put(unused)) target.row.last_unlock = WallTime{};
  }
}

}  // namespace

Result<JobId> HostEngine::unlock(const std::vector<VolumeId>& ids, const UnlockOptions& options,
                                 const Caller& caller) {
  const auto known = require_known(ids);
  if (!known) return tl::unexpected(known.error());
  Work work;
  work.operation = "unlock";
  work.caller = caller;
  work.unlock = options;
  return start_job(*known, std::move(work));
}

Result<JobId> HostEngine::verify(const std::vector<VolumeId>& ids, const Caller& caller) {
  const auto known = require_known(ids);
  if (!known) return tl::unexpected(known.error());
  Work work;
  work.operation = "verify";
  work.caller = caller;
  return start_job(*known, std::move(work));
}

// An open volume needs no key.
bool HostEngine::answer_at_once(JobId job, const Work& work, Volume& volume) {
  if (work.operation != "unlock" || (!volume.open && !volume.lingering)) return false;
  JobTable::Outcome outcome;
  if (volume.lingering) {
    const Error busy(Reason::kBusy, "an old mapping of " + volume.row.name +
                                        " is there until its last user lets go");
    finish_item(job, volume.row.id, JobTable::Outcome::failed(busy));
    return true;
  }
  if (work.unlock.strict) {
    outcome = JobTable::Outcome::failed(
        Error(Reason::kAlreadyUnlocked, volume.row.name + " is open already"));
  } else {
    outcome.note = "was open already";
  }
  finish_item(job, volume.row.id, outcome);
  return true;
}

HostEngine::BatchPtr HostEngine::make_batch(JobId job, const Work& work,
                                            const std::vector<VolumeId>& ids) {
  auto batch = std::make_shared<UnlockBatch>();
  const bool verify = work.operation == "verify";
  batch->actor = actor_of(work.caller);
  batch->operation = verify ? "volume.verify" : "volume.unlock";
  batch->action = verify ? Action::kVerify : Action::kActivate;
  batch->request_id = "job-" + std::to_string(job);
  batch->reason_text = work.caller.reason;
  batch->read_only = work.unlock.read_only;
  batch->dry_run = work.unlock.dry_run;
  batch->deadline = Deadline(parts_.clock.steady() + timeout_of(parts_.config, work.unlock));
  batch->cancelled = [flag = work.cancelled] { return flag->load(); };
  for (const VolumeId& id : ids) {
    Volume* volume = volumes_.find(id);
    if (volume == nullptr) continue;
    batch->targets.emplace_back(volume->row, verify || !is_automatic(work.caller));
  }
  return batch;
}

void HostEngine::launch_batch(JobId job, const std::vector<VolumeId>& ids) {
  // A copy: ending an item may end the job, and its work with it.
  const Work work = works_.at(job);
  const bool changes = work.operation == "unlock" && !work.unlock.dry_run;
  std::vector<VolumeId> wanted;
  for (const VolumeId& id : ids) {
    Volume* volume = volumes_.find(id);
    if (volume == nullptr) {
      finish_item(job, id,
                  JobTable::Outcome::failed(Error(Reason::kNoSuchVolume, "no volume " + id.str())));
    } else if (!answer_at_once(job, work, *volume)) {
      wanted.push_back(id);
    }
  }
  for (std::size_t from = 0; from < wanted.size(); from += parts_.config.batch_max) {
    const auto begin = wanted.begin() + static_cast<std::ptrdiff_t>(from);
    const auto count = std::min<std::size_t>(parts_.config.batch_max, wanted.size() - from);
    const std::vector<VolumeId> chunk(begin, begin + static_cast<std::ptrdiff_t>(count));
    std::vector<VolumeRow> unlocked_rows;
    for (const VolumeId& id : chunk) {
      Volume& volume = *volumes_.find(id);
      if (!changes) continue;
      volume.tried = true;
      volume.retry = false;
      if (volume.row.locked_by_admin && !is_automatic(work.caller)) {
        // An admin's unlock ends an admin's lock, also when the token is away just now.
        volume.row.locked_by_admin = false;
        volume.row.locked_boot_id.clear();
        volume.info.locked_by_admin = false;
        unlocked_rows.push_back(volume.row);
      }
      volumes_.set_state(volume, VolumeState::kUnlocking, work.caller.origin);
    }
    run_batch(job, make_batch(job, work, chunk), std::move(unlocked_rows));
  }
}

void HostEngine::run_batch(JobId job, const BatchPtr& batch, std::vector<VolumeRow> changed) {
  const SteadyTime began = parts_.clock.steady();
  const auto began_boot = static_cast<std::uint64_t>(parts_.clock.since_boot().count());
  run_beside(
      unlock_pool_,
      [this, batch, changed = std::move(changed)] {
        if (!changed.empty()) {
          if (const auto stored = parts_.registry.put_all(changed); !stored) {
            for (auto& target : batch->targets) target.add_note(stored.error().str());
          }
        }
        const auto disks = parts_.watch.list();
        if (!disks) batch->fail_running(disks.error());
        const auto noted = note_first_use(*batch, parts_.registry, parts_.clock);
        run_unlock(*batch, disks ? std::span<const Disk>(*disks) : std::span<const Disk>(),
                   unlock_parts());
        take_back_first_use(*batch, noted, parts_.registry);
        std::vector<VolumeRow> opened;
        for (auto& target : batch->targets) {
          if (!target.activated || batch->action != Action::kActivate) continue;
          target.row.last_unlock = parts_.clock.wall();
          opened.push_back(target.row);
        }
        if (opened.empty()) return true;
        if (const auto stored = parts_.registry.put_all(opened); !stored) {
          for (auto& target : batch->targets) {
            if (target.activated) target.add_note("not noted: " + stored.error().str());
          }
        }
        return true;
      },
      [this, job, batch, began, began_boot](bool /*ran*/) {
        take_batch(job, *batch, began, began_boot);
      },
      [this, job, batch, began, began_boot](const Error& error) {
        batch->fail_running(error);
        take_batch(job, *batch, began, began_boot);
      });
}

void HostEngine::take_batch(JobId job, UnlockBatch& batch, SteadyTime began,
                            std::uint64_t began_boot_usec) {
  const auto work = works_.find(job);
  const bool strict = work != works_.end() && work->second.unlock.strict;
  for (UnlockTarget& target : batch.targets) {
    Volume* volume = volumes_.find(target.row.id);
    if (volume == nullptr) {
      finish_item(job, target.row.id,
                  JobTable::Outcome::failed(Error(Reason::kNoSuchVolume, "it was forgotten")));
      continue;
    }
    if (target.header) volumes_.set_header(*volume, *target.header, target.device_bytes);
    if (batch.dry_run || batch.action == Action::kVerify) {
      JobTable::Outcome outcome;
      if (target.error) outcome = JobTable::Outcome::failed(*target.error);
      outcome.note = target.note;
      finish_item(job, target.row.id, outcome);
      continue;
    }
    // Found open is as good as opened, unless the caller wants to know the difference.
    if (!strict && target.error && target.error->reason() == Reason::kAlreadyUnlocked) {
      target.error.reset();
      target.activated = Activated{};
      target.add_note("was open already");
    }
    volume->row.last_unlock = target.row.last_unlock;
    if (target.activated) {
      take_opened(job, target, *volume, began, began_boot_usec);
    } else {
      take_failed(job, target, *volume, began);
    }
  }
}

void HostEngine::take_opened(JobId job, const UnlockTarget& target, Volume& volume,
                             SteadyTime began, std::uint64_t began_boot_usec) {
  const auto usable =
      std::chrono::microseconds(target.activated->usable_boot_usec > began_boot_usec
                                    ? target.activated->usable_boot_usec - began_boot_usec
                                    : 0);
  volume.info.last_unlock = target.row.last_unlock;
  volume.info.last_unlock_duration = usable;
  volume.open = true;
  volume.gone_told = false;
  volume.retry_wait = std::chrono::milliseconds(0);
  const auto work = works_.find(job);
  const std::string origin = work == works_.end() ? "" : work->second.caller.origin;
  if (work != works_.end()) volume.info.read_only = work->second.unlock.read_only;
  volumes_.set_state(volume, VolumeState::kUnlocked, "opened: " + origin);
  print(5, volume.row.name + " is open" + (target.note.empty() ? "" : ": " + target.note),
        &volume.row.id);
  if (target.header && target.header->copies != luks2::Copies::kBoth) {
    alert("warning", Error(Reason::kHeaderDamaged, target.note), volume.row.id);
  }
  Settling settling{.job = job,
                    .volume = volume.row.id,
                    .outcome = {},
                    .began = began,
                    .until = parts_.clock.steady() + parts_.config.settle_timeout};
  settling.outcome.usable = usable;
  settling.outcome.note = target.note;
  wait_settled(std::move(settling));
}

void HostEngine::take_failed(JobId job, const UnlockTarget& target, Volume& volume,
                             SteadyTime began) {
  const Error error =
      target.error.value_or(Error(Reason::kInternal, "the batch ended without a result"));
  JobTable::Outcome outcome = JobTable::Outcome::failed(error);
  outcome.note = target.note;
  if (error.reason() == Reason::kLockedByAdmin) {
    outcome.result = "skipped";
    volumes_.set_state(volume, VolumeState::kLocked, "locked by an admin");
    return finish_item(job, target.row.id, outcome);
  }
  if (error.reason() == Reason::kCancelled) {
    outcome.result = "cancelled";
    volumes_.set_state(volume, VolumeState::kLocked, "cancelled");
    return finish_item(job, target.row.id, outcome);
  }
  // Told once, not with every retry.
  const bool known = volume.info.last_error && volume.info.last_error->reason() == error.reason();
  volumes_.set_failed(volume, error);
  if (may_pass(error.reason())) {
    volume.retry = volume.row.automatic;
    volume.retry_wait = volume.retry_wait.count() == 0
                            ? std::chrono::milliseconds(parts_.config.retry_min)
                            : std::min(volume.retry_wait * 2, kRetryMax);
    volume.retry_at = parts_.clock.steady() + volume.retry_wait;
    provider_.note_failure(error);
    if (observer_ != nullptr) observer_->provider_changed(provider_.info().name);
  } else if (key_came_meanwhile(error, began)) {
    volume.retry = volume.row.automatic;
    volume.retry_at = parts_.clock.steady();
  }
  const auto work = works_.find(job);
  const bool automatic = work != works_.end() && is_automatic(work->second.caller);
  const bool worth_telling = automatic || error.code() == Errc::kCorrupted;
  if (worth_telling && !known) alert("error", error, volume.row.id);
  finish_item(job, target.row.id, outcome);
}

void HostEngine::wait_settled(Settling settling) {
  const Volume* volume = volumes_.find(settling.volume);
  const std::string mapping = volume != nullptr ? volume->row.mapped_name : "";
  settling_.insert_or_assign(mapping, std::move(settling));
  if (mapping.empty() || parts_.watch.is_settled(mapping)) on_settled(mapping);
}

void HostEngine::on_settled(const std::string& mapping) {
  auto found = settling_.extract(mapping);
  if (found.empty()) return;
  Settling& settling = found.mapped();
  settling.outcome.settled =
      std::chrono::duration_cast<std::chrono::microseconds>(parts_.clock.steady() - settling.began);
  finish_item(settling.job, settling.volume, settling.outcome);
}

// The volume is open and serves; only its links are late. Whoever waits for them is told.
void HostEngine::expire_settling() {
  const SteadyTime now = parts_.clock.steady();
  std::vector<std::string> late;
  for (const auto& [mapping, settling] : settling_) {
    if (settling.until <= now) late.push_back(mapping);
  }
  for (const std::string& mapping : late) {
    if (parts_.watch.is_settled(mapping)) {
      on_settled(mapping);
      continue;
    }
    auto found = settling_.extract(mapping);
    Settling& settling = found.mapped();
    std::string& note = settling.outcome.note;
    note += (note.empty() ? "" : "; ") + std::string("udev has not made its links yet");
    finish_item(settling.job, settling.volume, settling.outcome);
  }
}

}  // namespace coffer::agent

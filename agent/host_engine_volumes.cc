// SPDX-License-Identifier: Apache-2.0
// The engine's operations on volumes beside their unlocking.
#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"
#include "agent/volume/adopt.h"
#include "agent/volume/first_opening.h"
#include "agent/volume/lock.h"
#include "agent/volume/provision.h"
#include "agent/volume/recover.h"

namespace coffer::agent {
namespace {

constexpr std::chrono::minutes kProvisionTimeout{
    10};  // A file system on a slow disk takes its time.
constexpr std::chrono::seconds kShortTimeout{60};

// What provisioning left: the volume, or the row of one that could not be completed.
struct ProvisionEnd {
  Result<Provisioned> made = fail(Reason::kInternal, "not begun");
  std::optional<VolumeRow> left_behind;
};

JobTable::Outcome failed(const Error& error) {
  return JobTable::Outcome::failed(error);
}

}  // namespace

Result<JobId> HostEngine::lock(const std::vector<VolumeId>& ids, const LockOptions& options,
                               const Caller& caller) {
  const auto known = require_known(ids);
  if (!known) return tl::unexpected(known.error());
  Work work;
  work.operation = "lock";
  work.caller = caller;
  work.lock = options;
  return start_job(*known, std::move(work));
}

void HostEngine::launch_lock(JobId job, const VolumeId& id) {
  const Work& work = works_.at(job);
  Volume* volume = volumes_.find(id);
  if (volume == nullptr) {
    return finish_item(job, id, failed(Error(Reason::kNoSuchVolume, "no volume " + id.str())));
  }
  if (volume->open) volumes_.set_state(*volume, VolumeState::kLocking, "asked by an admin");
  const auto timeout = work.lock.timeout.count() > 0
                           ? work.lock.timeout
                           : std::chrono::microseconds(parts_.config.lock_timeout);
  const LifeCall call = life_call(job, work.caller, timeout);
  const bool was_open = volume->open;
  const auto take = [this, job, id, was_open](const Result<Locked>& locked) {
    Volume* now = volumes_.find(id);
    if (now != nullptr && locked) {
      now->row = locked->row;
      now->info.locked_by_admin = locked->row.locked_by_admin;
      now->open = false;
      now->retry = false;
      now->info.last_error.reset();
      const VolumeState state = locked->still_open ? VolumeState::kLocking
                                : now->present     ? VolumeState::kLocked
                                                   : VolumeState::kAbsent;
      volumes_.set_state(*now, state, "locked by an admin");
    } else if (now != nullptr && was_open) {
      volumes_.set_state(*now, VolumeState::kUnlocked, "could not be locked");
    }
    JobTable::Outcome outcome = locked ? JobTable::Outcome{} : failed(locked.error());
    if (locked) outcome.note = locked->note;
    finish_item(job, id, outcome);
  };
  run_beside(
      lock_pool_,
      [this, row = volume->row, mode = work.lock.mode, call] {
        return lock_volume(row, mode, call, life_parts());
      },
      take, [take](const Error& error) { take(tl::unexpected(error)); });
}

Result<JobId> HostEngine::provision(const std::string& device, const ProvisionOptions& options,
                                    const Caller& caller) {
  if (!options.name.empty()) {
    if (const auto named = require_volume_name(options.name); !named) {
      return tl::unexpected(named.error());
    }
    if (volumes_.resolve(options.name)) {
      return fail(Reason::kNameTaken, "another volume is called " + options.name);
    }
  }
  const auto id = VolumeId::random();
  if (!id) return tl::unexpected(id.error());
  Work work;
  work.operation = "provision";
  work.caller = caller;
  work.device = device;
  work.provision = options;
  return start_job({*id}, std::move(work));
}

void HostEngine::launch_provision(JobId job, const VolumeId& id) {
  const Work& work = works_.at(job);
  const ProvisionCall call{.call = life_call(job, work.caller, kProvisionTimeout),
                           .id = id,
                           .device = work.device,
                           .options = work.provision};
  const auto take = [this, job, id, dry_run = work.provision.dry_run](ProvisionEnd end) {
    if (end.left_behind) volumes_.put(*end.left_behind);
    if (!end.made) {
      print(4, "provision: " + end.made.error().str(), nullptr, &end.made.error());
      return finish_item(job, id, failed(end.made.error()));
    }
    JobTable::Outcome outcome;
    outcome.note = end.made->note;
    jobs_.rename_item(job, id, {id, end.made->row.name});
    if (dry_run) return finish_item(job, id, outcome);
    Volume& volume = volumes_.put(end.made->row);
    volume.present = true;
    volume.tried = true;
    volume.open = end.made->activated.has_value();
    const auto state = volume.open ? VolumeState::kUnlocked : VolumeState::kLocked;
    volumes_.set_state(volume, state, "provisioned");
    if (!volume.open) return finish_item(job, id, outcome);
    const SteadyTime now = parts_.clock.steady();
    wait_settled({job, id, outcome, now, now + parts_.config.settle_timeout});
  };
  run_beside(
      pool_,
      [this, call] {
        ProvisionEnd end;
        const auto disks = parts_.watch.list();
        end.made = disks ? agent::provision(call, *disks, life_parts())
                         : Result<Provisioned>(tl::unexpected(disks.error()));
        if (end.made || call.options.dry_run) return end;
        if (auto row = parts_.registry.find(call.id)) end.left_behind = std::move(*row);
        return end;
      },
      take,
      [take](const Error& error) {
        ProvisionEnd end;
        end.made = tl::unexpected(error);
        take(std::move(end));
      });
}

Result<JobId> HostEngine::adopt(const std::string& device, const AdoptOptions& options,
                                const Caller& caller) {
  // Which volume it is shows only when its header has been read.
  const auto place = VolumeId::random();
  if (!place) return tl::unexpected(place.error());
  Work work;
  work.operation = "adopt";
  work.caller = caller;
  work.device = device;
  work.adopt = options;
  return start_job({*place}, std::move(work));
}

// Reads which volume it is, and takes its place in that volume's line: what runs on the volume now
// ends before its row is written.
void HostEngine::identify_adopted(JobId job, const VolumeId& place) {
  const Work& work = works_.at(job);
  const AdoptCall call{.call = life_call(job, work.caller, kShortTimeout),
                       .device = work.device,
                       .options = work.adopt};
  const auto take = [this, job, place](const Result<VolumeId>& found) {
    if (!found) {
      print(4, "adopt: " + found.error().str(), nullptr, &found.error());
      return finish_item(job, place, failed(found.error()));
    }
    works_.at(job).identified = true;
    const Volume* known = volumes_.find(*found);
    jobs_.rename_item(job, place, {*found, known != nullptr ? known->row.name : ""});
    leave_queue(place);
    if (queue_.push(*found, job)) launch_adopt(job, *found);
  };
  run_beside(
      pool_,
      [this, call]() -> Result<VolumeId> {
        const auto disks = parts_.watch.list();
        if (!disks) return tl::unexpected(disks.error());
        return identify(call, *disks, life_parts());
      },
      take, [take](const Error& error) { take(tl::unexpected(error)); });
}

void HostEngine::launch_adopt(JobId job, const VolumeId& id) {
  const Work& work = works_.at(job);
  if (!work.identified) return identify_adopted(job, id);
  const AdoptCall call{.call = life_call(job, work.caller, kShortTimeout),
                       .device = work.device,
                       .options = work.adopt};
  const auto take = [this, job, id](const Result<Adopted>& adopted) {
    if (!adopted) {
      print(4, "adopt: " + adopted.error().str(), nullptr, &adopted.error());
      return finish_item(job, id, failed(adopted.error()));
    }
    Volume& volume = volumes_.put(adopted->row);
    volume.present = true;
    if (!volume.open) volumes_.set_state(volume, VolumeState::kLocked, "adopted");
    jobs_.rename_item(job, id, {id, adopted->row.name});
    JobTable::Outcome outcome;
    const std::string deletion = deletion_note(adopted->row);
    outcome.note = (deletion.empty() ? "enable its keys to open it" : deletion) + adopted->note;
    forget_warnings(id);
    warn_of_deletions();
    finish_item(job, id, outcome);
  };
  run_beside(
      pool_,
      [this, call, id]() -> Result<Adopted> {
        const auto disks = parts_.watch.list();
        if (!disks) return tl::unexpected(disks.error());
        return agent::adopt(call, id, *disks, life_parts());
      },
      take, [take](const Error& error) { take(tl::unexpected(error)); });
}

void HostEngine::launch_recover(JobId job, const VolumeId& id) {
  Volume* volume = volumes_.find(id);
  if (volume == nullptr) return finish_item(job, id, {});
  if (lacks_file_system(volume->row)) return launch_first_opening(job, *volume);
  struct End {
    VolumeRow row;
    Result<Recovered> recovered = fail(Reason::kInternal, "not begun");
  };
  const LifeCall call = life_call(job, works_.at(job).caller, kShortTimeout);
  const auto take = [this, job, id](const End& end) {
    Volume* now = volumes_.find(id);
    if (now != nullptr) now->recover_waits = !end.recovered || *end.recovered == Recovered::kWaits;
    if (!end.recovered) {
      const Reason reason = end.recovered.error().reason();
      if (now != nullptr) now->info.last_error = end.recovered.error();
      // The right disk may come to the node of a wrong one.
      const bool passes =
          may_pass(reason) || reason == Reason::kBusy || reason == Reason::kDeviceChanged;
      if (now != nullptr && passes) recover_later(*now);
      print(4, end.recovered.error().str(), &id, &end.recovered.error());
      return finish_item(job, id, failed(end.recovered.error()));
    }
    JobTable::Outcome outcome;
    if (*end.recovered == Recovered::kFinished) {
      Volume& ready = volumes_.put(end.row);
      volumes_.set_state(ready, VolumeState::kLocked, "provisioning finished after a restart");
      outcome.note = "provisioning finished after a restart";
    } else if (*end.recovered == Recovered::kUndone) {
      outcome.note = "provisioning undone after a restart";
    } else {
      outcome.result = "skipped";
      outcome.note = "waits for its device";
      if (now != nullptr) recover_later(*now);
    }
    print(5, end.row.name + ": " + outcome.note, &id);
    finish_item(job, id, outcome);
    if (*end.recovered == Recovered::kUndone) volumes_.erase(id);
  };
  run_beside(
      pool_,
      [this, row = volume->row, call] {
        End end{.row = row};
        const auto disks = parts_.watch.list();
        end.recovered = disks ? recover(end.row, *disks, call, life_parts())
                              : Result<Recovered>(tl::unexpected(disks.error()));
        return end;
      },
      take,
      [take, row = volume->row](const Error& error) {
        End end{.row = row};
        end.recovered = tl::unexpected(error);
        take(end);
      });
}

// The end of a provisioning that was cut off when the header stood already.
void HostEngine::launch_first_opening(JobId job, Volume& volume) {
  struct End {
    VolumeRow row;
    Result<FirstOpening> opening = fail(Reason::kInternal, "not begun");
  };
  const VolumeId id = volume.row.id;
  LifeCall call = life_call(job, works_.at(job).caller, kProvisionTimeout);
  call.reason_text = "provisioning finished after a restart";
  const auto take = [this, job, id, why = call.reason_text](const End& end) {
    Volume* now = volumes_.find(id);
    if (now == nullptr) return finish_item(job, id, {});
    now->tried = true;
    if (!end.opening) {
      const Error& error = end.opening.error();
      if (!now->open) volumes_.set_failed(*now, error);
      if (may_pass(error.reason()) || error.reason() == Reason::kBusy) recover_later(*now);
      print(4, end.row.name + ": " + error.str(), &id, &error);
      return finish_item(job, id, failed(error));
    }
    volumes_.put(end.row);
    now->open = true;
    volumes_.set_state(*now, VolumeState::kUnlocked, why);
    JobTable::Outcome outcome;
    outcome.note = why + (end.opening->note.empty() ? "" : "; " + end.opening->note);
    print(5, end.row.name + ": " + outcome.note, &id);
    const SteadyTime begun = parts_.clock.steady();
    wait_settled({job, id, outcome, begun, begun + parts_.config.settle_timeout});
  };
  volumes_.set_state(volume, VolumeState::kUnlocking, call.reason_text);
  run_beside(
      pool_,
      [this, row = volume.row, call] {
        End end{.row = row};
        const auto disks = parts_.watch.list();
        end.opening = disks ? open_first(end.row, *disks, call, life_parts())
                            : Result<FirstOpening>(tl::unexpected(disks.error()));
        return end;
      },
      take,
      [take, row = volume.row](const Error& error) {
        End end{.row = row};
        end.opening = tl::unexpected(error);
        take(end);
      });
}

void HostEngine::forget(const VolumeId& id, const Caller& caller, Done<void> done) {
  const Volume* volume = volumes_.find(id);
  if (volume == nullptr) return done(fail(Reason::kNoSuchVolume, "no volume " + id.str()));
  if (volume->open || volume->info.state == VolumeState::kLocking) {
    return done(fail(Reason::kBusy, volume->row.name + " is open: lock it first"));
  }
  if (queue_.busy(id))
    return done(fail(Reason::kInProgress, volume->row.name + " is being worked on"));
  // One whose device never returns, or is dead, is not held for ever: no byte of it can be wiped,
  // and if it does return, what stands on it needs a confirmation like any other data.
  if (volume->row.state == RowState::kProvisioning && !volume->recover_waits) {
    return done(fail(Reason::kInProgress, "its provisioning is not completed"));
  }
  // Holds the volume until it is gone; there is no job with this number.
  queue_.push(id, 0);
  const LifeCall call = life_call(0, caller, kShortTimeout);
  const auto take = [this, id, done](const Result<void>& forgotten) {
    leave_queue(id);
    if (forgotten) {
      volumes_.erase(id);
      forget_warnings(id);
      if (observer_ != nullptr) observer_->manager_changed();
    }
    done(forgotten);
  };
  run_beside(
      pool_,
      [this, id, call, row = volume->row]() -> Result<void> {
        const std::string& name = row.name;
        audit::Event event = event_of(call, "volume.forget", id);
        event.request_id.clear();
        event.text = name + (call.reason_text.empty() ? "" : ": " + call.reason_text);
        const auto intent = parts_.log.append_one(event);
        if (!intent) return tl::unexpected(intent.error());
        auto erased = parts_.registry.erase(id);
        if (erased) let_go_of_keys(row, call.actor, life_parts());
        record_result(parts_.log, event, *intent,
                      erased ? std::nullopt : std::optional(erased.error()), name + " forgotten");
        return erased;
      },
      take, [take](const Error& error) { take(tl::unexpected(error)); });
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
// What is there, what should be open, and trying again: the engine's own work.
#include <algorithm>

#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"
#include "agent/unlock/open_intents.h"
#include "agent/volume/first_opening.h"

namespace coffer::agent {
namespace {

constexpr std::chrono::seconds kListTimeout{5};
constexpr std::chrono::milliseconds kAgainWaitMin{10};
constexpr std::chrono::milliseconds kAgainWaitMax{60'000};

Caller self(const std::string& origin) {
  Caller caller;
  caller.origin = origin;
  return caller;
}

bool wants_cleaning(const Mapping& mapping) {
  const bool useless = mapping.state == MappingState::kNoTable || mapping.device_gone;
  return mapping.marked && useless && !mapping.deferred;
}

bool serves(const Mapping& mapping) {
  return mapping.marked && mapping.state == MappingState::kActive && !mapping.device_gone &&
         !mapping.deferred;
}

}  // namespace

void HostEngine::request_refresh() {
  if (refreshing_) {
    refresh_again_ = true;
    return;
  }
  refreshing_ = true;
  run_beside(
      pool_,
      [this, looked_at = volumes_.now()] {
        View view;
        view.looked_at = looked_at;
        view.disks = parts_.watch.list();
        view.mappings = parts_.worker.list_mappings(Deadline::after(kListTimeout));
        if (!view.mappings) return view;
        const auto& listed = *view.mappings;
        if (std::none_of(listed.begin(), listed.end(), wants_cleaning)) return view;
        auto cleaned = parts_.worker.clean_mappings(Deadline::after(kListTimeout));
        if (cleaned) view.cleaned = std::move(*cleaned);
        view.mappings = parts_.worker.list_mappings(Deadline::after(kListTimeout));
        return view;
      },
      [this](View view) { take_view(std::move(view)); },
      [this](const Error& error) {
        View view;
        view.disks = tl::unexpected(error);
        view.mappings = tl::unexpected(error);
        take_view(std::move(view));
      });
}

void HostEngine::take_view(View view) {
  refreshing_ = false;
  if (view.disks) volumes_.set_disks(*view.disks);
  for (const Mapping& mapping : view.cleaned) {
    print(5, "mapping " + mapping.name +
                 (mapping.open_count > 0 ? " goes when its last user lets go" : " removed"));
  }
  for (const VolumeId& id : volumes_.ids()) {
    Volume& volume = *volumes_.find(id);
    // What was seen before an operation ended says nothing about what it left.
    if (queue_.busy(id) || volume.changed_at > view.looked_at) continue;
    if (!view.mappings) continue;
    const auto is_its = [&](const Mapping& mapping) {
      return mapping.marked && mapping.volume == id && mapping.name == volume.row.mapped_name;
    };
    const auto found = std::find_if(view.mappings->begin(), view.mappings->end(), is_its);
    take_mapping(volume, found == view.mappings->end() ? nullptr : &*found);
  }
  seen_ = true;
  // Only the worker's list tells what is open. A kernel without device-mapper has nothing open.
  const bool listed = view.mappings || view.mappings.error().reason() == Reason::kUnsupported;
  if (listed) {
    close_open_intents(view.mappings ? *view.mappings : std::vector<Mapping>());
    if (!std::exchange(locks_ended_, true)) end_unfinished_locks();
  } else {
    close_intents_later();
  }
  recover_rows();
  open_automatic();
  for (const JobId job : std::exchange(scan_jobs_, {})) {
    jobs_.end_job(job, view.disks ? std::nullopt : std::optional(view.disks.error()),
                  "looked at all devices");
  }
  check_boot();
  if (observer_ != nullptr) observer_->manager_changed();
  if (std::exchange(refresh_again_, false)) request_refresh();
}

// An agent that was killed left intents without a result: what is there now tells how they ended.
// Tried again, ever later, until it was done once.
void HostEngine::close_open_intents(const std::vector<Mapping>& mappings) {
  if (intents_closed_ || std::exchange(closing_intents_, true)) return;
  note_records_before();
  // Not by the states shown: what runs on a volume by now has changed its own.
  std::map<VolumeId, bool> is_open;
  for (const VolumeId& id : volumes_.ids()) is_open[id] = false;
  for (const Mapping& mapping : mappings) {
    if (!mapping.volume || !serves(mapping)) continue;
    if (const auto found = is_open.find(*mapping.volume); found != is_open.end()) {
      found->second = true;
    }
  }
  const auto take = [this](const Result<void>& closed) {
    closing_intents_ = false;
    intents_closed_ = closed.has_value();
    if (closed) return;
    print(4, "close what a crash left: " + closed.error().str());
    close_intents_later();
  };
  run_beside(
      pool_,
      [this, is_open = std::move(is_open), last = records_before_]() -> Result<void> {
        // Asking opens the journal, if it can be: which of its records are old shows after that.
        const auto intents = open_intents(parts_.log, last.value_or(1));
        if (!intents) return tl::unexpected(intents.error());
        if (!last) return fail(Reason::kAuditUnavailable, "the journal was not open before");
        close_intents(parts_.log, *intents, [&](const audit::Event& event) {
          if (!event.volume) return false;
          const auto found = is_open.find(*event.volume);
          const bool known = found != is_open.end();
          if (event.operation == "volume.forget") return !known;
          if (!known) return false;
          if (event.operation == "volume.unlock") return found->second;
          if (event.operation == "volume.lock") return !found->second;
          return event.operation == "volume.adopt" || event.operation == "volume.provision";
        });
        return {};
      },
      take, [take](const Error& error) { take(tl::unexpected(error)); });
}

void HostEngine::note_records_before() {
  if (records_before_) return;
  if (const auto found = parts_.log.head_found()) records_before_ = found->sequence;
}

void HostEngine::close_intents_later() {
  if (intents_closed_) return;
  intents_wait_ = longer_wait(intents_wait_);
  intents_at_ = parts_.clock.steady() + intents_wait_;
}

// An agent that was killed after it had noted an admin's lock, and before the mapping went, left
// the volume open. It is not locked, so it is not held locked either, and opens again after a
// replug.
void HostEngine::end_unfinished_locks() {
  for (const VolumeId& id : volumes_.ids()) {
    const Volume& volume = *volumes_.find(id);
    if (!volume.open || !volume.row.locked_by_admin || queue_.busy(id)) continue;
    VolumeRow row = volume.row;
    row.locked_by_admin = false;
    row.locked_boot_id.clear();
    volumes_.put(row);
    print(4, row.name + " is open: an admin's lock of it was not completed before a restart", &id);
    queue_.push(id, 0);  // Until its row is stored; there is no job with this number.
    const auto take = [this, id](const Result<void>& stored) {
      if (!stored) print(4, stored.error().str(), &id, &stored.error());
      leave_queue(id);
    };
    run_beside(
        pool_, [this, row] { return parts_.registry.put(row); }, take,
        [take](const Error& error) { take(tl::unexpected(error)); });
  }
}

void HostEngine::take_mapping(Volume& volume, const Mapping* mapping) {
  if (volume.row.state != RowState::kReady) return;
  if (mapping != nullptr && serves(*mapping)) {
    volume.lingering = false;
    volume.open = true;
    volume.tried = true;
    if (volume.info.state != VolumeState::kUnlocked) {
      volumes_.set_state(volume, VolumeState::kUnlocked, "found open");
      print(5, volume.row.name + " was found open", &volume.row.id);
    }
    return;
  }
  volume.lingering = mapping != nullptr && mapping->state != MappingState::kNoTable;
  const bool was_open = std::exchange(volume.open, false);
  if (mapping != nullptr && mapping->device_gone) {
    if (!std::exchange(volume.gone_told, true)) {
      alert("error", Error(Reason::kDeviceAbsent, "its device went away while it was open"),
            volume.row.id);
    }
    return volumes_.set_state(volume, VolumeState::kAbsent,
                              "unplugged while open; its mapping goes when its last user lets go");
  }
  if (mapping != nullptr && mapping->state != MappingState::kNoTable) {
    return volumes_.set_state(volume, VolumeState::kLocking, "goes when its last user lets go");
  }
  volume.gone_told = false;
  if (!volume.present) return volumes_.set_state(volume, VolumeState::kAbsent, "");
  // A failure stays shown until something else is known.
  if (volume.info.state == VolumeState::kFailed) return;
  const std::string reason = volume.row.locked_by_admin ? "locked by an admin"
                             : was_open                 ? "its mapping was taken away"
                                                        : "";
  const bool same = volume.info.state == VolumeState::kLocked && reason.empty();
  if (!same) volumes_.set_state(volume, VolumeState::kLocked, reason);
}

bool HostEngine::wants_opening(const Volume& volume) const {
  return volume.row.automatic && !volume.row.locked_by_admin &&
         volume.row.state == RowState::kReady && volume.present && !volume.open &&
         !volume.lingering && volume.info.state != VolumeState::kLocking &&
         !lacks_file_system(volume.row) && !queue_.busy(volume.row.id);
}

void HostEngine::open_automatic() {
  std::vector<VolumeId> fresh;
  for (const VolumeId& id : volumes_.ids()) {
    const Volume& volume = *volumes_.find(id);
    const bool gone = volume.info.state == VolumeState::kAbsent && !volume.present;
    if (wants_opening(volume) && !volume.tried && !gone) fresh.push_back(id);
  }
  if (fresh.empty()) return;
  const bool booting = boot_finished_ == WallTime{};
  const auto job = unlock(fresh, {}, self(booting ? "boot" : "hotplug"));
  if (!job) print(3, "open what is there: " + job.error().str());
}

void HostEngine::recover_rows() {
  std::vector<VolumeId> open_ends;
  for (const VolumeId& id : volumes_.ids()) {
    Volume& volume = *volumes_.find(id);
    const bool tried = volume.recover_tried || queue_.busy(id);
    const bool unmade = volume.present && !volume.lingering && !volume.row.locked_by_admin &&
                        lacks_file_system(volume.row);
    if (tried || (volume.row.state != RowState::kProvisioning && !unmade)) continue;
    volume.recover_tried = true;  // Again when its device has come.
    open_ends.push_back(id);
  }
  if (open_ends.empty()) return;
  Work work;
  work.operation = "recover";
  work.caller = self("startup");
  static_cast<void>(start_job(open_ends, std::move(work)));
}

// Volumes that lack their file system are opened by recover_rows() alone: what lets others be tried
// again lets them be, too.
void HostEngine::want_file_systems() {
  for (const VolumeId& id : volumes_.ids()) {
    Volume& volume = *volumes_.find(id);
    if (lacks_file_system(volume.row)) volume.recover_tried = false;
  }
}

// How long to wait after a wait of `before` was not enough.
std::chrono::milliseconds HostEngine::longer_wait(std::chrono::milliseconds before) const {
  const auto first = std::max<std::chrono::milliseconds>(parts_.config.retry_min, kAgainWaitMin);
  return std::min(std::max(before * 2, first), kAgainWaitMax);
}

// Plans to try again what waits, or failed for a reason that may pass.
void HostEngine::recover_later(Volume& volume) {
  volume.recover_wait = longer_wait(volume.recover_wait);
  volume.recover_at = parts_.clock.steady() + volume.recover_wait;
}

// Tries again those that were to be tried by `due`.
void HostEngine::recover_again(SteadyTime due) {
  bool any = false;
  for (const VolumeId& id : volumes_.ids()) {
    Volume& volume = *volumes_.find(id);
    if (!volume.recover_at || *volume.recover_at > due) continue;
    volume.recover_at.reset();
    volume.recover_tried = false;
    any = true;
  }
  if (any) recover_rows();
}

Result<JobId> HostEngine::scan(const Caller& caller) {
  const auto job = jobs_.add("scan", {}, caller, false);
  if (!job) return job;
  for (const VolumeId& id : volumes_.ids()) volumes_.find(id)->tried = false;
  want_file_systems();  // Made when the devices have been looked at.
  scan_jobs_.push_back(*job);
  request_refresh();
  return job;
}

void HostEngine::worker_connected(bool connected) {
  post([this, connected] {
    if (!connected) print(4, "the worker is away");
    // What it began before it went shows in the list of the next one.
    if (!connected || !seen_) return;
    request_refresh();
    recover_again(SteadyTime::max());
  });
}

void HostEngine::retry_now(const std::function<bool(const Volume&)>& which) {
  std::vector<VolumeId> again;
  for (const VolumeId& id : volumes_.ids()) {
    const Volume& volume = *volumes_.find(id);
    if (wants_opening(volume) && which(volume)) again.push_back(id);
  }
  if (again.empty()) return;
  const auto job = unlock(again, {}, self("recovery"));
  if (!job) print(3, "try again: " + job.error().str());
}

// The token is back. Volumes that failed again and again although it answered keep their own time.
void HostEngine::retry_after_return() {
  const SteadyTime now = parts_.clock.steady();
  retry_now([&](const Volume& volume) {
    return volume.retry && (volume.retry_at <= now || volume.retry_wait <= parts_.config.retry_max);
  });
  want_file_systems();
  recover_rows();
}

void HostEngine::probe() {
  if (!provider_.begin_probe()) return;
  run_beside(
      probe_pool_, [this] { return parts_.vault.health(); },
      [this](const keyring::VaultHealth& health) {
        const std::string before = provider_.info().state;
        const bool came_up = provider_.take(health);
        const ProviderInfo& info = provider_.info();
        if (before != info.state) {
          print(info.state == "up" ? 5 : 4,
                "token " + info.name + " is " + info.state + ": " + info.detail);
          if (observer_ != nullptr) observer_->manager_changed();
        }
        if (observer_ != nullptr) observer_->provider_changed(info.name);
        if (came_up) retry_after_return();
      },
      // That says nothing of the token.
      [this](const Error&) { provider_.put_off_probe(); });
}

bool HostEngine::boot_waits_for(const Volume& volume) const {
  if (!volume.row.automatic || volume.row.locked_by_admin) return false;
  if (queue_.busy(volume.row.id)) return true;
  switch (volume.info.state) {
    case VolumeState::kFailed:
      return (volume.retry || volume.recover_at) && volume.info.last_error &&
             passes_soon(volume.info.last_error->reason()) &&
             parts_.clock.steady() - started_at_ < parts_.config.boot_retry_wait;
    case VolumeState::kUnlocked:
    case VolumeState::kProvisioning:
    case VolumeState::kLocking:
      return false;
    case VolumeState::kAbsent:
      return parts_.clock.steady() - started_at_ < parts_.config.boot_device_wait;
    case VolumeState::kUnlocking:
      return true;
    case VolumeState::kLocked:
      return !volume.tried;
  }
  return false;
}

void HostEngine::check_boot() {
  if (!started_ || !seen_ || boot_finished_ != WallTime{}) return;
  for (const VolumeId& id : volumes_.ids()) {
    if (boot_waits_for(*volumes_.find(id))) return;
  }
  boot_finished_ = parts_.clock.wall();
  boot_duration_ =
      std::chrono::duration_cast<std::chrono::microseconds>(parts_.clock.steady() - started_at_);
  if (observer_ != nullptr) observer_->manager_changed();
  if (boot_listener_) boot_listener_();
}

BootStatus HostEngine::boot_status() const {
  BootStatus status;
  status.finished = boot_finished_ != WallTime{};
  for (const VolumeInfo& info : volumes_.infos()) {
    if (!info.automatic) continue;
    std::string text = info.state_reason;
    if (info.last_error) {
      text = info.last_error->str();
    } else if (info.state == VolumeState::kUnlocked && info.last_unlock_duration.count() > 0) {
      text = "after " + std::to_string(info.last_unlock_duration.count() / 1000) + " ms";
    }
    status.lines.push_back({info.name, info.state, text});
  }
  return status;
}

void HostEngine::tick() {
  jobs_.expire();
  expire_settling();
  probe();
  if (provider_.up()) {
    const SteadyTime now = parts_.clock.steady();
    retry_now([now](const Volume& volume) { return volume.retry && volume.retry_at <= now; });
  }
  recover_again(parts_.clock.steady());
  settle_what_is_due();
  look_for_due();
  warn_of_deletions();
  if (intents_at_ && *intents_at_ <= parts_.clock.steady()) {
    intents_at_.reset();
    request_refresh();
  }
  if (keys_at_ && *keys_at_ <= parts_.clock.steady()) {
    keys_at_.reset();
    reconcile_keys();
  }
  check_boot();
  resume_rewraps();
  record_floods();
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/host_engine.h"

#include <algorithm>
#include <set>

#include "agent/host_engine_pool.h"
#include "agent/volume/lock.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kUnlockThreads = 4;
constexpr std::size_t kLockThreads = 2;
constexpr std::size_t kUseThreads = 3;
constexpr std::size_t kUsesMax = 256;  // That wait: each holds two descriptors.
constexpr std::size_t kReadThreads = 2;
constexpr std::size_t kReadsMax = 1024;  // That wait: twice what the bus lets one user ask.
constexpr std::size_t kProofsMax = 8;    // That wait: each may take two minutes of a dead device.
constexpr std::size_t kThreads = 6;
constexpr std::size_t kQueueMax = 16'384;

audit::Origin origin_of(const std::string& origin) {
  if (origin == "dbus") return audit::Origin::kDbus;
  if (origin == "boot") return audit::Origin::kBoot;
  if (origin == "hotplug") return audit::Origin::kHotplug;
  return audit::Origin::kDaemon;
}

ProviderMonitor::Options monitor_options(const Config& config) {
  ProviderMonitor::Options options;
  options.name = config.vault_token;
  options.retry_min = config.retry_min;
  options.retry_max = config.retry_max;
  return options;
}

JobTable::Limits job_limits(const Config& config) {
  JobTable::Limits limits;
  limits.jobs_max = config.jobs_max;
  limits.jobs_per_caller_max = config.jobs_per_caller_max;
  return limits;
}

}  // namespace

audit::Actor actor_of(const Caller& caller) {
  audit::Actor actor;
  actor.origin = origin_of(caller.origin);
  actor.uid = caller.uid;
  actor.bus_name = caller.bus_name;
  actor.polkit_action = caller.polkit_action;
  return actor;
}

HostEngine::HostEngine(Parts parts)
    : parts_(std::move(parts)),
      volumes_(parts_.config.vault_token),
      jobs_(job_limits(parts_.config), parts_.clock),
      provider_(monitor_options(parts_.config), parts_.clock),
      unlock_pool_({.threads = kUnlockThreads, .queue_max = kQueueMax}),
      lock_pool_({.threads = kLockThreads, .queue_max = kQueueMax}),
      use_pool_({.threads = kUseThreads, .queue_max = kUsesMax}),
      read_pool_({.threads = kReadThreads, .queue_max = kReadsMax}),
      proof_pool_({.threads = 1, .queue_max = kProofsMax}),
      probe_pool_({.threads = 1, .queue_max = 1}),
      pool_({.threads = kThreads, .queue_max = kQueueMax}) {}

HostEngine::~HostEngine() {
  stopping_ = true;
  for (auto& [id, work] : works_) work.cancelled->store(true);  // No key is asked for any more.
  parts_.log.set_observer({});
  record_floods();
  // All run to their end, and post; what is posted finds nobody. Of what callers ask only what
  // runs: with a token that hangs, all that waits would take longer than the agent has.
  unlock_pool_.stop();
  lock_pool_.stop();
  use_pool_.stop();
  read_pool_.stop();
  proof_pool_.stop();
  probe_pool_.stop();
  pool_.stop();
  alive_.reset();
}

Result<std::unique_ptr<HostEngine>> HostEngine::make(Parts parts) {
  std::unique_ptr<HostEngine> engine(new HostEngine(std::move(parts)));
  if (const auto loaded = engine->load(); !loaded) return tl::unexpected(loaded.error());
  return engine;
}

Result<void> HostEngine::load() {
  parts_.keyring.set_observer(
      [this, guard = std::weak_ptr(alive_)](const keyring::CmkRecord& now, bool is_new) {
        if (guard.expired()) return;
        post([this, now, is_new] { take_key(now, is_new); });
      });
  auto contents = parts_.registry.load();
  if (!contents) return tl::unexpected(contents.error());
  for (const std::string& id : contents->damaged) {
    print(3,
          "the registry's entry " + id + " is damaged: the volume is left alone; adopt it again");
  }
  for (VolumeRow& row : contents->rows) {
    if (end_lock_of_other_boot(row, parts_.boot_id)) {
      if (const auto stored = parts_.registry.put(row); !stored) print(4, stored.error().str());
    }
    volumes_.put(row);
  }
  std::optional<CmkId> after;
  do {
    const auto page = parts_.keyring.list({.after = after, .count_max = 1000});
    if (!page) return tl::unexpected(page.error());
    tell_damaged(page->damaged);
    for (const auto& record : page->keys) {
      keys_.insert_or_assign(record.id, record);
      if (record.delete_at) deletions_.insert(record.id);
      auto tags = parts_.keyring.tags(record.id);
      if (!tags) return tl::unexpected(tags.error());
      if (!tags->empty()) key_tags_.insert_or_assign(record.id, std::move(*tags));
    }
    after = page->continue_after;
  } while (after);
  return {};
}

void HostEngine::start() {
  started_ = true;
  started_at_ = parts_.clock.steady();
  take_head(parts_.log.head());
  note_records_before();
  const auto guard = std::weak_ptr(alive_);
  parts_.log.set_observer([this, guard](std::uint64_t sequence, const audit::Event& event) {
    if (guard.expired()) return;
    // Asked here: the journal may be busy with a disk, which the loop does not wait for.
    post([this, sequence, event, now = parts_.log.head()] {
      take_head(now);
      if (observer_ == nullptr) return;
      const std::string object = event.volume ? event.volume->str()
                                 : event.cmk  ? event.cmk->str()
                                              : "";
      observer_->audit_recorded(
          sequence, std::string(audit::kind_name(event.kind)) + " " + event.operation, object);
    });
  });
  const auto watching = parts_.watch.start({.changed =
                                                [this, guard] {
                                                  if (!guard.expired()) request_refresh();
                                                },
                                            .settled =
                                                [this, guard](const std::string& name) {
                                                  if (!guard.expired()) on_settled(name);
                                                }});
  if (!watching) print(4, "no news of devices: " + watching.error().str());
  auto ticker = parts_.loop.every(parts_.tick, [this] { tick(); });
  if (ticker) ticker_ = std::move(*ticker);
  reconcile_keys();
  probe();
  request_refresh();
  settle_what_is_due();
  look_for_due();
  warn_of_deletions();
}

void HostEngine::post(ipc::Task task) {
  const auto posted =
      parts_.loop.post([guard = std::weak_ptr(alive_), task = std::move(task)]() mutable {
        if (!guard.expired()) task();
      });
  static_cast<void>(posted);
}

void HostEngine::set_observer(EngineObserver* observer) {
  observer_ = observer;
  volumes_.set_observer(observer);
  jobs_.set_observer(observer);
}

ManagerInfo HostEngine::manager() const {
  ManagerInfo info;
  info.version = parts_.version;
  info.features = {"luks2", "detached-header", "pkcs11", "key-life-cycle", "key-import", "key-use"};
  info.host_id = parts_.host_id;
  info.mode = provider_.up() ? "online" : "degraded";
  info.volume_count = static_cast<std::uint32_t>(volumes_.size());
  info.unlocked_count = volumes_.count(VolumeState::kUnlocked);
  info.failed_count = volumes_.count(VolumeState::kFailed);
  info.boot_finished = boot_finished_;
  info.boot_unlock_duration = boot_duration_;
  return info;
}

std::vector<VolumeInfo> HostEngine::volumes() const {
  return volumes_.infos();
}

Result<VolumeInfo> HostEngine::volume(const VolumeId& id) const {
  if (const Volume* found = volumes_.find(id)) return found->info;
  return fail(Reason::kNoSuchVolume, "no volume " + id.str());
}

Result<VolumeId> HostEngine::resolve(const std::string& spec) const {
  return volumes_.resolve(spec);
}

std::vector<JobInfo> HostEngine::jobs() const {
  return jobs_.jobs();
}
Result<JobInfo> HostEngine::job(JobId id) const {
  return jobs_.job(id);
}
Result<std::vector<JobItem>> HostEngine::job_items(JobId id) const {
  return jobs_.job_items(id);
}

Result<void> HostEngine::cancel(JobId id, const Caller& caller) {
  const auto cancelled = jobs_.cancel(id);
  if (!cancelled) return tl::unexpected(cancelled.error());
  print(5, "job " + std::to_string(id) + " cancelled by user " + std::to_string(caller.uid));
  const auto found = works_.find(id);
  if (found == works_.end()) return {};
  found->second.cancelled->store(true);
  for (const VolumeId& volume : *cancelled) {
    std::erase(found->second.ready, volume);
    std::erase(found->second.waiting, volume);
    rewraps_.erase({id, volume});
    if (!queue_.leave(volume, id)) leave_queue(volume);
  }
  end_work_if_over(id);
  pace_rewraps();  // Another rewrap may take its places.
  return {};
}

Result<std::vector<VolumeId>> HostEngine::require_known(const std::vector<VolumeId>& ids) const {
  if (ids.empty()) return volumes_.ids();
  std::vector<VolumeId> known;
  std::set<VolumeId> seen;
  for (const VolumeId& id : ids) {
    if (volumes_.find(id) == nullptr) return fail(Reason::kNoSuchVolume, "no volume " + id.str());
    if (seen.insert(id).second) known.push_back(id);
  }
  return known;
}

Result<JobId> HostEngine::start_job(const std::vector<VolumeId>& ids, Work work) {
  std::vector<JobTable::Item> items;
  for (const VolumeId& id : ids) {
    const Volume* volume = volumes_.find(id);
    items.push_back({id, volume != nullptr ? volume->row.name : ""});
  }
  const bool cancelable = work.operation != "lock";
  const auto job = jobs_.add(work.operation, items, work.caller, cancelable);
  if (!job) return job;
  if (ids.empty()) {
    jobs_.end_job(*job, std::nullopt, "nothing to do");
    return job;
  }
  for (const VolumeId& id : ids) {
    if (queue_.push(id, *job)) work.ready.push_back(id);
  }
  works_.insert_or_assign(*job, std::move(work));
  // After the caller has its answer: the job's own signals come behind it.
  post([this, id = *job] { launch(id); });
  return job;
}

void HostEngine::launch(JobId job) {
  const auto found = works_.find(job);
  if (found == works_.end()) return;
  const std::vector<VolumeId> ready = std::exchange(found->second.ready, {});
  if (ready.empty()) return;
  for (const VolumeId& id : ready) jobs_.begin_item(job, id);
  // A copy: what cannot even begin ends its item, and the last one ends the work.
  const std::string operation = found->second.operation;
  if (operation == "unlock" || operation == "verify") return launch_batch(job, ready);
  for (const VolumeId& id : ready) {
    if (operation == "lock") {
      launch_lock(job, id);
    } else if (operation == "provision") {
      launch_provision(job, id);
    } else if (operation == "adopt") {
      launch_adopt(job, id);
    } else if (operation == "rewrap") {
      launch_rewrap(job, id);
    } else {
      launch_recover(job, id);
    }
  }
}

void HostEngine::finish_item(JobId job, const VolumeId& id, const JobTable::Outcome& outcome) {
  if (Volume* volume = volumes_.find(id)) volumes_.mark_changed(*volume);
  jobs_.end_item(job, id, outcome);
  leave_queue(id);
  end_work_if_over(job);
}

void HostEngine::leave_queue(const VolumeId& id) {
  const auto next = queue_.pop(id);
  if (!next) return;
  const auto found = works_.find(*next);
  if (found == works_.end()) return;
  found->second.ready.push_back(id);
  post([this, job = *next] { launch(job); });
}

void HostEngine::end_work_if_over(JobId job) {
  const auto info = jobs_.job(job);
  const bool over = !info || info->state > JobState::kRunning;
  const auto ended = over ? works_.extract(job) : decltype(works_)::node_type();
  if (ended.empty()) return;
  if (ended.mapped().operation == "rewrap") forget_rewrap(ended.mapped().rewrap);
  if (observer_ != nullptr) observer_->manager_changed();
  check_boot();
  request_refresh();
}

UnlockParts HostEngine::unlock_parts() const {
  return {parts_.worker, parts_.keyring, parts_.log, parts_.clock, parts_.host_id};
}

LifeParts HostEngine::life_parts() {
  return {.unlock = unlock_parts(),
          .registry = parts_.registry,
          .state_folder = parts_.config.state_folder,
          .boot_id = parts_.boot_id,
          .boot_deadline = parts_.config.boot_deadline,
          .unsettled = [this](const std::vector<CmkId>& keys) {
            post([this, keys] { settle_later(keys); });
          }};
}

LifeCall HostEngine::life_call(JobId job, const Caller& caller,
                               std::chrono::microseconds timeout) const {
  LifeCall call;
  call.actor = actor_of(caller);
  call.request_id = "job-" + std::to_string(job);
  call.reason_text = caller.reason;
  call.deadline = Deadline(parts_.clock.steady() + timeout);
  return call;
}

void HostEngine::print(int priority, const std::string& message, const VolumeId* volume,
                       const Error* error) const {
  LogEntry entry;
  entry.priority = priority;
  entry.message = message;
  if (volume != nullptr) entry.volume = *volume;
  if (error != nullptr) entry.error_name = std::string(error->name());
  parts_.print(entry);
}

void HostEngine::alert(const std::string& severity, const Error& error, const VolumeId& volume) {
  const Volume* found = volumes_.find(volume);
  const std::string name = found != nullptr ? found->row.name : volume.str();
  print(severity == "error" ? 3 : 4, name + ": " + error.str(), &volume, &error);
  if (observer_ == nullptr) return;
  observer_->alert(severity, error.reason(), volume.str(), name + ": " + error.message());
}

}  // namespace coffer::agent

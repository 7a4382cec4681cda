// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/sim_engine.h"

#include <algorithm>

namespace coffer::tests {

using agent::JobTable;
using agent::VolumeInfo;
using agent::VolumeState;

namespace {

constexpr std::size_t kAuditMax = 100'000;

JobTable::Limits limits_of(const SimEngine::Options& options) {
  JobTable::Limits limits;
  limits.jobs_max = options.jobs_max;
  limits.kept = options.jobs_kept;
  return limits;
}

std::string names_of(const std::vector<JobTable::Item>& items) {
  std::string names;
  for (const auto& item : items) {
    if (!names.empty()) names += ' ';
    names += item.name;
  }
  return names;
}

}  // namespace

SimEngine::SimEngine(ipc::EventLoop& loop, const Options& options)
    : loop_(loop), options_(options), jobs_(limits_of(options), system_clock()) {
  auto expiry = loop_.every(std::chrono::seconds(1), [this] { jobs_.expire(); });
  if (expiry) expiry_ = std::move(*expiry);
}

void SimEngine::set_observer(agent::EngineObserver* observer) {
  observer_ = observer;
  jobs_.set_observer(observer);
}

VolumeId SimEngine::add_volume(const std::string& name, VolumeState state) {
  VolumeInfo volume;
  volume.id = *VolumeId::random();
  volume.name = name;
  volume.device = "/dev/disk/by-id/virtio-" + name;
  volume.device_node = state == VolumeState::kAbsent ? "" : "/dev/sim-" + name;
  volume.mapped_name = "coffer-" + name;
  volume.state = state;
  volume.cipher = "aes-xts-plain64";
  volume.key_bits = 512;
  volume.sector_bytes = 4096;
  volume.size_bytes = std::uint64_t{1} << 30U;
  volume.metadata_bytes = 65536;
  volume.metadata_free_bytes = 58000;
  volume.header_copies = "both";
  volume.token_id = 0;
  volume.generation = 1;
  volume.origin = state == VolumeState::kUnlocked ? "hsm" : "none";
  if (!keys_.empty()) {
    auto& key = keys_.begin()->second;
    volume.keys.push_back({key.record.id, key.record.current().number, "local"});
    ++key.volume_count;
  }
  volumes_.emplace(volume.id, volume);
  if (observer_ != nullptr) observer_->volume_added(volume.id);
  return volume.id;
}

void SimEngine::remove_volume(const VolumeId& id) {
  if (volumes_.erase(id) > 0 && observer_ != nullptr) observer_->volume_removed(id);
}

void SimEngine::change_volume(const VolumeId& id, const std::function<void(VolumeInfo&)>& change) {
  auto& volume = volumes_.at(id);
  const auto before = volume.state;
  change(volume);
  if (observer_ != nullptr) observer_->volume_changed(id, before);
}

void SimEngine::fail_volume(const std::string& name, std::optional<Error> error) {
  failures_.erase(name);
  if (error) failures_.emplace(name, std::move(*error));
}

void SimEngine::release() {
  held_ = false;
  for (const auto& waiting : std::exchange(waiting_, {})) waiting();
}

void SimEngine::raise_alert(const std::string& severity, Reason reason, const std::string& object,
                            const std::string& text) {
  if (observer_ != nullptr) observer_->alert(severity, reason, object, text);
}

void SimEngine::later(std::function<void()> function) {
  if (held_) {
    waiting_.emplace_back([this, function] { later(function); });
    return;
  }
  const auto id = ++last_timer_;
  auto timer = loop_.after(options_.item_time, [this, id, function = std::move(function)] {
    // Before the call: what it starts may look at the table.
    const auto own = timers_.extract(id);
    function();
  });
  if (timer) timers_.emplace(id, std::move(*timer));
}

void SimEngine::effect(const std::string& what, const std::string& object,
                       const agent::Caller& caller) {
  effects_.push_back(object.empty() ? what : what + " " + object);
  last_caller_ = caller;
  if (audit_.size() == kAuditMax) return;
  audit_.push_back({audit_.size() + 1, system_clock().wall(),
                    static_cast<std::uint64_t>(system_clock().since_boot().count()), what, object,
                    "uid " + std::to_string(caller.uid) + " " + caller.reason});
  if (observer_ != nullptr) observer_->audit_recorded(audit_.size(), what, object);
}

agent::ManagerInfo SimEngine::manager() const {
  const auto count = [this](VolumeState state) {
    return static_cast<std::uint32_t>(
        std::count_if(volumes_.begin(), volumes_.end(),
                      [state](const auto& entry) { return entry.second.state == state; }));
  };
  return {.version = COFFER_VERSION,
          .features = {"unlock", "lock", "verify", "provision", "adopt", "forget", "keys", "audit"},
          .host_id = "00000000-0000-4000-8000-000000000001",
          .mode = "online",
          .volume_count = static_cast<std::uint32_t>(volumes_.size()),
          .unlocked_count = count(VolumeState::kUnlocked),
          .failed_count = count(VolumeState::kFailed),
          .boot_finished = wall_from_usec(1'700'000'000'000'000),
          .boot_unlock_duration = std::chrono::milliseconds(800)};
}

std::vector<VolumeInfo> SimEngine::volumes() const {
  std::vector<VolumeInfo> all;
  all.reserve(volumes_.size());
  for (const auto& [id, volume] : volumes_) all.push_back(volume);
  return all;
}

Result<VolumeInfo> SimEngine::volume(const VolumeId& id) const {
  const auto at = volumes_.find(id);
  if (at == volumes_.end()) return fail(Reason::kNoSuchVolume, "no volume " + id.str());
  return at->second;
}

Result<VolumeId> SimEngine::resolve(const std::string& spec) const {
  std::vector<VolumeId> found;
  for (const auto& [id, volume] : volumes_) {
    if (id.str() == spec || volume.name == spec || volume.device == spec ||
        (!spec.empty() && volume.device_node == spec))
      found.push_back(id);
  }
  if (found.empty()) return fail(Reason::kNoSuchVolume, "no volume " + spec);
  if (found.size() > 1) return fail(Reason::kAmbiguousVolume, "several volumes answer to " + spec);
  return found.front();
}

void SimEngine::set_state(VolumeInfo& volume, VolumeState state, const std::string& reason) {
  const auto before = std::exchange(volume.state, state);
  volume.state_reason = reason;
  if (observer_ != nullptr) observer_->volume_changed(volume.id, before);
}

Result<agent::JobId> SimEngine::start(const std::string& operation, std::vector<VolumeId> ids,
                                      VolumeState during, const agent::Caller& caller, Step step) {
  if (ids.empty()) {
    for (const auto& [id, volume] : volumes_) ids.push_back(id);
  }
  std::vector<JobTable::Item> items;
  for (const auto& id : ids) {
    const auto known = volume(id);
    if (!known) return tl::unexpected(known.error());
    items.push_back({id, known->name});
  }
  const auto job = jobs_.add(operation, items, caller, true);
  if (!job) return job;
  effect(operation, names_of(items), caller);
  later([this, id = *job, ids = std::move(ids), during, step = std::move(step)] {
    run_items(id, ids, during, step);
  });
  if (items.empty()) jobs_.end_job(*job, std::nullopt, "nothing to do");
  return job;
}

// One volume after the other, each taking item_time.
void SimEngine::run_items(agent::JobId job, std::vector<VolumeId> ids, VolumeState during,
                          Step step) {
  if (ids.empty() || jobs_.cancelled(job)) return;
  const auto id = ids.front();
  ids.erase(ids.begin());
  const auto at = volumes_.find(id);
  if (at != volumes_.end()) {
    jobs_.begin_item(job, id);
    if (during != at->second.state && during != VolumeState::kAbsent)
      set_state(at->second, during, "job " + std::to_string(job));
  }
  later([this, job, id, ids = std::move(ids), during, step = std::move(step)] {
    finish_item(job, id, step);
    run_items(job, ids, during, step);
  });
}

void SimEngine::finish_item(agent::JobId job, const VolumeId& id, const Step& step) {
  const auto at = volumes_.find(id);
  if (at == volumes_.end()) {
    jobs_.end_item(job, id,
                   JobTable::Outcome::failed(Error(Reason::kNoSuchVolume, "the volume is gone")));
    return;
  }
  auto& volume = at->second;
  const auto failure = failures_.find(volume.name);
  if (failure != failures_.end()) {
    volume.last_error = failure->second;
    set_state(volume, VolumeState::kFailed, failure->second.message());
    return jobs_.end_item(job, id, JobTable::Outcome::failed(failure->second));
  }
  auto outcome = step(volume);
  outcome.usable = options_.item_time;
  outcome.settled = options_.item_time * 2;
  jobs_.end_item(job, id, outcome);
}

Result<agent::JobId> SimEngine::unlock(const std::vector<VolumeId>& ids,
                                       const agent::UnlockOptions& options,
                                       const agent::Caller& caller) {
  if (options.dry_run)
    return start("unlock", ids, VolumeState::kAbsent, caller,
                 [](VolumeInfo&) { return JobTable::Outcome{.note = "would be opened"}; });
  for (const auto& id : ids) {
    const auto known = volume(id);
    if (options.strict && known && known->state == VolumeState::kUnlocked)
      return fail(Reason::kAlreadyUnlocked, "volume " + known->name + " is open");
  }
  return start("unlock", ids, VolumeState::kUnlocking, caller,
               [this, options](VolumeInfo& volume) -> JobTable::Outcome {
                 volume.last_error.reset();
                 volume.read_only = options.read_only;
                 volume.origin = "hsm";
                 volume.last_unlock = system_clock().wall();
                 volume.last_unlock_duration = options_.item_time;
                 set_state(volume, VolumeState::kUnlocked, "opened on request");
                 return {};
               });
}

Result<agent::JobId> SimEngine::lock(const std::vector<VolumeId>& ids, const agent::LockOptions&,
                                     const agent::Caller& caller) {
  return start("lock", ids, VolumeState::kLocking, caller,
               [this](VolumeInfo& volume) -> JobTable::Outcome {
                 volume.locked_by_admin = true;
                 volume.origin = "none";
                 set_state(volume, VolumeState::kLocked, "locked by an admin");
                 return {};
               });
}

Result<agent::JobId> SimEngine::verify(const std::vector<VolumeId>& ids,
                                       const agent::Caller& caller) {
  return start("verify", ids, VolumeState::kAbsent, caller, [](VolumeInfo&) {
    return JobTable::Outcome{.note = "header, token and profile agree"};
  });
}

Result<agent::JobId> SimEngine::start_on_device(const std::string& operation,
                                                const std::string& device, const std::string& name,
                                                bool automatic, const agent::Caller& caller) {
  const auto slash = device.rfind('/');
  const auto chosen = name.empty() ? device.substr(slash + 1) : name;
  if (resolve(chosen)) return fail(Reason::kNameTaken, "a volume is already called " + chosen);
  const auto placeholder = *VolumeId::random();
  const auto job = jobs_.add(operation, {{placeholder, chosen}}, caller, false);
  if (!job) return job;
  effect(operation, device, caller);
  later([this, job = *job, placeholder, chosen, device, automatic] {
    jobs_.begin_item(job, placeholder);
    const auto failure = failures_.find(device);
    if (failure != failures_.end())
      return jobs_.end_item(job, placeholder, JobTable::Outcome::failed(failure->second));
    const auto id = add_volume(chosen);
    change_volume(id, [&](VolumeInfo& volume) {
      volume.device = device;
      volume.automatic = automatic;
    });
    jobs_.rename_item(job, placeholder, {id, chosen});
    jobs_.end_item(job, id, {.usable = options_.item_time});
  });
  return job;
}

Result<agent::JobId> SimEngine::provision(const std::string& device,
                                          const agent::ProvisionOptions& options,
                                          const agent::Caller& caller) {
  for (const std::string& name : options.keys)
    if (!key(name)) return fail(Reason::kNoSuchKey, "no key " + name);
  if (options.threshold == 0 || options.threshold > std::max<std::size_t>(options.keys.size(), 1))
    return fail(Reason::kInvalidArgs, "a threshold above the number of keys");
  return start_on_device("provision", device, options.name, options.automatic, caller);
}

Result<agent::JobId> SimEngine::adopt(const std::string& device, const agent::AdoptOptions& options,
                                      const agent::Caller& caller) {
  return start_on_device("adopt", device, options.name, options.automatic, caller);
}

Result<agent::JobId> SimEngine::scan(const agent::Caller& caller) {
  const auto job = jobs_.add("scan", {}, caller, false);
  if (!job) return job;
  effect("scan", "", caller);
  later([this, id = *job] { jobs_.end_job(id, std::nullopt, "all devices were looked at"); });
  return job;
}

void SimEngine::forget(const VolumeId& id, const agent::Caller& caller, Done<void> done) {
  if (failed(done)) return;
  const auto known = volume(id);
  if (!known) return done(tl::unexpected(known.error()));
  if (known->state == VolumeState::kUnlocked)
    return done(fail(Reason::kBusy, "volume " + known->name + " is open"));
  effect("forget", known->name, caller);
  later([this, id, done = std::move(done)] {
    remove_volume(id);
    done({});
  });
}

std::vector<agent::JobInfo> SimEngine::jobs() const {
  return jobs_.jobs();
}
Result<agent::JobInfo> SimEngine::job(agent::JobId id) const {
  return jobs_.job(id);
}
Result<std::vector<agent::JobItem>> SimEngine::job_items(agent::JobId id) const {
  return jobs_.job_items(id);
}
Result<void> SimEngine::cancel(agent::JobId id, const agent::Caller& caller) {
  const auto cancelled = jobs_.cancel(id);
  if (!cancelled) return tl::unexpected(cancelled.error());
  effect("cancel", std::to_string(id), caller);
  return {};
}

void SimEngine::fail_provider(std::optional<Error> error) {
  provider_error_ = std::move(error);
  if (observer_ != nullptr) observer_->provider_changed("local");
}

std::vector<agent::ProviderInfo> SimEngine::providers() const {
  agent::ProviderInfo provider;
  provider.name = "local";
  provider.kind = "development";
  provider.state = "up";
  provider.detail = "simulated";
  provider.latency = std::chrono::microseconds(120);
  provider.algorithms = {"AES-256-GCM"};
  provider.token_kind = "software";
  if (provider_error_) {
    provider.state = "down";
    provider.last_error = provider_error_;
  }
  return {provider};
}

Result<agent::JobId> SimEngine::test_provider(const std::string& name,
                                              const agent::Caller& caller) {
  if (name != "local") return fail(Reason::kInvalidArgs, "no provider " + name);
  const auto job = jobs_.add("test-provider", {}, caller, false);
  if (!job) return job;
  effect("test-provider", name, caller);
  later([this, id = *job] { jobs_.end_job(id, std::nullopt, "the provider answered"); });
  return job;
}

agent::AuditHead SimEngine::audit_head() const {
  return {audit_.size(), Bytes(32, std::byte{0xA5})};
}

void SimEngine::audit_query(const agent::AuditFilter& filter, std::uint32_t count_max,
                            const agent::Caller&, Done<std::vector<agent::AuditEntry>> done) {
  if (failed(done)) return;
  std::vector<agent::AuditEntry> found;
  for (const auto& entry : audit_) {
    const bool wanted = entry.sequence >= filter.from_sequence &&
                        (filter.to_sequence == 0 || entry.sequence <= filter.to_sequence) &&
                        (!filter.since || entry.time >= *filter.since) &&
                        (!filter.until || entry.time <= *filter.until) &&
                        (!filter.object || filter.object->str() == entry.object) &&
                        (!filter.operation || *filter.operation == entry.event);
    if (wanted && found.size() < count_max) found.push_back(entry);
  }
  later([found = std::move(found), done = std::move(done)] { done(found); });
}

void SimEngine::audit_verify(std::uint64_t, std::uint64_t, const agent::Caller&,
                             Done<agent::AuditVerdict> done) {
  if (failed(done)) return;
  later([this, done = std::move(done)] {
    done(agent::AuditVerdict{true, 0, std::to_string(audit_.size()) + " records, chain unbroken"});
  });
}

void SimEngine::record_refusal(const std::string& operation, const std::string& object,
                               const Error& error, const agent::Caller& caller) {
  if (refusals_.size() < kAuditMax)
    refusals_.push_back({operation, object, error.reason(), caller});
}

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
// Providers and the audit trail: calls that end in a callback.
#include <algorithm>

#include "agent/host_engine.h"
#include "agent/host_engine_pool.h"
#include "agent/key_trial.h"
#include "core/keyring/key_trial.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kQueryMax = 10'000;

audit::Filter filter_of(const AuditFilter& wanted) {
  audit::Filter filter;
  filter.from_sequence = wanted.from_sequence;
  filter.to_sequence = wanted.to_sequence;
  filter.from_time = wanted.since;
  filter.to_time = wanted.until;
  filter.object = wanted.object;
  if (wanted.operation) filter.operation = *wanted.operation;
  filter.uid = wanted.uid;
  return filter;
}

std::string line_of(const audit::Event& event) {
  std::string line(audit::origin_name(event.actor.origin));
  if (event.actor.uid) line += " uid " + std::to_string(*event.actor.uid);
  if (!event.request_id.empty()) line += " " + event.request_id;
  if (!event.outcome.empty()) line += " " + event.outcome;
  if (!event.text.empty()) line += ": " + event.text;
  return line;
}

AuditEntry entry_of(const audit::Record& record) {
  AuditEntry entry;
  entry.sequence = record.sequence;
  entry.time = record.wall;
  entry.boot_usec = static_cast<std::uint64_t>(record.since_boot.count());
  entry.event = std::string(audit::kind_name(record.event.kind)) + " " + record.event.operation;
  if (record.event.volume) {
    entry.object = record.event.volume->str();
  } else if (record.event.cmk) {
    entry.object = record.event.cmk->str();
  }
  entry.text = line_of(record.event);
  return entry;
}

Result<std::vector<AuditEntry>> query(audit::AuditLog& log, audit::Filter filter,
                                      std::size_t count_max) {
  std::vector<AuditEntry> entries;
  while (entries.size() < count_max) {
    const auto page = log.query(filter, count_max - entries.size());
    if (!page) return tl::unexpected(page.error());
    for (const audit::Record& record : page->records) entries.push_back(entry_of(record));
    if (page->next_sequence == 0) break;
    filter.from_sequence = page->next_sequence;
  }
  return entries;
}

audit::Event refusal_event(const std::string& operation, const Error& error, const Caller& caller) {
  audit::Event event;
  event.kind = audit::Kind::kRefused;
  event.actor = actor_of(caller);
  event.operation = operation;
  event.outcome = std::string(error.name());
  return event;
}

}  // namespace

std::vector<ProviderInfo> HostEngine::providers() const {
  return {provider_.info()};
}

Result<JobId> HostEngine::test_provider(const std::string& name, const Caller& caller) {
  if (name != provider_.info().name) {
    return fail(Reason::kInvalidArgs, "no provider \"" + printable(name, 64) + "\"");
  }
  const auto job = jobs_.add("test-provider", {}, caller, false);
  if (!job) return job;
  struct Trial {
    keyring::VaultHealth health;
    Result<std::chrono::microseconds> taken = fail(Reason::kHsmAbsent, "not tried");
  };
  run_beside(
      use_pool_,
      [this, key = choose_trial_key(keys_), actor = actor_of(caller)] {
        Trial trial;
        trial.health = parts_.vault.health();
        if (trial.health.state != keyring::VaultState::kUp) return trial;
        trial.taken =
            key ? keyring::try_key(parts_.keyring, *key, parts_.host_id, actor, parts_.clock)
                : Result<std::chrono::microseconds>(tl::unexpected(key.error()));
        return trial;
      },
      [this, id = *job](const Trial& trial) {
        const bool came_up = provider_.take(trial.health);
        const ProviderInfo& info = provider_.info();
        if (provider_.up() && !trial.taken) {
          jobs_.end_job(id, trial.taken.error(), "");
        } else {
          jobs_.end_job(
              id, info.last_error,
              "wrapped and unwrapped a key in " +
                  std::to_string(trial.taken.value_or(std::chrono::microseconds(0)).count()) +
                  " us: " + info.detail);
        }
        if (observer_ != nullptr) observer_->provider_changed(info.name);
        if (came_up) retry_after_return();
      },
      [this, id = *job](const Error& error) { jobs_.end_job(id, error, ""); });
  return job;
}

// Appends end on many threads: an older head may come behind a newer one.
void HostEngine::take_head(const audit::Head& head) {
  if (head.sequence < audit_head_.sequence) return;
  audit_head_ = {head.sequence, Bytes(head.hash.begin(), head.hash.end())};
}

void HostEngine::audit_query(const AuditFilter& filter, std::uint32_t count_max,
                             const Caller& /*caller*/, Done<std::vector<AuditEntry>> done) {
  const std::size_t most = std::min<std::size_t>(count_max, kQueryMax);
  run_beside(
      pool_, [this, wanted = filter_of(filter), most] { return query(parts_.log, wanted, most); },
      [done](Result<std::vector<AuditEntry>> entries) { done(std::move(entries)); },
      [done](const Error& error) { done(tl::unexpected(error)); });
}

void HostEngine::audit_verify(std::uint64_t from_sequence, std::uint64_t to_sequence,
                              const Caller& /*caller*/, Done<AuditVerdict> done) {
  run_beside(
      pool_,
      [this, from_sequence, to_sequence]() -> Result<AuditVerdict> {
        const auto report = parts_.log.verify(from_sequence, to_sequence);
        if (!report) return tl::unexpected(report.error());
        AuditVerdict verdict;
        verdict.ok = report->intact;
        verdict.bad_sequence = report->bad_sequence;
        verdict.text =
            report->intact ? std::to_string(report->records) + " records hold" : report->problem;
        return verdict;
      },
      [done](const Result<AuditVerdict>& verdict) { done(verdict); },
      [done](const Error& error) { done(tl::unexpected(error)); });
}

void HostEngine::record_refusal(const std::string& operation, const std::string& object,
                                const Error& error, const Caller& caller) {
  if (!refusals_.take({operation, error, caller})) return;
  audit::Event event = refusal_event(operation, error, caller);
  if (const auto id = VolumeId::parse(object); id && volumes_.find(*id) != nullptr) {
    event.volume = *id;
  } else if (const auto key = CmkId::parse(object); key && keys_.contains(*key)) {
    event.cmk = *key;
  }
  event.text = (object.empty() ? "" : printable(object, 200) + ": ") + error.message();
  run_beside(
      pool_,
      [this, event] {
        static_cast<void>(parts_.log.append_one_kept(event));
        return true;
      },
      [](bool) {}, [this, event](const Error&) { parts_.log.append_deferred(event); });
}

void HostEngine::record_refused(const KeyCall& call, const Error& error, std::uint32_t version) {
  audit::Event event = refusal_event(call.operation, error, call.caller);
  if (!call.keys.empty()) event.cmk = call.keys.front();
  event.cmk_version = version;
  event.text = error.message();
  static_cast<void>(parts_.log.append_one_kept(event));
}

// One record per user stands for the refusals that were over the limit. None of them waits for the
// disk: whoever is refused that often waits for nothing.
void HostEngine::record_floods() {
  for (const RefusalCounter::Flood& flood : refusals_.end_period()) {
    audit::Event event = refusal_event(flood.last.operation, flood.last.error, flood.last.caller);
    if (flood.many_users) event.actor.uid.reset();
    event.text = std::to_string(flood.count) + " further refusals of " +
                 (flood.many_users ? "several users" : "this user") +
                 ", not recorded one by one; this is the last";
    parts_.log.append_deferred(event);
  }
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "agent/engine_types.h"
#include "agent/key_engine.h"

namespace coffer::agent {

// EngineObserver hears of every change, on the event loop, after the state returned by Engine has
// already changed. It calls nothing that changes the engine.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void volume_added(const VolumeId& id) = 0;
  virtual void volume_changed(const VolumeId& id, VolumeState before) = 0;
  virtual void volume_removed(const VolumeId& id) = 0;
  virtual void job_added(JobId id) = 0;
  virtual void job_changed(JobId id) = 0;
  virtual void job_item_done(JobId id, const JobItem& item) = 0;
  virtual void job_completed(JobId id) = 0;
  virtual void job_removed(JobId id) = 0;  // A minute after it completed.
  virtual void key_added(const CmkId& id) = 0;
  virtual void key_changed(const CmkId& id) = 0;
  virtual void key_removed(const CmkId& id) = 0;  // It was destroyed.
  virtual void provider_changed(const std::string& name) = 0;
  virtual void manager_changed() = 0;
  virtual void audit_recorded(std::uint64_t sequence, const std::string& event,
                              const std::string& object) = 0;
  virtual void alert(const std::string& severity, Reason reason, const std::string& object,
                     const std::string& text) = 0;
};

// Engine is everything the agent can do, in values: the seam between D-Bus and the machinery. The
// host engine (agent/host_engine.h) drives the vault, the worker and the disks; the simulated one
// (tests/fakes/sim_engine.h) lets the whole D-Bus layer run anywhere.
//
// Bound to the event loop; no call blocks. Reads answer at once. Work on volumes becomes a job,
// whose id is returned once its volumes are found and its place in the queue is taken; each volume
// then has its own result in the job. Work on keys and audit is handed to a `Done` callback, on the
// loop.
class Engine : public KeyEngine {
 public:
  virtual void set_observer(EngineObserver* observer) = 0;  // Not owned; null to end it.

  virtual ManagerInfo manager() const = 0;
  virtual std::vector<VolumeInfo> volumes() const = 0;
  virtual Result<VolumeInfo> volume(const VolumeId& id) const = 0;  // kNoSuchVolume
  // A UUID, a name or a device path. kNoSuchVolume, kAmbiguousVolume.
  virtual Result<VolumeId> resolve(const std::string& spec) const = 0;

  // kNoSuchVolume and kAmbiguousVolume name the first spec that is wrong, and no job is made;
  // kLimitsExceeded: too many jobs or volumes. An empty list means every volume.
  virtual Result<JobId> unlock(const std::vector<VolumeId>& ids, const UnlockOptions& options,
                               const Caller& caller) = 0;
  virtual Result<JobId> lock(const std::vector<VolumeId>& ids, const LockOptions& options,
                             const Caller& caller) = 0;
  // Reads headers again and compares them with registry, profile and digest. Opens nothing.
  virtual Result<JobId> verify(const std::vector<VolumeId>& ids, const Caller& caller) = 0;
  virtual Result<JobId> provision(const std::string& device, const ProvisionOptions& options,
                                  const Caller& caller) = 0;
  virtual Result<JobId> adopt(const std::string& device, const AdoptOptions& options,
                              const Caller& caller) = 0;
  // Looks at all devices again, and opens what should be open.
  virtual Result<JobId> scan(const Caller& caller) = 0;
  // Drops the registry entry of a locked or absent volume; its device is not touched. kBusy: open.
  virtual void forget(const VolumeId& id, const Caller& caller, Done<void> done) = 0;

  virtual std::vector<JobInfo> jobs() const = 0;
  virtual Result<JobInfo> job(JobId id) const = 0;  // kNoSuchJob
  virtual Result<std::vector<JobItem>> job_items(JobId id) const = 0;
  // Items not yet begun end as "cancelled"; begun ones finish. kNoSuchJob.
  virtual Result<void> cancel(JobId id, const Caller& caller) = 0;

  virtual std::vector<ProviderInfo> providers() const = 0;
  virtual Result<JobId> test_provider(const std::string& name, const Caller& caller) = 0;

  virtual AuditHead audit_head() const = 0;  // From memory, kept current.
  virtual void audit_query(const AuditFilter& filter, std::uint32_t count_max, const Caller& caller,
                           Done<std::vector<AuditEntry>> done) = 0;
  virtual void audit_verify(std::uint64_t from_sequence, std::uint64_t to_sequence,
                            const Caller& caller, Done<AuditVerdict> done) = 0;
  // Records that `caller` was refused `operation` before it reached the engine.
  virtual void record_refusal(const std::string& operation, const std::string& object,
                              const Error& error, const Caller& caller) = 0;
};

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <chrono>
#include <map>
#include <set>
#include <string>

#include "agent/engine.h"
#include "core/ipc/event_loop.h"

namespace coffer::dbus {

// ChangeSignals tells the bus what the engine tells it: objects that come and go at once, the
// signals with meaning of their own (StateChanged, ItemDone, Completed, Alert) at once, and
// changed properties. Counters of the manager and of jobs go out at most once in 100 ms each, so
// that a job over a thousand volumes does not flood the bus; what changed last always goes out.
//
// Bound to the event loop and to one connection, which it does not own.
class ChangeSignals final : public agent::EngineObserver {
 public:
  static constexpr std::chrono::milliseconds kCoalesce{100};

  ChangeSignals(sd_bus* bus, agent::Engine& engine, ipc::EventLoop& loop);
  ~ChangeSignals() override;
  ChangeSignals(const ChangeSignals&) = delete;
  ChangeSignals& operator=(const ChangeSignals&) = delete;

  void volume_added(const VolumeId& id) override;
  void volume_changed(const VolumeId& id, agent::VolumeState before) override;
  void volume_removed(const VolumeId& id) override;
  void job_added(agent::JobId id) override;
  void job_changed(agent::JobId id) override;
  void job_item_done(agent::JobId id, const agent::JobItem& item) override;
  void job_completed(agent::JobId id) override;
  void job_removed(agent::JobId id) override;
  void key_added(const CmkId& id) override;
  void key_changed(const CmkId& id) override;
  void key_removed(const CmkId& id) override;
  void provider_changed(const std::string& name) override;
  void manager_changed() override;
  void audit_recorded(std::uint64_t sequence, const std::string& event,
                      const std::string& object) override;
  void alert(const std::string& severity, Reason reason, const std::string& object,
             const std::string& text) override;

 private:
  struct EndedJob {
    std::string operation;
    std::string result;
  };
  void tell_volumes_of(const CmkId& id);
  void tell_users_of(const CmkId& id);
  void mark_manager();
  void mark_job(agent::JobId id);
  void arm();
  void flush();
  void emit_manager();
  void emit_job(agent::JobId id);

  sd_bus* bus_;
  agent::Engine& engine_;
  ipc::EventLoop& loop_;
  ipc::EventSource timer_;
  bool armed_ = false;
  bool manager_dirty_ = false;
  bool jobs_came_or_went_ = false;
  std::set<agent::JobId> jobs_dirty_;
  std::map<VolumeId, agent::VolumeInfo> volumes_;  // As last told.
  std::map<agent::JobId, EndedJob> jobs_;          // For JobRemoved, when the engine forgot it.
  std::map<CmkId, keyring::KeyState> key_states_;  // As last told.
  agent::ManagerInfo manager_;                     // As last told.
};

}  // namespace coffer::dbus

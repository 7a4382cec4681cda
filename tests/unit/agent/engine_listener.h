// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "agent/engine.h"

namespace coffer::tests {

// Hears of keys and of alerts; of the rest nothing.
class EngineListener final : public agent::EngineObserver {
 public:
  struct Alert {
    Reason reason;
    std::string object;
    std::string text;
  };

  void volume_added(const VolumeId&) override {}
  void volume_changed(const VolumeId&, agent::VolumeState) override {}
  void volume_removed(const VolumeId&) override {}
  void job_added(agent::JobId) override {}
  void job_changed(agent::JobId) override {}
  void job_item_done(agent::JobId, const agent::JobItem&) override {}
  void job_completed(agent::JobId) override {}
  void job_removed(agent::JobId) override {}
  void key_added(const CmkId&) override {}
  void key_changed(const CmkId& id) override { changed.push_back(id); }
  void key_removed(const CmkId& id) override { removed.push_back(id); }
  void provider_changed(const std::string&) override {}
  void manager_changed() override {}
  void audit_recorded(std::uint64_t, const std::string&, const std::string&) override {}
  void alert(const std::string&, Reason reason, const std::string& object,
             const std::string& text) override {
    alerts.push_back({reason, object, text});
  }

  std::vector<CmkId> changed;
  std::vector<CmkId> removed;
  std::vector<Alert> alerts;
};

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "agent/host_engine.h"
#include "core/keyring/keyring.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_audit.h"
#include "tests/fakes/fake_device_watch.h"
#include "tests/fakes/fake_worker.h"
#include "tests/fakes/flaky_vault.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {

// A host in memory: disks, worker, token and journal outlive the agent on it, which start() and
// stop() begin and end as a crash or restart would.
class EngineFixture : public ::testing::Test {
 protected:
  void SetUp() override;
  void TearDown() override;

  void start();
  void stop();

  // A disk with a serial, seen by udev and by the worker.
  std::string plug(const std::string& name);
  void unplug(const std::string& name);

  // Runs the loop until `done`; fails the test when it takes too long.
  bool run_until(const std::function<bool()>& done);
  // Runs the loop until the agent has done all it does by itself.
  void run_until_idle();
  agent::JobInfo finish(const Result<agent::JobId>& job);
  std::optional<Error> error_of(const Result<agent::JobId>& job);

  VolumeId provision(const std::string& disk, const std::string& name,
                     agent::ProvisionOptions options = {});
  agent::VolumeInfo volume(const VolumeId& id) { return engine->volume(id).value(); }
  agent::VolumeState state(const VolumeId& id) { return volume(id).state; }

  // Changes a key and waits for its end.
  Result<void> change_key(const CmkId& id, const keyring::CmkChange& change, bool force = false);
  CmkId key_id() { return engine->key("default")->record.id; }

  static agent::Caller admin();

  agent::EngineObserver* observer = nullptr;  // Of the next start().
  std::vector<agent::LogEntry> printed;

  std::filesystem::path folder;
  std::unique_ptr<ipc::EventLoop> loop;
  FakeWorker worker;
  FakeDeviceWatch watch;
  FakeAudit audit;
  audit::AuditLog* journal = &audit;     // Of the next start().
  const Clock* clock = &system_clock();  // Set before SetUp() for another one.
  agent::Config config;
  std::function<std::unique_ptr<keyring::KeyStore>()> make_store;  // Of start(); null: on disk.
  std::string boot_id = "boot-1";
  std::string host_id = "11111111-2222-4333-8444-555555555555";

  std::unique_ptr<keyring::KeyVault> token;
  std::unique_ptr<FlakyVault> vault;
  std::unique_ptr<keyring::KeyStore> store;
  std::unique_ptr<agent::ObservedLog> log;
  std::unique_ptr<keyring::Keyring> keyring;
  std::unique_ptr<agent::Registry> registry;
  std::unique_ptr<agent::HostEngine> engine;
};

}  // namespace coffer::tests

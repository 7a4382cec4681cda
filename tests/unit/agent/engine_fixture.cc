// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/agent/engine_fixture.h"

#include <cstdlib>

namespace coffer::tests {

using agent::Caller;
using agent::JobId;
using agent::JobInfo;
using agent::JobState;

void EngineFixture::SetUp() {
  std::string path = (std::filesystem::temp_directory_path() / "coffer-engine-XXXXXX").string();
  ASSERT_NE(::mkdtemp(path.data()), nullptr);
  folder = path;
  loop = ipc::EventLoop::make().value();
  config.state_folder = folder.string();
  config.retry_min = std::chrono::seconds(0);
  config.retry_max = std::chrono::seconds(0);
  config.boot_device_wait = std::chrono::seconds(0);
  token = hsm::open_development_vault({}, worker, *clock).value();
  vault = std::make_unique<FlakyVault>(*token);
  start();
  bool made = false;
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  engine->create_key(parameters, admin(), [&](const Result<agent::KeyInfo>& key) {
    EXPECT_THAT(key, Succeeds());
    made = true;
  });
  ASSERT_TRUE(run_until([&] { return made; }));
}

void EngineFixture::TearDown() {
  stop();
  std::error_code error;
  std::filesystem::remove_all(folder, error);
}

void EngineFixture::start() {
  store = make_store ? make_store()
                     : keyring::open_sqlite_key_store((folder / "keyring.db").string()).value();
  registry = agent::Registry::open((folder / "registry.db").string()).value();
  log = std::make_unique<agent::ObservedLog>(*journal);
  keyring =
      std::make_unique<keyring::Keyring>(keyring::Keyring::Parts{*vault, *store, *log, *clock});
  agent::HostEngine::Parts parts{
      .loop = *loop,
      .worker = worker,
      .keyring = *keyring,
      .vault = *vault,
      .log = *log,
      .registry = *registry,
      .watch = watch,
      .clock = *clock,
      .config = config,
      .host_id = host_id,
      .boot_id = boot_id,
      .version = "test",
      .print = [this](const agent::LogEntry& entry) { printed.push_back(entry); }};
  parts.tick = std::chrono::milliseconds(10);
  engine = agent::HostEngine::make(std::move(parts)).value();
  engine->set_observer(observer);
  engine->start();
}

void EngineFixture::stop() {
  engine.reset();
  keyring.reset();
  log.reset();
  registry.reset();
  store.reset();
}

std::string EngineFixture::plug(const std::string& name) {
  const std::string node = "/dev/" + name;
  if (!worker.disks().contains(node)) worker.plug(node);
  agent::Disk disk;
  disk.node = node;
  disk.kernel_name = name;
  disk.major = 252;
  disk.minor = worker.disk(node).identity.minor;
  disk.serial = "serial-" + name;
  disk.links = {"/dev/disk/by-id/virtio-" + name};
  watch.plug(disk);
  return node;
}

void EngineFixture::unplug(const std::string& name) {
  worker.unplug("/dev/" + name);
  watch.unplug("/dev/" + name);
}

bool EngineFixture::run_until(const std::function<bool()>& done) {
  const Deadline deadline = Deadline::after(std::chrono::seconds(20));
  while (!done()) {
    if (deadline.passed()) {
      ADD_FAILURE() << "it did not happen within 20 s";
      return false;
    }
    EXPECT_THAT(loop->run_once(std::chrono::milliseconds(5)), Succeeds());
  }
  return true;
}

void EngineFixture::run_until_idle() {
  run_until([&] { return engine->boot_status().finished; });
  const auto scanned = engine->scan(
      {.uid = 0, .bus_name = {}, .origin = "daemon", .polkit_action = {}, .reason = {}});
  finish(scanned);
  run_until([&] {
    for (const JobInfo& job : engine->jobs()) {
      if (job.state <= JobState::kRunning) return false;
    }
    return true;
  });
}

JobInfo EngineFixture::finish(const Result<JobId>& job) {
  EXPECT_THAT(job, Succeeds());
  if (!job) return {};
  run_until([&] { return engine->job(*job)->state > JobState::kRunning; });
  return *engine->job(*job);
}

std::optional<Error> EngineFixture::error_of(const Result<JobId>& job) {
  finish(job);
  const auto items = engine->job_items(*job);
  EXPECT_EQ(items->size(), 1U);
  return items->front().error;
}

VolumeId EngineFixture::provision(const std::string& disk, const std::string& name,
                                  agent::ProvisionOptions options) {
  options.name = name;
  const auto job = engine->provision(disk, options, admin());
  const JobInfo info = finish(job);
  EXPECT_EQ(info.state, JobState::kDone) << info.message;
  return info.volumes.empty() ? VolumeId(Uuid()) : info.volumes.front();
}

Result<void> EngineFixture::change_key(const CmkId& id, const keyring::CmkChange& change,
                                       bool force) {
  std::optional<Result<void>> ended;
  engine->change_key(id, {change, force}, admin(), [&](Result<void> done) { ended = done; });
  run_until([&] { return ended.has_value(); });
  return ended.value_or(fail(Reason::kTimedOut, "the change did not end"));
}

Caller EngineFixture::admin() {
  Caller caller;
  caller.bus_name = ":1.7";
  caller.origin = "dbus";
  return caller;
}

}  // namespace coffer::tests

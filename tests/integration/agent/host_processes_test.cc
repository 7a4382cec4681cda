// SPDX-License-Identifier: Apache-2.0
// The host engine over the real processes: coffer-vault on SoftHSM, coffer-worker, coffer-reader
// and the audit journal, on files in place of disks. What needs device-mapper is tested in the
// machine.
#include <gtest/gtest.h>
#include <stdlib.h>  // NOLINT(modernize-deprecated-headers): mkdtemp.

#include <csignal>
#include <filesystem>
#include <fstream>

#include "agent/host_engine.h"
#include "agent/worker/worker_client.h"
#include "core/audit/journal.h"
#include "tests/fakes/fake_device_watch.h"
#include "tests/support/listening_process.h"
#include "tests/support/paths.h"
#include "tests/support/result_matchers.h"
#include "tests/support/softhsm.h"
#include "tests/support/vault_process.h"

namespace coffer::tests {
namespace {

using agent::JobInfo;
using agent::JobState;
using ::testing::HasSubstr;

constexpr std::uintmax_t kDiskBytes = std::uintmax_t{24} << 20U;

class HostProcessesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
    std::string made = "/dev/shm/coffer-host-XXXXXX";
    if (::mkdtemp(made.data()) == nullptr) GTEST_SKIP() << "/dev/shm cannot be written";
    folder = made;
    loop = ipc::EventLoop::make().value();
    ASSERT_THAT(token.make_token(softhsm_module_path(), "host"), Succeeds());
    VaultProcess::Options options;
    options.folder = &token;
    options.label = "host";
    options.deliver_socket = path("deliver.sock");
    auto started = VaultProcess::start(options);
    ASSERT_THAT(started, Succeeds());
    vault = std::move(*started);
    reader = std::make_unique<ListeningProcess>(
        std::vector<std::string>{(bin_dir() / "coffer-reader").string(), "--socket",
                                 path("reader.sock")},
        path("reader.sock"));
    ASSERT_THAT(reader->start(), Succeeds());
    worker_process = std::make_unique<ListeningProcess>(
        std::vector<std::string>{(bin_dir() / "coffer-worker").string(), "--control",
                                 path("worker.sock"), "--deliver", path("deliver.sock"), "--reader",
                                 path("reader.sock"), "--marks", path("dm"), "--allow-files"},
        path("worker.sock"));
    ASSERT_THAT(worker_process->start(), Succeeds());
    worker = agent::make_worker_client(path("worker.sock"));
    config.state_folder = folder.string();
    config.boot_device_wait = std::chrono::seconds(0);
    config.retry_min = std::chrono::seconds(0);
    start();
  }

  void TearDown() override {
    stop();
    worker.reset();
    std::error_code error;
    if (!folder.empty()) std::filesystem::remove_all(folder, error);
  }

  std::string path(const std::string& name) const { return (folder / name).string(); }

  void start() {
    store = keyring::open_sqlite_key_store(path("keyring.db")).value();
    registry = agent::Registry::open(path("registry.db")).value();
    journal = audit::Journal::open(path("audit"), {.node = host}).value();
    log = std::make_unique<agent::ObservedLog>(*journal);
    keyring = std::make_unique<keyring::Keyring>(
        keyring::Keyring::Parts{vault->client(), *store, *log, system_clock()});
    agent::HostEngine::Parts parts{.loop = *loop,
                                   .worker = *worker,
                                   .keyring = *keyring,
                                   .vault = vault->client(),
                                   .log = *log,
                                   .registry = *registry,
                                   .watch = watch,
                                   .clock = system_clock(),
                                   .config = config,
                                   .host_id = host.str(),
                                   .boot_id = "boot",
                                   .version = "test"};
    parts.tick = std::chrono::milliseconds(20);
    engine = agent::HostEngine::make(std::move(parts)).value();
    engine->start();
  }
  void stop() {
    engine.reset();
    keyring.reset();
    log.reset();
    journal.reset();
    registry.reset();
    store.reset();
  }

  bool run_until(const std::function<bool()>& done) {
    const Deadline deadline = Deadline::after(std::chrono::seconds(60));
    while (!done()) {
      if (deadline.passed()) {
        ADD_FAILURE() << "it did not happen within a minute";
        return false;
      }
      EXPECT_THAT(loop->run_once(std::chrono::milliseconds(10)), Succeeds());
    }
    return true;
  }
  JobInfo finish(const Result<agent::JobId>& job) {
    EXPECT_THAT(job, Succeeds());
    if (!job) return {};
    run_until([&] { return engine->job(*job)->state > JobState::kRunning; });
    return *engine->job(*job);
  }
  agent::JobItem item_of(const Result<agent::JobId>& job) {
    finish(job);
    return engine->job_items(*job)->front();
  }

  std::string plug(const std::string& name) {
    const std::string node = path(name);
    std::ofstream(node).close();
    std::filesystem::resize_file(node, kDiskBytes);
    agent::Disk disk;
    disk.node = node;
    disk.kernel_name = name;
    disk.serial = "serial-" + name;
    watch.plug(disk);
    return node;
  }
  void create_key() {
    bool made = false;
    keyring::CmkParameters parameters;
    parameters.alias = "default";
    engine->create_key(parameters, admin(), [&](const Result<agent::KeyInfo>& key) {
      EXPECT_THAT(key, Succeeds());
      made = true;
    });
    run_until([&] { return made; });
  }
  static agent::Caller admin() {
    agent::Caller caller;
    caller.bus_name = ":1.1";
    caller.origin = "dbus";
    return caller;
  }

  std::filesystem::path folder;
  SoftHsmFolder token;
  HostId host = HostId::random().value();
  std::unique_ptr<ipc::EventLoop> loop;
  std::unique_ptr<VaultProcess> vault;
  std::unique_ptr<ListeningProcess> reader;
  std::unique_ptr<ListeningProcess> worker_process;
  std::unique_ptr<agent::Worker> worker;
  FakeDeviceWatch watch;
  agent::Config config;
  std::unique_ptr<keyring::KeyStore> store;
  std::unique_ptr<agent::Registry> registry;
  std::unique_ptr<audit::Journal> journal;
  std::unique_ptr<agent::ObservedLog> log;
  std::unique_ptr<keyring::Keyring> keyring;
  std::unique_ptr<agent::HostEngine> engine;
};

TEST_F(HostProcessesTest, AVolumeIsMadeVerifiedAndAdoptedThroughTheRealProcesses) {
  create_key();
  const std::string node = plug("disk0");
  const auto made = item_of(engine->provision(node, {.name = "data"}, admin()));
  ASSERT_EQ(made.result, "done") << made.error->str();
  const VolumeId id = made.volume;
  EXPECT_EQ(registry->find(id)->state, agent::RowState::kReady);

  // The key travels from the token through the vault to the worker and proves the header.
  const auto verified = item_of(engine->verify({id}, admin()));
  EXPECT_EQ(verified.result, "done") << verified.error->str();

  const auto again = item_of(engine->provision(node, {.name = "other"}, admin()));
  EXPECT_EQ(again.error->reason(), Reason::kForeignData);

  stop();
  for (const char* name : {"registry.db", "registry.db-wal", "registry.db-shm", "keyring.db",
                           "keyring.db-wal", "keyring.db-shm"}) {
    std::filesystem::remove(path(name));
  }
  start();
  const auto adopted = item_of(engine->adopt(node, {}, admin()));
  EXPECT_EQ(adopted.result, "done") << adopted.error->str();
  EXPECT_EQ(adopted.volume, id);
  EXPECT_EQ(item_of(engine->verify({id}, admin())).error->reason(), Reason::kKeyDisabled);

  bool enabled = false;
  engine->change_key(engine->key("default")->record.id, {keyring::CmkChange::kEnable}, admin(),
                     [&](const Result<void>& done) {
                       EXPECT_THAT(done, Succeeds());
                       enabled = true;
                     });
  run_until([&] { return enabled; });
  EXPECT_EQ(item_of(engine->verify({id}, admin())).result, "done");

  std::optional<Result<agent::AuditVerdict>> verdict;
  engine->audit_verify(0, 0, admin(),
                       [&](Result<agent::AuditVerdict> found) { verdict = std::move(found); });
  run_until([&] { return verdict.has_value(); });
  ASSERT_THAT(*verdict, Succeeds());
  EXPECT_TRUE((*verdict)->ok) << (*verdict)->text;
}

// Each share travels from the token through the vault to the worker, which puts them together.
TEST_F(HostProcessesTest, AVolumeOfSeveralKeysOpensWithAsManyAsItNeeds) {
  const audit::Actor actor;
  const std::vector<std::string> names{"one", "two", "three"};
  std::vector<CmkId> keys;
  for (const std::string& name : names) {
    keyring::CmkParameters parameters;
    parameters.alias = name;
    const auto made = keyring->create(parameters, actor);
    ASSERT_THAT(made, Succeeds());
    keys.push_back(made->id);
  }
  const auto two = item_of(
      engine->provision(plug("disk0"), {.name = "two", .keys = names, .threshold = 2}, admin()));
  ASSERT_EQ(two.result, "done") << two.error->str();
  const auto any =
      item_of(engine->provision(plug("disk1"), {.name = "any", .keys = names}, admin()));
  ASSERT_EQ(any.result, "done") << any.error->str();
  const auto disable = [&](const CmkId& key) {
    ASSERT_THAT(keyring->disable(key, actor, keyring::WhenBound::kGoOn), Succeeds());
  };
  EXPECT_EQ(item_of(engine->verify({two.volume}, admin())).result, "done");
  disable(keys[0]);
  for (const VolumeId& id : {two.volume, any.volume}) {
    const auto verified = item_of(engine->verify({id}, admin()));
    EXPECT_EQ(verified.result, "done") << verified.error->str();
    EXPECT_THAT(verified.note, HasSubstr(keys[0].str()));
  }
  disable(keys[2]);
  const auto closed = item_of(engine->verify({two.volume}, admin()));
  ASSERT_TRUE(closed.error);
  EXPECT_EQ(closed.error->reason(), Reason::kThresholdNotMet);
  EXPECT_EQ(item_of(engine->verify({any.volume}, admin())).result, "done");
}

TEST_F(HostProcessesTest, EachProcessMayBeKilledAndTheNextCallCompletes) {
  create_key();
  const auto made = item_of(engine->provision(plug("disk0"), {.name = "data"}, admin()));
  ASSERT_EQ(made.result, "done") << made.error->str();

  worker_process->kill();
  const auto without = item_of(engine->verify({made.volume}, admin()));
  EXPECT_EQ(without.error->reason(), Reason::kWorkerLost);
  ASSERT_THAT(worker_process->start(), Succeeds());
  run_until([&] { return item_of(engine->verify({made.volume}, admin())).result == "done"; });

  reader->kill();
  EXPECT_EQ(item_of(engine->verify({made.volume}, admin())).error->reason(), Reason::kReaderLost);
  ASSERT_THAT(reader->start(), Succeeds());
  run_until([&] { return item_of(engine->verify({made.volume}, admin())).result == "done"; });

  vault->send_signal(SIGKILL);
  vault->wait();
  EXPECT_EQ(item_of(engine->verify({made.volume}, admin())).error->reason(), Reason::kHsmAbsent);
  ASSERT_THAT(vault->start_again(), Succeeds());
  run_until([&] { return item_of(engine->verify({made.volume}, admin())).result == "done"; });
}

TEST_F(HostProcessesTest, AHeaderChangedOnTheDiskIsRefusedAndNothingIsWritten) {
  create_key();
  const std::string node = plug("disk0");
  const auto made = item_of(engine->provision(node, {.name = "data"}, admin()));
  ASSERT_EQ(made.result, "done") << made.error->str();
  {
    std::fstream disk(node, std::ios::in | std::ios::out | std::ios::binary);
    disk.seekp(100);
    disk << "x";
  }
  // One copy is bad: the other serves, and that is said.
  const auto repaired = item_of(engine->verify({made.volume}, admin()));
  EXPECT_EQ(repaired.result, "done") << repaired.error->str();
  EXPECT_THAT(repaired.note, HasSubstr("first header copy"));
  {
    std::fstream disk(node, std::ios::in | std::ios::out | std::ios::binary);
    disk.seekp((64 << 10) + 100);
    disk << "x";
  }
  const auto before = std::filesystem::last_write_time(node);
  EXPECT_EQ(item_of(engine->verify({made.volume}, admin())).error->reason(),
            Reason::kHeaderDamaged);
  EXPECT_EQ(std::filesystem::last_write_time(node), before);
}

}  // namespace
}  // namespace coffer::tests

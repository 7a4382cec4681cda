// SPDX-License-Identifier: Apache-2.0
// Rotation that reaches the disks: the engine's rewraps as jobs, and versions destroyed behind
// them.
#include <algorithm>

#include "core/luks2/token.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::JobId;
using agent::JobInfo;
using agent::JobState;
using agent::RewrapOptions;

class EngineRewrapTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    key = keyring->find("default")->id;
    for (const char* name : {"vda", "vdb", "vdc"}) {
      plug(name);
      volumes.push_back(provision(std::string("/dev/") + name, name));
    }
  }

  void rotate() {
    std::optional<Result<void>> end;
    engine->change_key(key, {keyring::CmkChange::kRotate}, admin(),
                       [&](const Result<void>& done) { end = done; });
    run_until([&] { return end.has_value(); });
    ASSERT_THAT(*end, Succeeds());
  }
  Result<JobId> rewrap(const RewrapOptions& options = {.per_minute = 60'000}) {
    return engine->rewrap_all(key, options, admin());
  }
  Result<void> destroy(std::uint32_t version, bool force = false) {
    std::optional<Result<void>> end;
    keyring::CmkChange change = keyring::CmkChange::kDestroyVersion;
    change.version = version;
    engine->change_key(key, {change, force}, admin(),
                       [&](const Result<void>& done) { end = done; });
    run_until([&] { return end.has_value(); });
    return *end;
  }
  // Of the wraps in the headers, as they stand on the disks.
  std::vector<std::uint32_t> on_disks() {
    std::vector<std::uint32_t> all;
    for (const auto& [path, disk] : worker.disks()) {
      for (const Bytes& wrap : disk.header->token->wraps)
        all.push_back(keyring::WrappedKey::decode(wrap).value().cmk_version);
    }
    return all;
  }
  std::vector<std::string> results(JobId job) {
    std::vector<std::string> all;
    const auto items = engine->job_items(job);
    for (const agent::JobItem& item : *items) all.push_back(item.result);
    std::sort(all.begin(), all.end());
    return all;
  }
  void reopen_all() {
    finish(engine->lock(volumes, {}, admin()));
    EXPECT_EQ(finish(engine->unlock(volumes, {}, admin())).state, JobState::kDone);
  }
  // Lets the loop run for a while in which `job` could go on.
  void run_until_idle_but(JobId job) {
    const auto verified = finish(engine->verify(volumes, admin()));
    EXPECT_EQ(verified.state, JobState::kDone);
    EXPECT_EQ(engine->job(job)->state, JobState::kRunning);
  }
  std::size_t noted() { return registry->open_rewraps()->size(); }

  std::vector<VolumeId> volumes;
  CmkId key{Uuid()};
};

TEST_F(EngineRewrapTest, OpenVolumesMoveAndTheOldVersionGoes) {
  rotate();
  EXPECT_THAT(destroy(1), FailsWith(Reason::kKeyBound));
  EXPECT_THAT(destroy(1, true), FailsWith(Reason::kKeyBound));  // Not even by force.
  const auto job = rewrap();
  const JobInfo info = finish(job);
  EXPECT_EQ(info.state, JobState::kDone) << info.message;
  EXPECT_EQ(info.operation, "rewrap");
  EXPECT_EQ(info.total, 3U);
  EXPECT_EQ(on_disks(), (std::vector<std::uint32_t>{2, 2, 2}));
  for (const VolumeId& id : volumes) {
    EXPECT_EQ(state(id), agent::VolumeState::kUnlocked);
    EXPECT_EQ(volume(id).keys.front().version, 2U);
  }

  ASSERT_THAT(destroy(1), Succeeds());
  EXPECT_EQ(engine->key("default")->record.find_version(1)->state,
            keyring::VersionState::kDestroyed);
  reopen_all();
}

TEST_F(EngineRewrapTest, AVersionThatOnlyCallersMayNeedGoesOfADisabledKeyOrByForce) {
  keyring::CmkParameters parameters;
  parameters.alias = "data";
  std::optional<Result<agent::KeyInfo>> made;
  engine->create_key(parameters, admin(), [&](const auto& done) { made = done; });
  run_until([&] { return made.has_value(); });
  key = (*made)->record.id;
  for (int i = 0; i < 3; ++i) rotate();
  EXPECT_THAT(destroy(1), FailsWith(Reason::kKeyNotDisabled));
  EXPECT_EQ(audit.count(audit::Kind::kRefused, "key.destroy-version"), 1U);
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "key.destroy-version"), 0U);

  ASSERT_THAT(destroy(1, true), Succeeds());
  EXPECT_NE(audit.events().back().text.find("version 1, by force"), std::string::npos);
  ASSERT_THAT(change_key(key, keyring::CmkChange::kDisable), Succeeds());
  EXPECT_THAT(destroy(2), Succeeds());
}

TEST_F(EngineRewrapTest, LockedVolumesMoveWithoutBeingOpened) {
  rotate();
  finish(engine->lock(volumes, {}, admin()));
  const int delivered = worker.delivered();
  EXPECT_EQ(finish(rewrap()).state, JobState::kDone);
  EXPECT_EQ(worker.delivered(), delivered);
  EXPECT_EQ(on_disks(), (std::vector<std::uint32_t>{2, 2, 2}));
  for (const VolumeId& id : volumes) {
    EXPECT_EQ(state(id), agent::VolumeState::kLocked);
    EXPECT_TRUE(volume(id).locked_by_admin);
  }
}

TEST_F(EngineRewrapTest, OneThatFailsDoesNotStopTheOthersAndBlocksTheDestruction) {
  rotate();
  watch.unplug("/dev/vdb");
  const auto job = rewrap();
  EXPECT_EQ(finish(job).state, JobState::kPartial);
  EXPECT_EQ(results(*job), (std::vector<std::string>{"done", "done", "failed"}));
  const auto refused = destroy(1);
  ASSERT_THAT(refused, FailsWith(Reason::kKeyBound));
  EXPECT_NE(refused.error().message().find("vdb: "), std::string::npos) << refused.error().str();
  EXPECT_EQ(refused.error().message().find("vda: "), std::string::npos) << refused.error().str();
  EXPECT_EQ(audit.count(audit::Kind::kRefused, "key.destroy-version"), 1U);

  // It is back, and another run moves what is left.
  plug("vdb");
  const auto again = rewrap();
  EXPECT_EQ(finish(again).state, JobState::kDone);
  EXPECT_EQ(on_disks(), (std::vector<std::uint32_t>{2, 2, 2}));
  ASSERT_THAT(destroy(1), Succeeds());
  reopen_all();
}

TEST_F(EngineRewrapTest, NoMoreAreBegunThanThePaceAllows) {
  rotate();
  const auto began = std::chrono::steady_clock::now();
  ASSERT_EQ(finish(rewrap({.per_minute = 600})).state, JobState::kDone);  // 100 ms each.
  EXPECT_GE(std::chrono::steady_clock::now() - began, std::chrono::milliseconds(200));
}

TEST_F(EngineRewrapTest, ConfiguredPaceHoldsWhereNoneIsGiven) {
  stop();
  config.rewraps_per_minute = 1;
  start();
  run_until_idle();
  rotate();
  const auto job = rewrap({});
  run_until([&] { return engine->job(*job)->done == 1; });
  run_until_idle_but(*job);
  EXPECT_EQ(engine->job(*job)->done, 1U);
  EXPECT_EQ(worker.called("replace_token"), 1);
  ASSERT_THAT(engine->cancel(*job, admin()), Succeeds());
}

TEST_F(EngineRewrapTest, CancelledBetweenVolumesItKeepsWhatIsDoneAndAnotherRunGoesOn) {
  rotate();
  const auto job = rewrap({.per_minute = 1});
  run_until([&] { return engine->job(*job)->done == 1; });
  ASSERT_THAT(engine->cancel(*job, admin()), Succeeds());
  EXPECT_EQ(finish(job).state, JobState::kCancelled);
  EXPECT_EQ(results(*job), (std::vector<std::string>{"cancelled", "cancelled", "done"}));
  auto versions = on_disks();
  std::sort(versions.begin(), versions.end());
  EXPECT_EQ(versions, (std::vector<std::uint32_t>{1, 1, 2}));
  EXPECT_THAT(destroy(1), FailsWith(Reason::kKeyBound));
  run_until([&] { return noted() == 0; });

  const auto again = rewrap();
  EXPECT_EQ(finish(again).state, JobState::kDone);
  EXPECT_EQ(on_disks(), (std::vector<std::uint32_t>{2, 2, 2}));
  EXPECT_EQ(worker.called("replace_token"), 3);  // None twice.
  ASSERT_THAT(destroy(1), Succeeds());
}

// While it waits for its pace, nothing waits for it.
TEST_F(EngineRewrapTest, VolumesWhoseTurnHasNotComeAreFree) {
  rotate();
  const auto job = rewrap({.per_minute = 1});
  run_until([&] { return engine->job(*job)->done == 1; });
  reopen_all();
  EXPECT_EQ(engine->job(*job)->state, JobState::kRunning);
  ASSERT_THAT(engine->cancel(*job, admin()), Succeeds());
}

TEST_F(EngineRewrapTest, RestartedAgentGoesOn) {
  rotate();
  const auto job = rewrap({.per_minute = 1});
  run_until([&] { return engine->job(*job)->done == 1; });
  EXPECT_EQ(noted(), 1U);
  // As fast as the pool allows from now on, so that the test need not wait.
  auto open = registry->open_rewraps()->front();
  stop();
  {
    const auto stopped = agent::Registry::open((folder / "registry.db").string());
    open.per_minute = 60'000;
    ASSERT_THAT((*stopped)->note_rewrap(open), Succeeds());
  }
  start();
  run_until([&] { return on_disks() == std::vector<std::uint32_t>{2, 2, 2}; });
  run_until([&] { return noted() == 0; });
  const auto jobs = engine->jobs();
  const auto resumed = std::find_if(jobs.begin(), jobs.end(),
                                    [](const JobInfo& info) { return info.operation == "rewrap"; });
  ASSERT_NE(resumed, jobs.end());
  EXPECT_EQ(finish(resumed->id).state, JobState::kDone);
  EXPECT_EQ(worker.called("replace_token"), 3);
}

TEST_F(EngineRewrapTest, WhatEndedIsNotGoneOnWith) {
  rotate();
  ASSERT_EQ(finish(rewrap()).state, JobState::kDone);
  run_until([&] { return noted() == 0; });
  stop();
  start();
  run_until_idle();
  for (const JobInfo& info : engine->jobs()) EXPECT_NE(info.operation, "rewrap");
}

TEST_F(EngineRewrapTest, RewrapOfAKeyThatWrapsNoMoreEndsAtTheRestart) {
  ASSERT_THAT(registry->note_rewrap({key, 5, 0, WallTime(std::chrono::seconds(7))}), Succeeds());
  ASSERT_THAT(keyring->disable(key, {}, keyring::WhenBound::kGoOn), Succeeds());
  stop();
  start();
  run_until([&] { return noted() == 0; });
}

TEST_F(EngineRewrapTest, OneKeyHasOneRewrapAtATime) {
  rotate();
  const auto job = rewrap({.per_minute = 1});
  EXPECT_THAT(rewrap(), FailsWith(Reason::kInProgress));
  ASSERT_THAT(engine->cancel(*job, admin()), Succeeds());
}

TEST_F(EngineRewrapTest, WhatCannotBeAskedForIsRefusedBeforeAJobIsMade) {
  EXPECT_THAT(engine->rewrap_all(CmkId::random().value(), {}, admin()),
              FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(rewrap({.per_minute = agent::kRewrapsPerMinuteMax + 1}),
              FailsWith(Reason::kInvalidArgs));
  ASSERT_THAT(keyring->disable(key, {}, keyring::WhenBound::kGoOn), Succeeds());
  run_until([&] { return engine->key("default")->record.state == keyring::KeyState::kDisabled; });
  EXPECT_THAT(rewrap(), FailsWith(Reason::kKeyDisabled));
}

TEST_F(EngineRewrapTest, KeyWithoutVolumesIsDoneAtOnce) {
  keyring::CmkParameters parameters;
  parameters.alias = "other";
  const auto other = keyring->create(parameters, {});
  ASSERT_THAT(other, Succeeds());
  run_until([&] { return engine->key("other").has_value(); });
  const auto job = engine->rewrap_all(other->id, {}, admin());
  EXPECT_EQ(finish(job).state, JobState::kDone);
  EXPECT_EQ(engine->job(*job)->total, 0U);
}

TEST_F(EngineRewrapTest, CurrentVersionIsNeverDestroyed) {
  EXPECT_THAT(destroy(1), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(destroy(9), FailsWith(Reason::kInvalidArgs));
}

TEST_F(EngineRewrapTest, ADestructionThatEndsForWantOfDisksIsRecorded) {
  rotate();
  ASSERT_EQ(finish(rewrap()).state, JobState::kDone);
  watch.fail_lists(true);
  EXPECT_THAT(destroy(1), FailsWith(Reason::kIoError));
  watch.fail_lists(false);
  const auto events = audit.events();
  ASSERT_EQ(events.back().kind, audit::Kind::kRefused);
  EXPECT_EQ(events.back().operation, "key.destroy-version");
  EXPECT_EQ(events.back().cmk, key);
  EXPECT_EQ(events.back().cmk_version, 1U);
  EXPECT_EQ(events.back().outcome, "IoError");
  EXPECT_THAT(destroy(1), Succeeds());
}

// Each reads all headers, on a pool of its own: those that wait are few, and hold nobody else up.
TEST_F(EngineRewrapTest, DestructionsThatADeadDeviceHoldsUpAreFewAndHoldNothingElseUp) {
  rotate();
  ASSERT_EQ(finish(rewrap()).state, JobState::kDone);
  watch.hold_lists();
  std::vector<Result<void>> ends;
  keyring::CmkChange change = keyring::CmkChange::kDestroyVersion;
  change.version = 1;
  std::size_t asked = 0;
  while (ends.empty()) {
    engine->change_key(key, {change}, admin(),
                       [&](const Result<void>& end) { ends.push_back(end); });
    ASSERT_LT(++asked, 100U) << "they have no limit";
  }
  EXPECT_GE(asked, 8U);
  EXPECT_THAT(ends.front(), FailsWith(Reason::kLimitsExceeded));
  EXPECT_TRUE(
      run_until([&] { return audit.count(audit::Kind::kRefused, "key.destroy-version") == 1U; }));
  std::optional<Result<std::vector<agent::AuditEntry>>> read;
  engine->audit_query({}, 1, admin(), [&](auto entries) { read = std::move(entries); });
  EXPECT_TRUE(run_until([&] { return read.has_value(); }));
  watch.let_lists_go();
  EXPECT_TRUE(run_until([&] { return ends.size() == asked; }));
  EXPECT_GE(std::ranges::count_if(ends, [](const auto& end) { return end.has_value(); }), 1);
}

TEST_F(EngineRewrapTest, WhatIsReadOfKeysDoesNotWaitForADeadDevice) {
  watch.hold_lists();
  for (int i = 0; i < 6; ++i)
    ASSERT_THAT(engine->adopt(plug("dead" + std::to_string(i)), {}, admin()), Succeeds());
  ASSERT_TRUE(run_until([&] { return watch.waiting() >= 6; })) << "all threads that look for disks";
  std::size_t answers = 0;
  const auto answer = [&](const auto& end) {
    EXPECT_THAT(end, Succeeds());
    ++answers;
  };
  engine->list_keys({}, answer);
  engine->count_keys({}, answer);
  engine->key_bindings(key, "", 10, answer);
  EXPECT_TRUE(run_until([&] { return answers == 3; }));
  watch.let_lists_go();
}

TEST_F(EngineRewrapTest, WhatIsNoVolumeStandsAgainstADestructionToo) {
  rotate();
  ASSERT_EQ(finish(rewrap()).state, JobState::kDone);
  ASSERT_THAT(keyring->bind(key, "backup:nightly", {}), Succeeds());
  const auto refused = destroy(1);
  ASSERT_THAT(refused, FailsWith(Reason::kKeyBound));
  EXPECT_NE(refused.error().message().find("backup:nightly"), std::string::npos);
  ASSERT_THAT(keyring->unbind(key, "backup:nightly", {}), Succeeds());
  EXPECT_THAT(destroy(1), Succeeds());
}

TEST_F(EngineRewrapTest, TokenThatIsAwayMovesNothing) {
  rotate();
  vault->go_away();
  const auto job = rewrap();
  EXPECT_EQ(finish(job).state, JobState::kFailed);
  EXPECT_EQ(on_disks(), (std::vector<std::uint32_t>{1, 1, 1}));
  vault->come_back();
  EXPECT_EQ(finish(rewrap()).state, JobState::kDone);
  EXPECT_EQ(on_disks(), (std::vector<std::uint32_t>{2, 2, 2}));
}

}  // namespace
}  // namespace coffer::tests

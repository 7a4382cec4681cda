// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/rewrap.h"

#include <gtest/gtest.h>

#include <set>

#include "agent/volume/version_proof.h"
#include "core/luks2/token.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::RewrapEnd;
using agent::VersionProof;
using agent::VolumeRow;
using agent::VolumeState;

// Moves on the test's own thread, so that it can be stopped after each step.
class RewrapTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    plug("vda");
    id = provision("/dev/vda", "data");
    key = keyring->find("default")->id;
  }

  agent::LifeParts parts() {
    return {.unlock = {worker, *keyring, *log, system_clock(), host_id},
            .registry = *registry,
            .state_folder = folder.string(),
            .boot_id = boot_id,
            .boot_deadline = std::chrono::seconds(40)};
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(20)); }
  agent::RewrapCall call() {
    agent::RewrapCall made{.call = {}, .key = key};
    made.call.deadline = soon();
    return made;
  }
  Result<RewrapEnd> rewrap() { return rewrap(parts()); }
  Result<RewrapEnd> rewrap(const agent::LifeParts& with) {
    return agent::rewrap_volume(*registry->find(id), call(), *watch.list(), with);
  }
  void rotate() { ASSERT_THAT(keyring->rotate(key, {}), Succeeds()); }

  luks2::CheckedHeader header(const std::string& disk = "/dev/vda") {
    return *worker.disks().at(disk).header;
  }
  static std::vector<std::uint32_t> versions(const std::vector<Bytes>& wraps) {
    std::vector<std::uint32_t> all;
    for (const Bytes& wrap : wraps)
      all.push_back(keyring::WrappedKey::decode(wrap).value().cmk_version);
    return all;
  }
  std::vector<std::uint32_t> on_disk(const std::string& disk = "/dev/vda") {
    return versions(header(disk).token->wraps);
  }
  VersionProof prove(std::uint32_t version) {
    return agent::prove_unused({key, version}, *watch.list(), soon(), parts()).value();
  }
  // Closed and opened again, from what stands on the disk.
  void reopen() {
    finish(engine->lock({id}, {}, admin()));
    EXPECT_EQ(error_of(engine->unlock({id}, {}, admin())), std::nullopt);
    EXPECT_EQ(state(id), VolumeState::kUnlocked);
  }
  std::vector<std::string> outcomes(const std::string& operation) {
    std::vector<std::string> all;
    for (const audit::Event& event : audit.events())
      if (event.operation == operation && event.kind == audit::Kind::kResult)
        all.push_back(event.outcome);
    return all;
  }

  VolumeId id{Uuid()};
  CmkId key{Uuid()};
};

TEST_F(RewrapTest, OpenVolumeMovesToTheNewestVersionAndOpensFromIt) {
  const auto before = header();
  rotate();
  const auto end = rewrap();
  ASSERT_THAT(end, Succeeds());
  EXPECT_EQ(end->note, "moved from version 1 to 2");
  EXPECT_EQ(state(id), VolumeState::kUnlocked);

  const auto after = header();
  EXPECT_EQ(on_disk(), std::vector<std::uint32_t>{2});
  EXPECT_EQ(after.token->context, before.token->context);
  EXPECT_EQ(after.token->generation, before.token->generation);
  EXPECT_EQ(end->header, after);
  EXPECT_EQ(registry->find(id)->wraps, after.token->wraps);
  // The record in the token is the one that the new wrap needs, in the place of the old one.
  ASSERT_EQ(after.token->records.size(), 1U);
  EXPECT_EQ(keyring::CmkRecord::decode(after.token->records.front())->current().number, 2U);
  reopen();
}

TEST_F(RewrapTest, VersionIsDestroyedAndTheVolumeStillOpens) {
  rotate();
  ASSERT_THAT(rewrap(), Succeeds());
  ASSERT_TRUE(prove(1).holds());
  ASSERT_THAT(keyring->destroy_version(key, 1, {}), Succeeds());
  reopen();
}

TEST_F(RewrapTest, VolumeOnTheNewestVersionIsNotWritten) {
  const auto writes = worker.disks().at("/dev/vda").writes;
  const auto end = rewrap();
  ASSERT_THAT(end, Succeeds());
  EXPECT_EQ(end->note, "was on version 1 already");
  EXPECT_EQ(worker.disks().at("/dev/vda").writes, writes);
  EXPECT_TRUE(outcomes("volume.rewrap").empty());
}

TEST_F(RewrapTest, IntentComesBeforeAndResultBehind) {
  rotate();
  ASSERT_THAT(rewrap(), Succeeds());
  EXPECT_EQ(outcomes("volume.rewrap"), std::vector<std::string>{"OK"});
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "volume.rewrap"), 1U);
  for (const audit::Event& event : audit.events()) {
    if (event.operation != "volume.rewrap") continue;
    EXPECT_EQ(event.volume, id);
    EXPECT_EQ(event.cmk, key);
    EXPECT_EQ(event.cmk_version, 2U);
  }
}

TEST_F(RewrapTest, WithoutAnIntentNothingIsTouched) {
  rotate();
  const auto before = header();
  audit.fail_next();
  EXPECT_THAT(rewrap(), FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(header(), before);
  EXPECT_EQ(worker.called("replace_token"), 0);
}

// Whatever it was cut off behind, the volume opens, both versions being there, and the next run
// goes on where it stood.
TEST_F(RewrapTest, StoppedAfterAnyStepItOpensAndTheNextRunGoesOn) {
  rotate();
  struct Picture {
    VolumeRow row;
    std::map<std::string, FakeDisk> disks;
  };
  std::map<std::string, Picture> pictures;
  std::vector<std::string> steps;
  auto traced = parts();
  traced.reached = [&](std::string_view step) {
    steps.emplace_back(step);
    pictures.insert({std::string(step), {*registry->find(id), worker.disks()}});
  };
  ASSERT_THAT(rewrap(traced), Succeeds());
  EXPECT_EQ(steps, (std::vector<std::string>{"intent", "wrapped", "written", "stored"}));

  for (const std::string& step : steps) {
    SCOPED_TRACE("stopped after " + step);
    const Picture& picture = pictures.at(step);
    worker.restore(picture.disks);
    ASSERT_THAT(registry->put(picture.row), Succeeds());
    stop();
    start();
    run_until_idle();
    reopen();
    const bool on_new = step == "written" || step == "stored";
    EXPECT_EQ(on_disk(), std::vector<std::uint32_t>{on_new ? 2U : 1U});
    EXPECT_EQ(prove(1).holds(), on_new);

    ASSERT_THAT(rewrap(), Succeeds());
    EXPECT_EQ(on_disk(), std::vector<std::uint32_t>{2});
    EXPECT_EQ(registry->find(id)->wraps, header().token->wraps);
    EXPECT_TRUE(prove(1).holds());
    reopen();
  }
}

TEST_F(RewrapTest, CutOffBetweenTheCopiesBothAreMadeAnewByTheNextRun) {
  rotate();
  worker.cut_next_replacement();
  EXPECT_THAT(rewrap(), FailsWith(Reason::kWorkerLost));
  EXPECT_EQ(outcomes("volume.rewrap"), std::vector<std::string>{"WorkerLost"});
  ASSERT_NE(header().copies, luks2::Copies::kBoth);
  reopen();
  // The older copy may still hold the old wrap.
  const auto proof = prove(1);
  ASSERT_EQ(proof.doubts.size(), 1U);
  EXPECT_EQ(proof.doubts.front().why.reason(), Reason::kHeaderDamaged);

  const auto end = rewrap();
  ASSERT_THAT(end, Succeeds());
  EXPECT_EQ(end->note, "a damaged copy of its header made anew");
  EXPECT_EQ(header().copies, luks2::Copies::kBoth);
  EXPECT_TRUE(prove(1).holds());
}

TEST_F(RewrapTest, HeaderThatChangesMeanwhileIsLeftAlone) {
  rotate();
  auto traced = parts();
  traced.reached = [&](std::string_view step) {
    if (step != "wrapped") return;
    auto disks = worker.disks();
    disks.at("/dev/vda").header->epoch += 1;  // cryptsetup added a keyslot.
    disks.at("/dev/vda").header->keyslots_foreign = {4};
    worker.restore(std::move(disks));
  };
  EXPECT_THAT(rewrap(traced), FailsWith(Reason::kDeviceChanged));
  EXPECT_EQ(on_disk(), std::vector<std::uint32_t>{1});
  EXPECT_EQ(versions(registry->find(id)->wraps), std::vector<std::uint32_t>{1});

  ASSERT_THAT(rewrap(), Succeeds());
  EXPECT_EQ(on_disk(), std::vector<std::uint32_t>{2});
  EXPECT_EQ(header().keyslots_foreign, std::vector<std::uint32_t>{4});
}

TEST_F(RewrapTest, FullHeaderKeepsItsOldWrap) {
  rotate();
  worker.disk("/dev/vda").token_bytes_max = 100;
  EXPECT_THAT(rewrap(), FailsWith(Reason::kTokenSpace));
  EXPECT_EQ(on_disk(), std::vector<std::uint32_t>{1});
  EXPECT_FALSE(prove(1).holds());
  reopen();
}

TEST_F(RewrapTest, WhatWouldNotBeOpenedIsNotRewrapped) {
  rotate();
  const auto good = worker.disks();
  const auto refused = [&](Reason reason, auto change) {
    auto disks = good;
    change(*disks.at("/dev/vda").header);
    worker.restore(std::move(disks));
    EXPECT_THAT(rewrap(), FailsWith(reason));
    EXPECT_FALSE(prove(2).holds());  // Not even of a version that nothing uses.
  };
  refused(Reason::kProfileMismatch, [](auto& header) { header.profile->iv_tweak = 8; });
  refused(Reason::kHeaderRolledBack, [&](auto& header) {
    auto row = *registry->find(id);
    row.generation = 2;
    ASSERT_THAT(registry->put(row), Succeeds());
    static_cast<void>(header);
  });
  auto row = *registry->find(id);
  row.generation = 1;
  ASSERT_THAT(registry->put(row), Succeeds());
  refused(Reason::kTokenMissing, [](auto& header) { header.token.reset(); });
  refused(Reason::kBlobInvalid, [](auto& header) { header.token->wraps.front().resize(20); });
  refused(Reason::kDeviceTooSmall, [&](auto& /*header*/) {
    auto longer = *registry->find(id);
    longer.device_bytes *= 2;
    ASSERT_THAT(registry->put(longer), Succeeds());
  });
  EXPECT_EQ(worker.called("replace_token"), 0);
}

TEST_F(RewrapTest, KeyThatDoesNotWrapMovesNothing) {
  rotate();
  ASSERT_THAT(keyring->disable(key, {}, keyring::WhenBound::kGoOn), Succeeds());
  EXPECT_THAT(rewrap(), FailsWith(Reason::kKeyDisabled));
  EXPECT_EQ(on_disk(), std::vector<std::uint32_t>{1});
}

TEST_F(RewrapTest, RowThatCannotBeStoredIsMadeGoodByTheNextRun) {
  rotate();
  auto row = *registry->find(id);
  ASSERT_THAT(rewrap(), Succeeds());
  ASSERT_THAT(registry->put(row), Succeeds());  // As a crash before the row leaves it.
  const auto end = rewrap();
  ASSERT_THAT(end, Succeeds());
  EXPECT_EQ(versions(end->row.wraps), std::vector<std::uint32_t>{2});
  EXPECT_EQ(registry->find(id)->wraps, header().token->wraps);
}

TEST_F(RewrapTest, DevicesAreLetGo) {
  rotate();
  const auto before = worker.held();
  ASSERT_THAT(rewrap(), Succeeds());
  static_cast<void>(prove(1));
  worker.fail_next("replace_token", Reason::kIoError);
  rotate();
  EXPECT_THAT(rewrap(), FailsWith(Reason::kIoError));
  EXPECT_EQ(worker.held(), before);
}

// The proof, over several volumes.

TEST_F(RewrapTest, ProofNamesTheVolumesThatStandAgainstIt) {
  plug("vdb");
  plug("vdc");
  provision("/dev/vdb", "other");
  provision("/dev/vdc", "away");
  rotate();
  unplug("vdc");
  auto proof = prove(1);
  EXPECT_EQ(proof.volumes, 3U);
  ASSERT_EQ(proof.doubts.size(), 3U);
  const auto refused = agent::require_unused({key, 1}, proof);
  ASSERT_THAT(refused, FailsWith(Reason::kKeyBound));
  for (const char* name : {"data: ", "other: ", "away: "})
    EXPECT_NE(refused.error().message().find(name), std::string::npos) << refused.error().str();

  ASSERT_THAT(rewrap(), Succeeds());
  proof = prove(1);
  std::set<std::string> names;
  for (const auto& doubt : proof.doubts) names.insert(doubt.name);
  EXPECT_EQ(names, (std::set<std::string>{"other", "away"}));
  // Nothing is wrapped under version 2 but what is: the one that is away is not known.
  EXPECT_FALSE(prove(2).holds());
}

TEST_F(RewrapTest, VolumeBeingProvisionedProvesNothing) {
  auto row = *registry->find(id);
  row.state = agent::RowState::kProvisioning;
  ASSERT_THAT(registry->put(row), Succeeds());
  const auto proof = prove(7);
  ASSERT_EQ(proof.doubts.size(), 1U);
  EXPECT_EQ(proof.doubts.front().why.reason(), Reason::kInProgress);
}

TEST_F(RewrapTest, HeadersThatCannotBeReadProveNothing) {
  rotate();
  ASSERT_THAT(rewrap(), Succeeds());
  worker.fail_next("scan", Reason::kWorkerLost);
  EXPECT_FALSE(prove(1).holds());
  EXPECT_TRUE(prove(1).holds());
}

TEST_F(RewrapTest, CopyThatIsPluggedInCountsToo) {
  auto copy = worker.disks().at("/dev/vda");
  rotate();
  ASSERT_THAT(rewrap(), Succeeds());
  ASSERT_TRUE(prove(1).holds());
  plug("vdb");
  copy.identity = worker.disk("/dev/vdb").identity;
  worker.disk("/dev/vdb") = copy;
  agent::Disk seen = watch.list()->back();
  ASSERT_EQ(seen.node, "/dev/vdb");
  watch.unplug(seen.node);
  seen.file_system_type = "crypto_LUKS";
  seen.file_system_uuid = id.str();
  watch.plug(seen);
  const auto proof = prove(1);
  ASSERT_EQ(proof.doubts.size(), 1U);
  EXPECT_EQ(proof.doubts.front().why.reason(), Reason::kKeyBound);
  EXPECT_NE(proof.doubts.front().why.message().find("/dev/vdb"), std::string::npos);
}

TEST_F(RewrapTest, OtherVersionsAndOtherKeysDoNotCount) {
  EXPECT_TRUE(prove(2).holds());
  const VersionProof other =
      agent::prove_unused({CmkId::random().value(), 1}, *watch.list(), soon(), parts()).value();
  EXPECT_TRUE(other.holds());
  EXPECT_FALSE(prove(1).holds());
}

}  // namespace
}  // namespace coffer::tests

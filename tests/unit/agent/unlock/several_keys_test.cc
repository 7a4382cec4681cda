// SPDX-License-Identifier: Apache-2.0
// Volumes of several keys, from provisioning to adoption: any of them opens it, or some together.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "agent/unlock/unlock_pipeline.h"
#include "agent/volume/adopt.h"
#include "agent/volume/provision.h"
#include "agent/volume/recover.h"
#include "agent/volume/rewrap.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::ProvisionOptions;
using agent::UnlockBatch;
using agent::UnlockTarget;
using keyring::CmkRecord;
using keyring::WhenBound;
using ::testing::HasSubstr;
using ::testing::Not;

class SeveralKeysTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    for (const char* alias : {"one", "two", "three"}) keys.push_back(create(alias));
  }

  CmkId create(const std::string& alias) {
    keyring::CmkParameters parameters;
    parameters.alias = alias;
    const auto made = keyring->create(parameters, actor);
    EXPECT_THAT(made, Succeeds());
    return made->id;
  }
  void disable(std::size_t which) {
    EXPECT_THAT(keyring->disable(keys[which], actor, WhenBound::kGoOn), Succeeds());
  }
  void enable(std::size_t which) { EXPECT_THAT(keyring->enable(keys[which], actor), Succeeds()); }

  agent::UnlockParts unlock_parts() { return {worker, *keyring, *log, system_clock(), host_id}; }
  agent::LifeParts parts() {
    return {.unlock = unlock_parts(),
            .registry = *registry,
            .state_folder = folder.string(),
            .boot_id = boot_id,
            .boot_deadline = std::chrono::seconds(40)};
  }
  static agent::LifeCall call() {
    agent::LifeCall made;
    made.deadline = Deadline::after(std::chrono::seconds(20));
    return made;
  }
  agent::ProvisionCall provision_call(std::size_t threshold,
                                      std::vector<std::string> names = {"one", "two", "three"}) {
    return {.call = call(),
            .id = VolumeId::random().value(),
            .device = "/dev/vda",
            .options = {.name = "data", .keys = std::move(names), .threshold = threshold}};
  }
  // A closed volume of the three keys on /dev/vda.
  VolumeId make(std::size_t threshold) {
    plug("vda");
    const auto made = agent::provision(provision_call(threshold), *watch.list(), parts());
    EXPECT_THAT(made, Succeeds());
    if (!made) return VolumeId(Uuid());
    EXPECT_TRUE(made->activated) << made->note;
    close("data", made->row.id);
    return made->row.id;
  }
  void close(const std::string& name, const VolumeId& id) {
    EXPECT_THAT(worker.deactivate(name, id, agent::DeactivateMode::kPlain,
                                  Deadline::after(std::chrono::seconds(1))),
                Succeeds());
  }
  UnlockTarget unlock(const VolumeId& id) {
    UnlockBatch batch;
    batch.deadline = Deadline::after(std::chrono::milliseconds(2000));
    batch.targets.emplace_back(registry->find(id).value(), true);
    agent::run_unlock(batch, *watch.list(), unlock_parts());
    if (batch.targets[0].activated) close("data", id);
    return std::move(batch.targets[0]);
  }
  luks2::Token& token_on_disk() { return *worker.disk("/dev/vda").header->token; }
  // How it ends after `change` to the token on the disk, which is put back.
  UnlockTarget after(const VolumeId& id, const std::function<void(luks2::Token&)>& change) {
    const luks2::Token good = token_on_disk();
    change(token_on_disk());
    UnlockTarget target = unlock(id);
    token_on_disk() = good;
    return target;
  }
  std::vector<audit::Event> events_of(audit::Kind kind, const std::string& operation) {
    auto all = audit.events();
    std::erase_if(all, [&](const audit::Event& event) {
      return event.kind != kind || event.operation != operation;
    });
    return all;
  }

  audit::Actor actor;
  std::vector<CmkId> keys;
};

TEST_F(SeveralKeysTest, AnyOneOfThemOpensIt) {
  const VolumeId id = make(1);
  const auto row = registry->find(id).value();
  EXPECT_EQ(row.keys, keys);
  EXPECT_EQ(row.wraps.size(), 3U);
  EXPECT_EQ(token_on_disk().threshold, 1);
  EXPECT_EQ(token_on_disk().records.size(), 3U);
  EXPECT_EQ(token_on_disk().wraps, row.wraps);

  for (std::size_t left = 0; left < keys.size(); ++left) {
    for (std::size_t which = 0; which < keys.size(); ++which) {
      if (which != left) disable(which);
    }
    const UnlockTarget target = unlock(id);
    EXPECT_TRUE(target.activated) << target.error->str();
    for (std::size_t which = 0; which < keys.size(); ++which) {
      const auto told = HasSubstr("not opened with key " + keys[which].str());
      if (which == left) {
        EXPECT_THAT(target.note, Not(told));
      } else {
        EXPECT_THAT(target.note, told);
        enable(which);
      }
    }
  }
  for (std::size_t which = 0; which < keys.size(); ++which) disable(which);
  const UnlockTarget none = unlock(id);
  ASSERT_TRUE(none.error);
  EXPECT_EQ(none.error->reason(), Reason::kThresholdNotMet);
  for (const CmkId& key : keys) {
    EXPECT_THAT(none.error->message(), HasSubstr("key " + key.str() + " KeyDisabled"));
  }
}

TEST_F(SeveralKeysTest, TwoOfThreeOpenItAndOneDoesNot) {
  const VolumeId id = make(2);
  EXPECT_EQ(token_on_disk().threshold, 2);
  EXPECT_TRUE(unlock(id).activated);
  for (std::size_t which = 0; which < keys.size(); ++which) {
    disable(which);
    const UnlockTarget target = unlock(id);
    EXPECT_TRUE(target.activated) << target.error->str();
    EXPECT_THAT(target.note, HasSubstr(keys[which].str()));
    enable(which);
  }
  disable(0);
  EXPECT_THAT(keyring->archive(keys[1], actor, WhenBound::kGoOn), Succeeds());
  EXPECT_TRUE(unlock(id).activated) << "an archived key still gives its share";
  disable(2);
  EXPECT_THAT(keyring->schedule_deletion(keys[2], 7, actor, WhenBound::kGoOn), Succeeds());
  const int delivered = worker.delivered();
  const UnlockTarget target = unlock(id);
  ASSERT_TRUE(target.error);
  EXPECT_EQ(target.error->reason(), Reason::kThresholdNotMet);
  EXPECT_THAT(target.error->message(), HasSubstr("2 of the volume's 3 keys"));
  EXPECT_THAT(target.error->message(), HasSubstr("1 can"));
  EXPECT_THAT(target.error->message(), HasSubstr("key " + keys[0].str() + " KeyDisabled"));
  EXPECT_THAT(target.error->message(), HasSubstr("key " + keys[2].str() + " KeyPendingDeletion"));
  EXPECT_EQ(worker.delivered(), delivered) << "no share is asked for in vain";
}

TEST_F(SeveralKeysTest, EachKeyThatIsUsedHasItsIntentAndItsResult) {
  const VolumeId id = make(2);
  const auto made = events_of(audit::Kind::kIntent, "volume.provision");
  ASSERT_EQ(made.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(made[i].cmk, keys[i]);
  EXPECT_EQ(audit.count(audit::Kind::kResult, "volume.provision"), 3U);

  const auto before = events_of(audit::Kind::kResult, "volume.unlock").size();
  disable(1);
  ASSERT_TRUE(unlock(id).activated);
  auto intents = events_of(audit::Kind::kIntent, "volume.unlock");
  auto results = events_of(audit::Kind::kResult, "volume.unlock");
  ASSERT_EQ(intents.size(), before + 2);
  ASSERT_EQ(results.size(), before + 2);
  for (const auto& all : {intents, results}) {
    EXPECT_EQ(all[before].cmk, keys[0]);
    EXPECT_EQ(all[before + 1].cmk, keys[2]);
  }
  EXPECT_EQ(results[before].outcome, audit::kOutcomeOk);
  EXPECT_NE(results[before].intent_sequence, results[before + 1].intent_sequence);
}

// The store does not show that a wrap is bad: the vault does, and the next key takes its place.
TEST_F(SeveralKeysTest, AKeyThatFailsInTheVaultIsReplacedByTheNext) {
  for (const std::size_t threshold : {1U, 2U}) {
    const VolumeId id = make(threshold);
    const auto before = events_of(audit::Kind::kIntent, "volume.unlock").size();
    const UnlockTarget target =
        after(id, [](luks2::Token& t) { t.wraps[0].back() ^= std::byte{1}; });
    EXPECT_TRUE(target.activated) << target.error->str();
    EXPECT_THAT(target.note, HasSubstr("not opened with key " + keys[0].str()));
    const auto intents = events_of(audit::Kind::kIntent, "volume.unlock");
    const auto results = events_of(audit::Kind::kResult, "volume.unlock");
    ASSERT_EQ(intents.size(), before + threshold + 1) << "one more, before it is used";
    ASSERT_EQ(results.size(), before + threshold + 1);
    EXPECT_EQ(results[before].cmk, keys[0]);
    EXPECT_EQ(results[before].outcome, "BlobInvalid");
    EXPECT_EQ(results.back().outcome, audit::kOutcomeOk);

    const UnlockTarget none = after(id, [&](luks2::Token& t) {
      for (std::size_t i = 0; i + threshold <= t.wraps.size(); ++i)
        t.wraps[i].back() ^= std::byte{1};
    });
    ASSERT_TRUE(none.error);
    EXPECT_EQ(none.error->reason(), Reason::kThresholdNotMet);
    EXPECT_THAT(none.error->message(), HasSubstr("key " + keys[0].str() + " BlobInvalid"));
    EXPECT_THAT(registry->erase(id), Succeeds());
    worker.disk("/dev/vda").header.reset();
  }
}

TEST_F(SeveralKeysTest, AnotherKeyIsNotUsedWithoutItsIntent) {
  const VolumeId id = make(1);
  class LastLog final : public audit::AuditLog {
   public:
    explicit LastLog(FakeAudit& audit) : audit_(audit) {}
    Result<std::vector<std::uint64_t>> append(std::span<const audit::Event> events) override {
      if (events.front().kind == audit::Kind::kIntent && ++intents_ > 1)
        return fail(Reason::kAuditUnavailable, "the disk is full");
      return audit_.append(events);
    }
    void append_deferred(audit::Event event) override { audit_.append_deferred(std::move(event)); }
    Result<audit::Page> query(const audit::Filter& filter, std::size_t most) override {
      return audit_.query(filter, most);
    }
    Result<audit::VerifyReport> verify(std::uint64_t from, std::uint64_t to) override {
      return audit_.verify(from, to);
    }
    audit::Head head() const override { return audit_.head(); }
    bool available() const override { return true; }

   private:
    FakeAudit& audit_;
    int intents_ = 0;
  };
  LastLog failing(audit);
  token_on_disk().wraps[0].back() ^= std::byte{1};
  UnlockBatch batch;
  batch.deadline = Deadline::after(std::chrono::seconds(2));
  batch.targets.emplace_back(registry->find(id).value(), true);
  const int delivered = worker.delivered();
  agent::run_unlock(batch, *watch.list(), {worker, *keyring, failing, system_clock(), host_id});
  ASSERT_TRUE(batch.targets[0].error);
  EXPECT_EQ(batch.targets[0].error->reason(), Reason::kAuditUnavailable);
  EXPECT_EQ(worker.delivered(), delivered);
}

TEST_F(SeveralKeysTest, ATokenThatSaysOtherwiseIsRefusedBeforeAnyKey) {
  const VolumeId id = make(2);
  const int delivered = worker.delivered();
  const auto reason_after = [&](const std::function<void(luks2::Token&)>& change) {
    const UnlockTarget target = after(id, change);
    return target.error ? target.error->reason() : Reason::kInternal;
  };
  const auto with_shares = [](const std::function<void(keyring::KeyShares&)>& change) {
    return [change](luks2::Token& t) {
      auto context = keyring::KeyContext::decode(t.context).value();
      change(*context.shares);
      t.context = context.encode();
    };
  };
  EXPECT_EQ(reason_after([](luks2::Token& t) { t.threshold = 1; }), Reason::kTokenInvalid);
  EXPECT_EQ(reason_after([](luks2::Token& t) { t.threshold = 3; }), Reason::kTokenInvalid);
  EXPECT_EQ(reason_after([](luks2::Token& t) { t.wraps.pop_back(); }), Reason::kTokenInvalid);
  EXPECT_EQ(reason_after([](luks2::Token& t) { t.wraps.push_back(t.wraps[0]); }),
            Reason::kTokenInvalid);
  EXPECT_EQ(reason_after(with_shares([](keyring::KeyShares& s) { s.needed = 3; })),
            Reason::kBlobInvalid)
      << "the registry knows the set";
  EXPECT_EQ(reason_after(with_shares([](keyring::KeyShares& s) { s.index = 1; })),
            Reason::kBlobInvalid);
  EXPECT_EQ(
      reason_after(with_shares([](keyring::KeyShares& s) { s.commitment[0] ^= std::byte{1}; })),
      Reason::kBlobInvalid);
  EXPECT_EQ(reason_after([](luks2::Token& t) {
              auto context = keyring::KeyContext::decode(t.context).value();
              context.shares.reset();
              t.context = context.encode();
              t.threshold = 1;
            }),
            Reason::kBlobInvalid);
  EXPECT_EQ(worker.delivered(), delivered);
}

TEST_F(SeveralKeysTest, SharesInOtherPlacesOrTwiceAreNoShares) {
  const VolumeId id = make(2);
  const auto swapped = after(id, [](luks2::Token& t) { std::swap(t.wraps[0], t.wraps[1]); });
  ASSERT_TRUE(swapped.error) << "one of three is in its place";
  EXPECT_EQ(swapped.error->reason(), Reason::kThresholdNotMet);
  const auto twice = after(id, [](luks2::Token& t) {
    t.wraps[1] = t.wraps[0];
    t.wraps[2] = t.wraps[0];
  });
  ASSERT_TRUE(twice.error);
  EXPECT_EQ(twice.error->reason(), Reason::kThresholdNotMet);
  const auto unreadable = after(id, [](luks2::Token& t) { t.wraps[1] = Bytes(5); });
  EXPECT_TRUE(unreadable.activated);
  EXPECT_THAT(unreadable.note, HasSubstr("not opened with wrap 2"));
}

TEST_F(SeveralKeysTest, AVersionThatWasDestroyedIsSkipped) {
  const VolumeId id = make(2);
  ASSERT_THAT(keyring->rotate(keys[0], actor), Succeeds());
  EXPECT_TRUE(unlock(id).activated) << "the old version still gives its share";
  ASSERT_THAT(keyring->destroy_version(keys[0], 1, actor), Succeeds());
  const UnlockTarget target = unlock(id);
  EXPECT_TRUE(target.activated);
  EXPECT_THAT(target.note, HasSubstr("version 1 of key " + keys[0].str() + " is destroyed"));
  // The next rotation forgets it altogether.
  ASSERT_THAT(keyring->rotate(keys[0], actor), Succeeds());
  EXPECT_THAT(unlock(id).note, HasSubstr("version 1 of key " + keys[0].str() + " is destroyed"));
}

TEST_F(SeveralKeysTest, AShareMovesToTheNewestVersionInItsPlace) {
  const VolumeId id = make(2);
  ASSERT_THAT(keyring->rotate(keys[1], actor), Succeeds());
  const agent::RewrapCall moving{.call = call(), .key = keys[1]};
  const auto moved =
      agent::rewrap_volume(registry->find(id).value(), moving, *watch.list(), parts());
  ASSERT_THAT(moved, Succeeds());
  ASSERT_THAT(keyring->destroy_version(keys[1], 1, actor), Succeeds());
  disable(0);
  const UnlockTarget target = unlock(id);
  EXPECT_TRUE(target.activated) << target.error->str();
}

TEST_F(SeveralKeysTest, AShareWhoseDeliveryWasLostMayHaveCome) {
  const VolumeId id = make(2);
  vault->lose_answer(Reason::kHsmTimeout);
  const UnlockTarget target = unlock(id);
  EXPECT_TRUE(target.activated) << target.error->str();
  EXPECT_THAT(target.note, HasSubstr("although its delivery failed"));
}

TEST_F(SeveralKeysTest, ATokenThatIsAwayIsWhatKeepsItClosed) {
  const VolumeId id = make(2);
  vault->go_away(Reason::kHsmLoginNeeded);
  const UnlockTarget target = unlock(id);
  vault->come_back();
  ASSERT_TRUE(target.error);
  EXPECT_EQ(target.error->reason(), Reason::kHsmLoginNeeded);
  EXPECT_TRUE(unlock(id).activated);
}

TEST_F(SeveralKeysTest, AKeyThatTheTokenFailsForIsReplacedByTheNext) {
  for (const std::size_t threshold : {1U, 2U}) {
    const VolumeId id = make(threshold);
    vault->fail_delivery(Reason::kHsmFailed);
    const UnlockTarget target = unlock(id);
    EXPECT_TRUE(target.activated) << target.error->str();
    EXPECT_THAT(target.note, HasSubstr("not delivered as the test asked"));
    EXPECT_THAT(registry->erase(id), Succeeds());
    worker.disk("/dev/vda").header.reset();
  }
}

// A threshold that is not met waits for an admin; what may pass is tried again.
TEST_F(SeveralKeysTest, AFailureThatMayPassIsToldWhereNoOtherKeyIsLeft) {
  for (const std::size_t threshold : {1U, 2U}) {
    SCOPED_TRACE(threshold);
    const VolumeId id = make(threshold);
    // As many are left as are needed.
    for (std::size_t which = threshold; which < keys.size(); ++which) disable(which);
    vault->fail_delivery(Reason::kHsmFailed);
    const UnlockTarget target = unlock(id);
    ASSERT_TRUE(target.error);
    EXPECT_EQ(target.error->reason(), Reason::kHsmFailed);
    EXPECT_THAT(target.error->message(), HasSubstr("key " + keys[2].str() + " KeyDisabled"));
    EXPECT_TRUE(unlock(id).activated);
    for (std::size_t which = threshold; which < keys.size(); ++which) enable(which);
    EXPECT_THAT(registry->erase(id), Succeeds());
    worker.disk("/dev/vda").header.reset();
  }
}

// Another key would find the same: none is used up in vain.
TEST_F(SeveralKeysTest, AWorkerWithoutRoomIsNoFailureOfTheKey) {
  const VolumeId id = make(1);
  const auto before = events_of(audit::Kind::kIntent, "volume.unlock").size();
  vault->fail_delivery(Reason::kNoMemory);
  const UnlockTarget target = unlock(id);
  ASSERT_TRUE(target.error);
  EXPECT_EQ(target.error->reason(), Reason::kNoMemory);
  EXPECT_EQ(events_of(audit::Kind::kIntent, "volume.unlock").size(), before + 1);
}

TEST_F(SeveralKeysTest, VolumesOfOneKeyAnyKeyAndTwoKeysOpenInOneBatch) {
  plug("vda");
  plug("vdb");
  plug("vdc");
  const VolumeId single = provision("/dev/vda", "single");
  const VolumeId any = provision("/dev/vdb", "any", {.keys = {"one", "two"}});
  const VolumeId both = provision("/dev/vdc", "both", {.keys = {"one", "two"}, .threshold = 2});
  finish(engine->lock({single, any, both}, {}, admin()));
  const auto job = engine->unlock({single, any, both}, {}, admin());
  EXPECT_EQ(finish(job).state, agent::JobState::kDone);
  EXPECT_EQ(worker.mappings().size(), 3U);
}

TEST_F(SeveralKeysTest, AVolumeSaysHowManyOfItsKeysOpenIt) {
  plug("vda");
  plug("vdb");
  const VolumeId any = provision("/dev/vda", "any", {.keys = {"one", "two"}});
  const VolumeId both = provision("/dev/vdb", "both", {.keys = {"one", "two"}, .threshold = 2});
  for (int starts = 0; starts < 2; ++starts) {
    EXPECT_EQ(volume(any).threshold, 1U);
    EXPECT_EQ(volume(any).keys.size(), 2U);
    EXPECT_EQ(volume(both).threshold, 2U);
    stop();
    start();
    run_until_idle();
  }
}

TEST_F(SeveralKeysTest, WhatWaitsForAKeyOpensWhenItIsEnabled) {
  plug("vda");
  const VolumeId id = provision("/dev/vda", "data", {.keys = {"one", "two"}, .threshold = 2});
  finish(engine->lock({id}, {}, admin()));
  disable(0);
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kThresholdNotMet);
  EXPECT_THAT(change_key(keys[0], keyring::CmkChange::kEnable), Succeeds());
  EXPECT_TRUE(run_until([&] { return state(id) == agent::VolumeState::kUnlocked; }));
}

TEST_F(SeveralKeysTest, KeysThatMakeNoWrapsMakeNoVolume) {
  plug("vda");
  for (const std::size_t threshold : {1U, 2U}) {
    ASSERT_THAT(keyring->archive(keys[2], actor, WhenBound::kGoOn), Succeeds());
    EXPECT_THAT(agent::provision(provision_call(threshold), *watch.list(), parts()),
                FailsWith(Reason::kKeyArchived));
    ASSERT_THAT(keyring->cancel_archive(keys[2], actor), Succeeds());
    disable(1);
    EXPECT_THAT(agent::provision(provision_call(threshold), *watch.list(), parts()),
                FailsWith(Reason::kKeyDisabled));
    enable(1);
    EXPECT_TRUE(registry->load()->rows.empty());
    EXPECT_FALSE(worker.disk("/dev/vda").header);
  }
}

TEST_F(SeveralKeysTest, KeysAndThresholdsThatAreNoneAreRefused) {
  plug("vda");
  const auto refused = [&](std::size_t threshold, const std::vector<std::string>& names) {
    return agent::provision(provision_call(threshold, names), *watch.list(), parts());
  };
  EXPECT_THAT(refused(0, {"one", "two"}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(refused(3, {"one", "two"}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(refused(2, {}), FailsWith(Reason::kInvalidArgs)) << "the default is one key";
  EXPECT_THAT(refused(1, {"one", keys[0].str()}), FailsWith(Reason::kInvalidArgs)) << "twice";
  EXPECT_THAT(refused(2, std::vector<std::string>(9, "one")), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(refused(1, {"one", "nobody"}), FailsWith(Reason::kNoSuchKey));
  EXPECT_TRUE(audit.count(audit::Kind::kIntent, "volume.provision") == 0);
}

TEST_F(SeveralKeysTest, APowerCutWhileItIsMadeLeavesAllOrNothing) {
  plug("vda");
  struct Picture {
    std::vector<agent::VolumeRow> rows;
    std::map<std::string, FakeDisk> disks;
  };
  std::map<std::string, Picture> pictures;
  auto traced = parts();
  traced.reached = [&](std::string_view step) {
    pictures[std::string(step)] = {registry->load()->rows, worker.disks()};
  };
  const auto made = agent::provision(provision_call(2), *watch.list(), traced);
  ASSERT_THAT(made, Succeeds());
  close("data", made->row.id);
  for (const std::string step : {"key", "print", "written", "ready"}) {
    SCOPED_TRACE("stopped after " + step);
    const Picture& picture = pictures.at(step);
    worker.restore(picture.disks);
    agent::VolumeRow row = picture.rows.front();
    EXPECT_THAT(registry->put(row), Succeeds());
    if (row.state == agent::RowState::kProvisioning) {
      const auto recovered = agent::recover(row, *watch.list(), call(), parts());
      ASSERT_THAT(recovered, Succeeds());
      EXPECT_EQ(*recovered == agent::Recovered::kFinished, step == "written");
    }
    const bool stands = step == "written" || step == "ready";
    EXPECT_EQ(registry->load()->rows.size(), stands ? 1U : 0U);
    if (!stands) continue;
    EXPECT_TRUE(unlock(row.id).activated);
  }
}

TEST_F(SeveralKeysTest, AdoptingItBringsBackAllItsKeys) {
  const VolumeId id = make(2);
  stop();
  for (const char* name : {"keyring.db", "registry.db"}) {
    for (const char* more : {"", "-wal", "-shm"})
      std::filesystem::remove(folder / (std::string(name) + more));
  }
  start();
  run_until_idle();
  EXPECT_EQ(finish(engine->adopt("/dev/vda", {}, admin())).state, agent::JobState::kDone);
  EXPECT_EQ(registry->find(id)->keys, keys);
  for (const CmkId& key : keys) {
    EXPECT_EQ(keyring->get(key)->state, keyring::KeyState::kDisabled);
  }
  const std::string name = registry->find(id)->mapped_name;
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kThresholdNotMet);
  enable(0);
  EXPECT_EQ(error_of(engine->unlock({id}, {}, admin()))->reason(), Reason::kThresholdNotMet);
  enable(2);
  EXPECT_EQ(finish(engine->unlock({id}, {}, admin())).state, agent::JobState::kDone);
}

TEST_F(SeveralKeysTest, ATokenWhoseNumbersContradictItIsNotAdopted) {
  make(2);
  token_on_disk().threshold = 1;
  const agent::AdoptCall adopting{.call = call(), .device = "/dev/vda", .options = {}};
  const VolumeId id = agent::identify(adopting, *watch.list(), parts()).value();
  EXPECT_THAT(agent::adopt(adopting, id, *watch.list(), parts()), FailsWith(Reason::kTokenInvalid));
}

}  // namespace
}  // namespace coffer::tests

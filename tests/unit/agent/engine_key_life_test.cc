// SPDX-License-Identifier: Apache-2.0
// The life of keys as a caller of the engine sees it: changes, what volumes bind, what the clock
// does.
#include <gmock/gmock.h>

#include <future>

#include "agent/volume/bindings.h"
#include "core/crypto/rsa.h"
#include "core/keyring/due_work.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_key_store.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::resource_of;
using keyring::CmkChange;
using keyring::KeyState;
using std::chrono::hours;
using ::testing::HasSubstr;

constexpr auto kDay = hours(24);

CmkChange with_days(CmkChange::Kind kind, std::uint32_t days) {
  CmkChange change = kind;
  change.days = days;
  return change;
}

class EngineKeyLifeTest : public EngineFixture {
 protected:
  EngineKeyLifeTest() { clock = &fake_clock; }

  Result<agent::KeyInfo> create(const keyring::CmkParameters& parameters) {
    std::optional<Result<agent::KeyInfo>> made;
    engine->create_key(parameters, admin(), [&](const auto& key) { made = key; });
    run_until([&] { return made.has_value(); });
    return *made;
  }
  CmkId create(const std::string& alias) {
    keyring::CmkParameters parameters;
    parameters.alias = alias;
    return create(parameters)->record.id;
  }
  KeyState state_of(const CmkId& id) { return engine->key(id.str())->record.state; }
  std::vector<std::string> bound(const CmkId& id) { return keyring->bindings(id, "", 100).value(); }

  // A minute with each turn of the loop.
  bool pass_time_until(const std::function<bool()>& done) {
    return run_until([&] {
      fake_clock.advance(std::chrono::minutes(1));
      return done();
    });
  }

  FakeClock fake_clock;
};

TEST_F(EngineKeyLifeTest, AKeyGoesThroughItsStates) {
  const CmkId id = create("second");
  for (const auto& [change, state] : std::vector<std::pair<CmkChange, KeyState>>{
           {CmkChange::kDisable, KeyState::kDisabled},
           {CmkChange::kEnable, KeyState::kEnabled},
           {CmkChange::kArchive, KeyState::kArchived},
           {CmkChange::kCancelArchive, KeyState::kEnabled},
           {CmkChange::kDisable, KeyState::kDisabled},
           {with_days(CmkChange::kScheduleDeletion, 7), KeyState::kPendingDelete},
           {CmkChange::kCancelDeletion, KeyState::kDisabled},
       }) {
    EXPECT_THAT(change_key(id, change), Succeeds());
    EXPECT_EQ(state_of(id), state);
  }
  EXPECT_THAT(change_key(id, CmkChange::kCancelArchive), FailsWith(Reason::kKeyNotArchived));
  EXPECT_THAT(change_key(id, CmkChange::kRotate), FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(change_key(*CmkId::random(), CmkChange::kEnable), FailsWith(Reason::kNoSuchKey));
}

TEST_F(EngineKeyLifeTest, AliasDescriptionAndTagsChangeAndOutliveARestart) {
  CmkChange change = CmkChange::kDescribe;
  change.alias = "renamed";
  change.description = "of the database";
  const CmkId id = key_id();
  ASSERT_THAT(change_key(id, change), Succeeds());
  std::optional<Result<void>> tagged;
  engine->set_key_tags(id, {{"team", "storage"}, {"env", "prod"}}, admin(),
                       [&](const Result<void>& done) { tagged = done; });
  run_until([&] { return tagged.has_value(); });
  ASSERT_THAT(*tagged, Succeeds());
  const std::vector<keyring::KeyTag> wanted{{"env", "prod"}, {"team", "storage"}};
  EXPECT_EQ(engine->key("renamed")->tags, wanted);
  stop();
  start();
  EXPECT_EQ(engine->key("renamed")->tags, wanted);
  EXPECT_EQ(engine->key(id.str())->record.description, "of the database");
}

class EngineKeyTagsTest : public EngineFixture {
 protected:
  EngineKeyTagsTest() {
    make_store = [this] {
      auto made = std::make_unique<FakeKeyStore>();
      fake_store = made.get();
      return made;
    };
  }
  void tag(const std::string& value) {
    engine->set_key_tags(key_id(), {{"team", value}}, admin(), [this](const Result<void>& end) {
      EXPECT_THAT(end, Succeeds());
      ++ended;
    });
  }
  FakeKeyStore* fake_store = nullptr;
  std::size_t ended = 0;
};

// The first one has read what it is to tell when the second one changes it, and is told last.
TEST_F(EngineKeyTagsTest, TagsThatAreSetTwiceAtATimeShowAsTheStoreHasThem) {
  std::promise<void> read;
  std::promise<void> go_on;
  fake_store->after_tags([&] {
    read.set_value();
    go_on.get_future().wait();
  });
  tag("first");
  read.get_future().wait();
  tag("second");
  const std::vector<keyring::KeyTag> second{{"team", "second"}};
  ASSERT_TRUE(run_until([&] { return audit.count(audit::Kind::kResult, "key.tag") == 2U; }));
  // Time for it to be told, which it takes if it waits for nobody.
  const Deadline deadline = Deadline::after(std::chrono::milliseconds(300));
  run_until([&] { return ended == 1U || deadline.passed(); });
  go_on.set_value();
  ASSERT_TRUE(run_until([&] { return ended == 2U; }));
  EXPECT_EQ(keyring->tags(key_id()).value(), second);
  EXPECT_EQ(engine->key("default")->tags, second);
}

TEST_F(EngineKeyLifeTest, KeysAreFoundByWhatIsKnownOfThem) {
  const CmkId other = create("other");
  ASSERT_THAT(change_key(other, CmkChange::kArchive), Succeeds());
  keyring::KeyQuery query;
  query.filter.state = KeyState::kArchived;
  std::optional<Result<std::vector<agent::KeyInfo>>> found;
  engine->list_keys(query, [&](const auto& keys) { found = keys; });
  run_until([&] { return found.has_value(); });
  ASSERT_THAT(*found, Succeeds());
  ASSERT_EQ((*found)->size(), 1U);
  EXPECT_EQ((**found)[0].record.id, other);
}

TEST_F(EngineKeyLifeTest, AKeyThatVolumesUseIsTakenAwayOnlyIfThatIsSaid) {
  const VolumeId id = provision(plug("vda"), "data");
  EXPECT_THAT(bound(key_id()), ::testing::ElementsAre(resource_of(id)));
  for (const CmkChange& change : {CmkChange(CmkChange::kDisable), CmkChange(CmkChange::kArchive)}) {
    const auto refused = change_key(key_id(), change);
    EXPECT_THAT(refused, FailsWith(Reason::kKeyBound));
  }
  run_until([&] { return audit.count(audit::Kind::kRefused, "key.disable") == 1U; });
  EXPECT_EQ(state_of(key_id()), KeyState::kEnabled);
  EXPECT_THAT(change_key(key_id(), CmkChange::kRotate), Succeeds()) << "takes nothing from them";

  EXPECT_THAT(change_key(key_id(), CmkChange::kDisable, true), Succeeds());
  EXPECT_THAT(change_key(key_id(), with_days(CmkChange::kScheduleDeletion, 7)),
              FailsWith(Reason::kKeyBound));
  EXPECT_THAT(change_key(key_id(), with_days(CmkChange::kScheduleDeletion, 7), true), Succeeds());
}

TEST_F(EngineKeyLifeTest, OfSeveralKeysTheRefusalSaysHowManyVolumesNeedThisOne) {
  const CmkId one = create("one");
  const CmkId two = create("two");
  const auto refusal = [&] {
    const auto refused = change_key(one, CmkChange::kDisable);
    return refused ? std::string() : refused.error().str();
  };
  provision(plug("vda"), "any", {.keys = {"one", "two"}});
  EXPECT_THAT(refusal(), HasSubstr("opens 1 volume, all of which other keys open as well"));
  const VolumeId both = provision(plug("vdb"), "both", {.keys = {"one", "two"}, .threshold = 2});
  EXPECT_THAT(bound(one), ::testing::Contains(resource_of(both)));
  EXPECT_THAT(bound(two), ::testing::Contains(resource_of(both)));
  EXPECT_THAT(refusal(), HasSubstr("opens 2 volumes, 1 not without it"));
  ASSERT_THAT(change_key(two, CmkChange::kArchive, true), Succeeds());
  EXPECT_THAT(refusal(), HasSubstr("opens 2 volumes, 1 not without it")) << "it still unwraps";
  ASSERT_THAT(change_key(two, CmkChange::kCancelArchive), Succeeds());
  ASSERT_THAT(change_key(two, CmkChange::kDisable, true), Succeeds());
  EXPECT_THAT(refusal(), ::testing::EndsWith("opens 2 volumes"));
  EXPECT_THAT(change_key(two, with_days(CmkChange::kScheduleDeletion, 7)),
              FailsWith(Reason::kKeyBound));
}

// Of several keys the others suffice, or they do not.
TEST_F(EngineKeyLifeTest, AVolumeIsAdoptedWithoutAKeyThatIsGoneIfItOpensWithoutIt) {
  const CmkId one = create("one");
  create("two");
  const VolumeId any = provision(plug("vda"), "any", {.keys = {"one", "two"}});
  const VolumeId both = provision(plug("vdb"), "both", {.keys = {"one", "two"}, .threshold = 2});
  finish(engine->lock({any, both}, {}, admin()));
  ASSERT_THAT(change_key(one, CmkChange::kDisable, true), Succeeds());
  ASSERT_THAT(change_key(one, with_days(CmkChange::kScheduleDeletion, 7), true), Succeeds());
  fake_clock.advance(7 * kDay);
  ASSERT_TRUE(pass_time_until([&] { return !engine->key(one.str()); }));

  const auto job = engine->adopt("/dev/vda", {}, admin());
  EXPECT_EQ(finish(job).state, agent::JobState::kDone);
  EXPECT_THAT(engine->job_items(*job)->at(0).note, HasSubstr("without key " + one.str()));
  EXPECT_EQ(error_of(engine->unlock({any}, {}, admin())), std::nullopt);
  const auto refused = error_of(engine->adopt("/dev/vdb", {}, admin()));
  ASSERT_TRUE(refused);
  EXPECT_EQ(refused->reason(), Reason::kNoSuchKey);
}

TEST_F(EngineKeyLifeTest, TheTrailSaysWhyAndHow) {
  provision(plug("vda"), "data");
  agent::Caller caller = admin();
  caller.reason = "ticket 7";
  std::optional<Result<void>> disabled;
  engine->change_key(key_id(), {CmkChange::kDisable, true}, caller,
                     [&](const Result<void>& done) { disabled = done; });
  run_until([&] { return disabled.has_value(); });
  ASSERT_THAT(*disabled, Succeeds());
  std::vector<std::string> texts;
  for (const auto& event : audit.events()) {
    if (event.operation == "key.disable") texts.push_back(event.text);
  }
  EXPECT_THAT(texts, ::testing::ElementsAre("reason: ticket 7", "alias default, by force",
                                            "alias default, by force"));
}

TEST_F(EngineKeyLifeTest, AReasonThatCannotBeRecordedStopsWhatItIsGivenFor) {
  agent::Caller caller = admin();
  caller.reason = "ticket 7";
  audit.fail_when([](const audit::Event& event) { return event.kind == audit::Kind::kNote; });
  std::optional<Result<void>> disabled;
  engine->change_key(key_id(), {CmkChange::kDisable}, caller,
                     [&](const Result<void>& done) { disabled = done; });
  run_until([&] { return disabled.has_value(); });
  EXPECT_THAT(*disabled, FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(state_of(key_id()), KeyState::kEnabled);
  audit.succeed_again();

  // Of a key that is made the reason names it.
  keyring::CmkParameters parameters;
  parameters.alias = "made";
  std::optional<Result<agent::KeyInfo>> made;
  engine->create_key(parameters, caller, [&](const auto& key) { made = key; });
  run_until([&] { return made.has_value(); });
  ASSERT_THAT(*made, Succeeds());
  std::vector<std::string> texts;
  for (const auto& event : audit.events()) {
    if (event.cmk == (*made)->record.id) texts.push_back(event.text);
  }
  EXPECT_THAT(texts, ::testing::ElementsAre("reason: ticket 7", "alias made", "alias made"));
}

TEST_F(EngineKeyLifeTest, AForgottenVolumeBindsNothing) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  std::optional<Result<void>> forgotten;
  engine->forget(id, admin(), [&](const Result<void>& done) { forgotten = done; });
  run_until([&] { return forgotten.has_value(); });
  ASSERT_THAT(*forgotten, Succeeds());
  EXPECT_THAT(bound(key_id()), ::testing::IsEmpty());
  EXPECT_THAT(change_key(key_id(), CmkChange::kDisable), Succeeds());
}

TEST_F(EngineKeyLifeTest, BindingsThatACrashLeftAreSettledAtTheNextStart) {
  const VolumeId id = provision(plug("vda"), "data");
  const CmkId key = key_id();
  const audit::Actor actor{};
  ASSERT_THAT(keyring->unbind(key, resource_of(id), actor), Succeeds());
  ASSERT_THAT(keyring->bind(key, resource_of(*VolumeId::random()), actor), Succeeds());
  ASSERT_THAT(keyring->bind(key, "backup:nightly", actor), Succeeds());
  stop();
  start();
  EXPECT_TRUE(run_until([&] {
    return bound(key) == std::vector<std::string>{"backup:nightly", resource_of(id)};
  })) << "others' bindings stay";
}

TEST_F(EngineKeyLifeTest, AVolumeWhoseKeyIsDisabledIsBoundWhenItIsEnabled) {
  const VolumeId id = provision(plug("vda"), "data");
  const CmkId key = key_id();
  ASSERT_THAT(change_key(key, CmkChange::kDisable, true), Succeeds());
  ASSERT_THAT(keyring->unbind(key, resource_of(id), {}), Succeeds());
  stop();
  start();
  run_until_idle();
  EXPECT_THAT(change_key(key, with_days(CmkChange::kScheduleDeletion, 7)),
              FailsWith(Reason::kKeyBound))
      << "its row counts all the same";
  ASSERT_THAT(change_key(key, CmkChange::kEnable), Succeeds());
  EXPECT_TRUE(run_until([&] { return bound(key) == std::vector{resource_of(id)}; }));
}

TEST_F(EngineKeyLifeTest, AVolumeWhoseKeyIsArchivedIsBoundWhenItComesBack) {
  const VolumeId id = provision(plug("vda"), "data");
  const CmkId key = key_id();
  ASSERT_THAT(change_key(key, CmkChange::kArchive, true), Succeeds());
  ASSERT_THAT(keyring->unbind(key, resource_of(id), {}), Succeeds());
  ASSERT_THAT(change_key(key, CmkChange::kCancelArchive), Succeeds());
  EXPECT_TRUE(run_until([&] { return bound(key) == std::vector{resource_of(id)}; }));
}

TEST_F(EngineKeyLifeTest, BindingsThatCannotBeRecordedAreSettledLater) {
  const VolumeId id = provision(plug("vda"), "data");
  const CmkId key = key_id();
  ASSERT_THAT(keyring->unbind(key, resource_of(id), {}), Succeeds());
  stop();
  audit.fail_always();
  start();
  int turns = 0;
  run_until([&] { return ++turns > 50; });
  EXPECT_THAT(bound(key), ::testing::IsEmpty());
  audit.succeed_again();
  EXPECT_TRUE(run_until([&] { return bound(key) == std::vector{resource_of(id)}; }));
}

TEST_F(EngineKeyLifeTest, AKeyRotatesByItselfWhenItsTimeHasCome) {
  ASSERT_THAT(change_key(key_id(), with_days(CmkChange::kSetRotation, 7)), Succeeds());
  fake_clock.advance(7 * kDay - std::chrono::seconds(1));
  run_until_idle();
  EXPECT_EQ(engine->key("default")->record.current().number, 1U);
  fake_clock.advance(std::chrono::seconds(1));
  EXPECT_TRUE(run_until([&] { return engine->key("default")->record.current().number == 2U; }));
  fake_clock.advance(7 * kDay);
  EXPECT_TRUE(run_until([&] { return engine->key("default")->record.current().number == 3U; }));
}

TEST_F(EngineKeyLifeTest, WhatBecameDueWhileNoAgentRanIsDoneAtItsStart) {
  ASSERT_THAT(change_key(key_id(), with_days(CmkChange::kSetRotation, 7)), Succeeds());
  stop();
  fake_clock.advance(8 * kDay);
  start();
  EXPECT_TRUE(run_until([&] { return engine->key("default")->record.current().number == 2U; }));
}

TEST_F(EngineKeyLifeTest, WhatIsDueWaitsForTheToken) {
  ASSERT_THAT(change_key(key_id(), with_days(CmkChange::kSetRotation, 7)), Succeeds());
  vault->go_away();
  fake_clock.advance(7 * kDay);
  run_until([&] { return audit.count(audit::Kind::kResult, "key.rotate") >= 1U; });
  EXPECT_EQ(engine->key("default")->record.current().number, 1U);
  vault->come_back();
  EXPECT_TRUE(
      pass_time_until([&] { return engine->key("default")->record.current().number == 2U; }));
}

TEST_F(EngineKeyLifeTest, AKeyIsDestroyedWhenItsTimeHasSurelyCome) {
  const CmkId id = create("second");
  ASSERT_THAT(change_key(id, CmkChange::kDisable), Succeeds());
  ASSERT_THAT(change_key(id, with_days(CmkChange::kScheduleDeletion, 7)), Succeeds());
  fake_clock.advance(7 * kDay);
  const auto due = fake_clock.wall();
  EXPECT_TRUE(pass_time_until([&] { return !engine->key(id.str()); }));
  EXPECT_GE(fake_clock.wall(), due + keyring::DueWork::kSureAfter) << "the clock may be wrong";
  EXPECT_THAT(engine->key("second"), FailsWith(Reason::kNoSuchKey));
  EXPECT_NE(create("second"), id) << "its name is free again";
}

TEST_F(EngineKeyLifeTest, AClockThatWasTurnedBackIsNoticedThatDay) {
  fake_clock.jump(300 * kDay);
  ASSERT_THAT(change_key(key_id(), with_days(CmkChange::kSetRotation, 7)), Succeeds());
  fake_clock.jump(-300 * kDay);
  const auto planned = [&] { return *engine->key("default")->record.next_rotation; };
  run_until_idle();
  EXPECT_GT(planned(), fake_clock.wall() + 300 * kDay);
  const auto turned = fake_clock.wall();
  EXPECT_TRUE(pass_time_until([&] { return planned() <= fake_clock.wall() + 7 * kDay; }));
  EXPECT_LT(fake_clock.wall(), turned + kDay);
}

TEST_F(EngineKeyLifeTest, ImportedMaterialOpensTheKeyUntilItExpires) {
  keyring::CmkParameters parameters;
  parameters.alias = "brought";
  parameters.origin = keyring::KeyOrigin::kImported;
  const auto key = create(parameters);
  ASSERT_THAT(key, Succeeds());
  EXPECT_EQ(key->record.state, KeyState::kPendingImport);
  std::optional<Result<keyring::ImportParameters>> prepared;
  engine->prepare_import(key->record.id, keyring::ImportWrapping::kRsaOaepSha256, admin(),
                         [&](const auto& done) { prepared = done; });
  run_until([&] { return prepared.has_value(); });
  ASSERT_THAT(*prepared, Succeeds());
  EXPECT_FALSE((*prepared)->public_key.empty());

  const auto import = [&](const CmkId& id, const Bytes& wrapped) {
    const keyring::ImportMaterial material{(*prepared)->token, wrapped, fake_clock.wall() + kDay};
    std::optional<Result<void>> imported;
    engine->import_material(id, material, admin(), [&](const auto& done) { imported = done; });
    run_until([&] { return imported.has_value(); });
    return *imported;
  };
  EXPECT_THAT(import(key->record.id, Bytes(256)), FailsWith(Reason::kImportRefused));
  EXPECT_THAT(import(key_id(), Bytes(256)), FailsWith(Reason::kKeyNotImported));
  const auto to = crypto::RsaPublicKey::parse((*prepared)->public_key);
  const auto wrapped = to->encrypt(crypto::kOaepSha256, SecretBytes::random(32)->reveal());
  ASSERT_THAT(import(key->record.id, *wrapped), Succeeds());
  EXPECT_EQ(state_of(key->record.id), KeyState::kEnabled);

  fake_clock.advance(kDay);
  EXPECT_TRUE(
      pass_time_until([&] { return state_of(key->record.id) == KeyState::kPendingImport; }));
}

TEST_F(EngineKeyLifeTest, MaterialThatExpiresIsNotTakenForAKeyThatARowNames) {
  const VolumeId id = provision(plug("vda"), "data");
  ASSERT_THAT(keyring->unbind(key_id(), resource_of(id), {}), Succeeds());
  const keyring::ImportMaterial material{Bytes(8), Bytes(8), fake_clock.wall() + kDay};
  std::optional<Result<void>> imported;
  engine->import_material(key_id(), material, admin(), [&](const auto& done) { imported = done; });
  run_until([&] { return imported.has_value(); });
  EXPECT_THAT(*imported, FailsWith(Reason::kKeyBound)) << "before anything else of it is looked at";
}

}  // namespace
}  // namespace coffer::tests

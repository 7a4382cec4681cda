// SPDX-License-Identifier: Apache-2.0
// The life of keys: every change in every state, for keys of users and of services, and what the
// clock does. What keys are used for in every state: key_use_states_test.cc.
#include <gtest/gtest.h>

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tests/unit/core/keyring/key_states_fixture.h"

namespace coffer::tests {
namespace {

using audit::Kind;
using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::ImportWrapping;
using keyring::KeyOrigin;
using keyring::KeyOwner;
using keyring::Keyring;
using keyring::KeyState;
using keyring::WhenBound;
using std::chrono::days;
using std::chrono::hours;

using KeyLifeTest = KeyStatesFixture;

// What is expected of one operation in one state.
struct Expected {
  std::optional<Reason> refused{};  // None: it succeeds,
  std::optional<KeyState> to{};     // and leads there; none: the state stays.
  bool changes = true;              // Else it is so already: nothing is done, and nothing recorded.
};
Expected stays() {
  return {};
}
Expected is_so_already() {
  return {{}, {}, false};
}
Expected leads_to(KeyState state) {
  return {{}, state};
}
Expected fails_with(Reason reason) {
  return {reason, {}};
}

struct Operation {
  const char* name;
  const char* audited;  // Its operation in the audit trail.
  std::function<Result<void>(Keyring&, const CmkId&, const audit::Actor&)> run;
  // Of a user's key, by state: Enabled, Disabled, Archived, PendingImport, PendingDelete,
  // Destroyed.
  std::vector<Expected> expected;
  std::optional<Reason> of_service{};  // Refused for every service's key, whatever its state.
};

template <class T>
Result<void> ended(const Result<T>& result) {
  if (!result) return tl::unexpected(result.error());
  return {};
}

// reference: kms-api.md section 3, with the names of error_reasons.h.
std::vector<Operation> changes_of_material() {
  constexpr auto kService = Reason::kServiceKey;
  const auto refused = [](Reason reason) { return fails_with(reason); };
  const auto gone = refused(Reason::kNoSuchKey);
  const auto generated = refused(Reason::kKeyNotImported);
  std::vector<Operation> all;
  const auto add = [&](const char* name, const char* audited, auto run,
                       std::vector<Expected> expected, std::optional<Reason> of_service = {}) {
    all.push_back({name, audited, run, std::move(expected), of_service});
  };
  add(
      "prepare import", "key.prepare-import",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.prepare_import(id, ImportWrapping::kRsaOaepSha256, a));
      },
      {generated, generated, generated, stays(), generated, gone}, kService);
  add(
      "import material", "key.import",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.import_material(id, {Bytes(69), Bytes(256), {}}, a));
      },
      {generated, generated, generated, refused(Reason::kImportTokenExpired), generated, gone},
      kService);
  add(
      "delete material", "key.delete-material",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.delete_material(id, a));
      },
      {generated, generated, generated, refused(Reason::kKeyPendingImport), generated, gone},
      kService);
  return all;
}

std::vector<Operation> changes_of_versions() {
  constexpr auto kService = Reason::kServiceKey;
  constexpr auto kGone = Reason::kNoSuchKey;
  const auto refused = [](Reason reason) { return fails_with(reason); };
  std::vector<Operation> all;
  const auto add = [&](const char* name, const char* audited, auto run,
                       std::vector<Expected> expected, std::optional<Reason> of_service) {
    all.push_back({name, audited, run, std::move(expected), of_service});
  };
  add(
      "destroy the current version", "key.destroy-version",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        const auto key = k.get(id);
        return ended(k.destroy_version(id, key ? key->current().number : 2, a));
      },
      {refused(Reason::kInvalidArgs), refused(Reason::kInvalidArgs), refused(Reason::kInvalidArgs),
       refused(Reason::kInvalidArgs), refused(Reason::kInvalidArgs), refused(kGone)},
      kService);
  add(
      "destroy a version", "key.destroy-version",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.destroy_version(id, 1, a));
      },
      {refused(Reason::kKeyNotDisabled), stays(), refused(Reason::kKeyNotDisabled),
       refused(Reason::kInvalidArgs), stays(), refused(kGone)},
      kService);
  add(
      "destroy a version by force", "key.destroy-version",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.destroy_version(id, 1, a, WhenBound::kGoOn));
      },
      {stays(), stays(), stays(), refused(Reason::kInvalidArgs), stays(), refused(kGone)},
      kService);
  return all;
}

std::vector<Operation> table() {
  constexpr auto kDisabled = Reason::kKeyDisabled;
  constexpr auto kArchived = Reason::kKeyArchived;
  constexpr auto kImport = Reason::kKeyPendingImport;
  constexpr auto kDelete = Reason::kKeyPendingDeletion;
  constexpr auto kGone = Reason::kNoSuchKey;
  constexpr auto kService = Reason::kServiceKey;
  const auto refused = [](Reason reason) { return fails_with(reason); };
  std::vector<Operation> all;
  const auto add = [&](const char* name, const char* audited, auto run,
                       std::vector<Expected> expected, std::optional<Reason> of_service = {}) {
    all.push_back({name, audited, run, std::move(expected), of_service});
  };
  add("enable", "key.enable",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) { return ended(k.enable(id, a)); },
      {is_so_already(), leads_to(KeyState::kEnabled), refused(kArchived), refused(kImport),
       refused(kDelete), refused(kGone)});
  add(
      "disable", "key.disable",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) { return ended(k.disable(id, a)); },
      {leads_to(KeyState::kDisabled), is_so_already(), refused(kArchived), refused(kImport),
       refused(kDelete), refused(kGone)},
      kService);
  add(
      "archive", "key.archive",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) { return ended(k.archive(id, a)); },
      {leads_to(KeyState::kArchived), leads_to(KeyState::kArchived), is_so_already(),
       refused(kImport), refused(kDelete), refused(kGone)},
      kService);
  add(
      "cancel archive", "key.cancel-archive",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.cancel_archive(id, a));
      },
      {refused(Reason::kKeyNotArchived), refused(Reason::kKeyNotArchived),
       leads_to(KeyState::kEnabled), refused(kImport), refused(kDelete), refused(kGone)},
      kService);
  add(
      "schedule deletion", "key.schedule-deletion",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.schedule_deletion(id, 30, a));
      },
      {refused(Reason::kKeyNotDisabled), leads_to(KeyState::kPendingDelete),
       refused(Reason::kKeyNotDisabled), leads_to(KeyState::kPendingDelete), refused(kDelete),
       refused(kGone)},
      kService);
  add("cancel deletion", "key.cancel-deletion",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.cancel_deletion(id, a));
      },
      {refused(Reason::kKeyNotPendingDeletion), refused(Reason::kKeyNotPendingDeletion),
       refused(Reason::kKeyNotPendingDeletion), refused(Reason::kKeyNotPendingDeletion),
       leads_to(KeyState::kDisabled), refused(kGone)});
  add("rotate", "key.rotate",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) { return ended(k.rotate(id, a)); },
      {stays(), refused(kDisabled), refused(kArchived), refused(Reason::kKeyImported),
       refused(kDelete), refused(kGone)});
  add("rotate by itself", "key.set-rotation",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.set_rotation(id, 90, a));
      },
      {stays(), refused(kDisabled), refused(kArchived), refused(Reason::kKeyImported),
       refused(kDelete), refused(kGone)});
  add("never rotate by itself", "key.set-rotation",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.set_rotation(id, 0, a));
      },
      {stays(), stays(), stays(), stays(), stays(), refused(kGone)});
  add(
      "describe", "key.describe",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.describe(id, "renamed", "new words", a));
      },
      {stays(), stays(), stays(), stays(), refused(kDelete), refused(kGone)}, kService);
  add("tag", "key.tag",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return k.set_tags(id, {{"team", "storage"}}, a);
      },
      {stays(), stays(), stays(), stays(), refused(kDelete), refused(kGone)});
  add("bind", "key.bind",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) { return k.bind(id, "volume:1", a); },
      {stays(), refused(kDisabled), refused(kArchived), refused(kImport), refused(kDelete),
       refused(kGone)});
  add("unbind", "key.unbind",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return k.unbind(id, "volume:1", a);
      },
      {stays(), stays(), stays(), stays(), stays(), refused(kGone)});
  for (auto& row : changes_of_material()) all.push_back(std::move(row));
  for (auto& row : changes_of_versions()) all.push_back(std::move(row));
  return all;
}

TEST_F(KeyLifeTest, EveryChangeInEveryStateEndsAsTheTableSays) {
  // A key that was generated has an older version, 1.
  const OnceMade rotate = [this](const CmkRecord& key) {
    ASSERT_THAT(keyring_->rotate(key.id, actor_), Succeeds());
  };
  for (const auto& operation : table()) {
    for (std::size_t s = 0; s < kStates.size(); ++s) {
      for (const auto owner : {KeyOwner::kUser, KeyOwner::kService}) {
        const auto key = create_in(kStates[s], owner, {}, rotate);
        if (!key) continue;
        SCOPED_TRACE(std::string(operation.name) + ", " + std::string(key_state_name(kStates[s])) +
                     ", key of a " + std::string(key_owner_name(owner)));
        Expected expected = operation.expected.at(s);
        const bool is_so = !expected.refused && !expected.changes;
        if (owner == KeyOwner::kService && operation.of_service && !is_so) {
          expected = fails_with(*operation.of_service);
        }
        const auto before = log_.events().size();
        const auto done = operation.run(*keyring_, key->id, actor_);
        if (expected.refused) {
          EXPECT_THAT(done, FailsWith(*expected.refused));
        } else {
          EXPECT_THAT(done, Succeeds());
        }
        const auto now = keyring::CmkRecord::decode(store_.row(key->id).record);
        ASSERT_THAT(now, Succeeds());
        EXPECT_EQ(now->state, expected.to.value_or(kStates[s]));

        // On record: what was done between intent and result, what was refused as well. What is so
        // already leaves nothing.
        audit::Event flush;
        flush.kind = Kind::kNote;
        flush.operation = "flush";
        static_cast<void>(log_.append_one(flush));
        const auto events = log_.events();
        const bool changed = !expected.refused && expected.changes;
        EXPECT_EQ(now->revision > key->revision || store_.row(key->id).intent > before, changed);
        if (expected.refused) {
          ASSERT_GE(events.size(), before + 2);
        } else {
          ASSERT_EQ(events.size(), before + (changed ? 3U : 1U));
        }
        if (events.size() > before + 1) {
          const auto& last = events[events.size() - 2];
          EXPECT_EQ(last.operation, operation.audited);
          EXPECT_EQ(last.cmk, key->id);
          EXPECT_EQ(last.outcome, expected.refused
                                      ? std::string(reason_info(*expected.refused).name)
                                      : std::string(audit::kOutcomeOk));
        }
        const auto renamed = keyring_->find("renamed");
        if (renamed) {
          ASSERT_THAT(
              keyring_->describe(renamed->id, "was-" + std::to_string(++created_), "", actor_),
              Succeeds());
        }
      }
    }
  }
}

TEST_F(KeyLifeTest, AKeyCanBeRescuedUntilTheLastSecondAndNotAfter) {
  const CmkRecord early = *create_in(KeyState::kPendingDelete, KeyOwner::kUser);
  const CmkRecord late = *create_in(KeyState::kPendingDelete, KeyOwner::kUser);
  clock_.advance(days(7) - std::chrono::seconds(1));
  EXPECT_TRUE(keyring_->run_due(actor_)->done.empty());
  EXPECT_EQ(keyring_->cancel_deletion(early.id, actor_)->state, KeyState::kDisabled);
  clock_.advance(std::chrono::seconds(1));
  EXPECT_THAT(keyring_->cancel_deletion(late.id, actor_), FailsWith(Reason::kKeyPendingDeletion));

  const auto report = run_due_for_sure();
  ASSERT_THAT(report, Succeeds());
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].id, late.id);
  EXPECT_EQ(report->next, std::nullopt);
  EXPECT_THAT(keyring_->get(late.id), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(keyring_->get(early.id), Succeeds());
}

TEST_F(KeyLifeTest, ACopyOfADestroyedKeyDoesNotBringItBack) {
  const CmkRecord key = create();
  const auto copy = store_.row(key.id).record;
  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), Succeeds());
  clock_.advance(days(7));
  ASSERT_EQ(run_due_for_sure()->done.size(), 1U);

  EXPECT_THAT(keyring_->adopt({&copy, 1}, actor_).at(0), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(vault_->present(copy), FailsWith(Reason::kRecordSuperseded));
  CmkParameters parameters;
  parameters.alias = key.alias;
  EXPECT_THAT(keyring_->create(parameters, actor_), Succeeds()) << "its alias is free again";
}

// The store is put aside, and the vault alone knows.
TEST_F(KeyLifeTest, WhatWasDestroyedDoesNotComeBackWhenTheStoreIsLost) {
  const CmkRecord key = create();
  const auto blob = *wrap(key.id);
  ASSERT_THAT(keyring_->rotate(key.id, actor_), Succeeds());
  const auto both = store_.row(key.id).record;
  ASSERT_THAT(keyring_->destroy_version(key.id, 1, actor_, WhenBound::kGoOn), Succeeds());
  store_.rows().clear();
  ASSERT_THAT(keyring_->adopt({&both, 1}, actor_).at(0), Succeeds());
  ASSERT_THAT(keyring_->enable(key.id, actor_), Succeeds());
  EXPECT_THAT(unwrap(blob), FailsWith(Reason::kBlobInvalid));

  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), Succeeds());
  const auto pending = store_.row(key.id).record;
  store_.rows().clear();
  EXPECT_EQ(keyring_->adopt({&pending, 1}, actor_).at(0)->state, KeyState::kPendingDelete);
  clock_.advance(days(7));
  ASSERT_EQ(run_due_for_sure()->done.size(), 1U);
  store_.rows().clear();
  EXPECT_THAT(keyring_->adopt({&both, 1}, actor_).at(0), FailsWith(Reason::kNoSuchKey));
  EXPECT_EQ(log_.events().back().outcome, "NoSuchKey");
}

// A record that takes no further version still takes every change of state.
TEST_F(KeyLifeTest, AFullRecordIsStillDisabledAndDeleted) {
  CmkParameters parameters;
  parameters.description = std::string(1024, 'x');
  const CmkRecord key = create(parameters);
  ASSERT_THAT(keyring_->set_rotation(key.id, 0, actor_), Succeeds());
  auto rotated = keyring_->rotate(key.id, actor_);
  while (rotated) rotated = keyring_->rotate(key.id, actor_);
  ASSERT_THAT(rotated, FailsWith(Reason::kLimitsExceeded));
  EXPECT_GT(store_.row(key.id).record.size(), CmkRecord::kEncodedBytesMax - 200U);

  ASSERT_THAT(keyring_->set_rotation(key.id, 90, actor_), Succeeds());
  ASSERT_THAT(keyring_->archive(key.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->cancel_archive(key.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->schedule_deletion(key.id, 30, actor_), Succeeds());
  ASSERT_THAT(keyring_->cancel_deletion(key.id, actor_), Succeeds());

  // Room comes back with the oldest version.
  ASSERT_THAT(keyring_->enable(key.id, actor_), Succeeds());
  for (const std::uint32_t number : {1U, 2U}) {
    ASSERT_THAT(keyring_->destroy_version(key.id, number, actor_, WhenBound::kGoOn), Succeeds());
  }
  const auto last = keyring_->get(key.id)->current().number;
  const auto again = keyring_->rotate(key.id, actor_);
  ASSERT_THAT(again, Succeeds());
  EXPECT_EQ(again->versions.front().number, 3U);
  EXPECT_EQ(again->current().number, last + 1);
}

TEST_F(KeyLifeTest, AKeyRotatesByItselfOnceItsTimeHasCome) {
  const CmkRecord key = create();
  const auto set = keyring_->set_rotation(key.id, 30, actor_);
  ASSERT_THAT(set, Succeeds());
  EXPECT_EQ(set->next_rotation, clock_.wall() + days(30));
  EXPECT_EQ(keyring_->run_due(actor_)->next, set->next_rotation);

  clock_.advance(days(30));
  const auto report = keyring_->run_due(actor_);
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].current().number, 2U);
  EXPECT_EQ(report->next, clock_.wall() + days(30));
  EXPECT_TRUE(keyring_->run_due(actor_)->done.empty());

  // What it misses while it is disabled is made up for when it is enabled.
  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  clock_.advance(days(100));
  EXPECT_TRUE(keyring_->run_due(actor_)->done.empty());
  ASSERT_THAT(keyring_->enable(key.id, actor_), Succeeds());
  EXPECT_EQ(keyring_->run_due(actor_)->done.at(0).current().number, 3U);

  ASSERT_THAT(keyring_->set_rotation(key.id, 0, actor_), Succeeds());
  EXPECT_EQ(keyring_->run_due(actor_)->next, std::nullopt);
}

TEST_F(KeyLifeTest, PeriodsOutsideTheirLimitsAreRefused) {
  const CmkRecord key = create();
  for (const std::uint32_t period : {1U, 6U, 366U}) {
    EXPECT_THAT(keyring_->set_rotation(key.id, period, actor_), FailsWith(Reason::kInvalidArgs));
  }
  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  for (const std::uint32_t period : {0U, 6U, 31U}) {
    EXPECT_THAT(keyring_->schedule_deletion(key.id, period, actor_),
                FailsWith(Reason::kInvalidArgs));
  }
}

TEST_F(KeyLifeTest, AServicesKeyIsNotImported) {
  CmkParameters parameters;
  parameters.alias = "a";
  parameters.owner = KeyOwner::kService;
  parameters.origin = KeyOrigin::kImported;
  EXPECT_THAT(keyring_->create(parameters, actor_), FailsWith(Reason::kUnsupported));
}

// What was asked for in vain is on record too.
TEST_F(KeyLifeTest, RefusedArgumentsAreRecorded) {
  const CmkRecord key = create();
  EXPECT_THAT(keyring_->set_tags(key.id, {{"", "1"}}, actor_), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->bind(key.id, "two words", actor_), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->unbind(key.id, "", actor_), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->describe(key.id, "a b", "", actor_), FailsWith(Reason::kInvalidArgs));
  audit::Event flush;
  flush.kind = Kind::kNote;
  flush.operation = "flush";
  static_cast<void>(log_.append_one(flush));
  for (const char* operation : {"key.tag", "key.bind", "key.unbind", "key.describe"}) {
    EXPECT_EQ(log_.count(Kind::kRefused, operation), 1U) << operation;
  }
}

// With what an auditor asks first: how long, how often, which one, what it is called now.
TEST_F(KeyLifeTest, ChangesAreRecordedWithTheirArguments) {
  const CmkId id = create().id;
  const auto text_of = [&](const char* operation) {
    std::string text;
    for (const auto& event : log_.events()) {
      if (event.kind == Kind::kIntent && event.operation == operation) text = event.text;
    }
    return text;
  };
  const std::string alias = keyring_->get(id)->alias;
  ASSERT_THAT(keyring_->set_rotation(id, 90, actor_), Succeeds());
  EXPECT_EQ(text_of("key.set-rotation"), "alias " + alias + ", every 90 days");
  ASSERT_THAT(keyring_->set_rotation(id, 0, actor_), Succeeds());
  EXPECT_EQ(text_of("key.set-rotation"), "alias " + alias + ", no longer by itself");
  ASSERT_THAT(keyring_->rotate(id, actor_), Succeeds());
  ASSERT_THAT(keyring_->destroy_version(id, 1, actor_, WhenBound::kGoOn), Succeeds());
  EXPECT_EQ(text_of("key.destroy-version"), "alias " + alias + ", version 1, by force");
  ASSERT_THAT(keyring_->describe(id, "other", "", actor_), Succeeds());
  EXPECT_EQ(text_of("key.describe"), "alias " + alias + ", from now on other");
  ASSERT_THAT(keyring_->set_tags(id, {{"team", "storage"}}, actor_), Succeeds());
  EXPECT_EQ(text_of("key.tag"), "team=storage");
  ASSERT_THAT(keyring_->set_tags(id, {}, actor_), Succeeds());
  EXPECT_EQ(text_of("key.tag"), "no tags");
  ASSERT_THAT(keyring_->disable(id, actor_, WhenBound::kGoOn), Succeeds());
  EXPECT_EQ(text_of("key.disable"), "alias other, by force");
  ASSERT_THAT(keyring_->schedule_deletion(id, 9, actor_), Succeeds());
  EXPECT_EQ(text_of("key.schedule-deletion"), "alias other, in 9 days");
}

TEST_F(KeyLifeTest, TagsAreReplacedAndHaveLimits) {
  const CmkRecord key = create();
  ASSERT_THAT(keyring_->set_tags(key.id, {{"team", "storage"}, {"env", "prod"}}, actor_),
              Succeeds());
  EXPECT_EQ(keyring_->tags(key.id)->at(0).name, "env");
  ASSERT_THAT(keyring_->set_tags(key.id, {{"env", "test"}}, actor_), Succeeds());
  EXPECT_EQ(keyring_->tags(key.id)->size(), 1U);

  EXPECT_THAT(keyring_->set_tags(key.id, {{"a", "1"}, {"a", "2"}}, actor_),
              FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->set_tags(key.id, {{"", "1"}}, actor_), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->set_tags(key.id, {{"a", std::string(256, 'x')}}, actor_),
              FailsWith(Reason::kInvalidArgs));
  std::vector<keyring::KeyTag> many;
  many.reserve(51);
  for (int i = 0; i < 51; ++i) many.push_back({"tag-" + std::to_string(i), ""});
  EXPECT_THAT(keyring_->set_tags(key.id, many, actor_), FailsWith(Reason::kLimitsExceeded));
  EXPECT_EQ(keyring_->tags(key.id)->size(), 1U);
}

TEST_F(KeyLifeTest, ADescriptionOfOneThingLeavesTheOtherAsSomebodyElseSetIt) {
  const CmkId id = create().id;
  ASSERT_THAT(keyring_->describe(id, "first", "of the database", actor_), Succeeds());
  keyring::CmkChange rename = keyring::CmkChange::kDescribe;
  rename.alias = "second";
  keyring::CmkChange explain = keyring::CmkChange::kDescribe;
  explain.description = "of the archive";
  ASSERT_THAT(keyring_->change_many({&id, 1}, rename, actor_).at(0), Succeeds());
  ASSERT_THAT(keyring_->change_many({&id, 1}, explain, actor_).at(0), Succeeds());
  EXPECT_EQ(keyring_->get(id)->alias, "second");
  EXPECT_EQ(keyring_->get(id)->description, "of the archive");
}

TEST_F(KeyLifeTest, ManyKeysChangeInOneCallWithOneResultEach) {
  const CmkRecord a = create();
  const CmkRecord b = create(KeyOwner::kService);
  const std::vector<CmkId> ids{a.id, b.id, *CmkId::random()};
  const auto results = keyring_->change_many(ids, keyring::CmkChange::kDisable, actor_);
  ASSERT_EQ(results.size(), 3U);
  EXPECT_THAT(results[0], Succeeds());
  EXPECT_THAT(results[1], FailsWith(Reason::kServiceKey));
  EXPECT_THAT(results[2], FailsWith(Reason::kNoSuchKey));
  for (const auto kind : {keyring::CmkChange::kAdopt, keyring::CmkChange::kLease,
                          keyring::CmkChange::kDestroy, keyring::CmkChange::kExpireMaterial}) {
    EXPECT_THAT(keyring_->change_many({&b.id, 1}, kind, actor_).at(0),
                FailsWith(Reason::kInvalidArgs));
  }
  EXPECT_EQ(keyring_->get(b.id)->state, KeyState::kEnabled);
}

}  // namespace
}  // namespace coffer::tests

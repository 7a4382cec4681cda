// SPDX-License-Identifier: Apache-2.0
// The life of keys: every operation in every state, for keys of users and of services, and what the
// clock does.
#include <gtest/gtest.h>

#include <array>
#include <functional>
#include <optional>

#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {
namespace {

using audit::Kind;
using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::KeyOrigin;
using keyring::KeyOwner;
using keyring::Keyring;
using keyring::KeyState;
using keyring::WhenBound;
using std::chrono::days;
using std::chrono::hours;

class KeyLifeTest : public KeyFixture {
 protected:
  using KeyFixture::create;
  CmkRecord create(KeyOwner owner = KeyOwner::kUser, KeyOrigin origin = KeyOrigin::kGenerated) {
    CmkParameters parameters;
    parameters.owner = owner;
    parameters.origin = origin;
    return create(parameters);
  }

  // A key in `state`, on the shortest way there. A service's key never gets to those that its
  // callers may not bring it to.
  std::optional<CmkRecord> create_in(KeyState state, KeyOwner owner) {
    const bool imported = state == KeyState::kPendingImport;
    CmkRecord key = create(owner, imported ? KeyOrigin::kImported : KeyOrigin::kGenerated);
    const bool reachable = owner == KeyOwner::kUser || key.state == state;
    if (!reachable) return std::nullopt;
    switch (state) {
      case KeyState::kEnabled:
      case KeyState::kPendingImport:
        break;
      case KeyState::kDisabled:
        key = *keyring_->disable(key.id, actor_);
        break;
      case KeyState::kArchived:
        key = *keyring_->archive(key.id, actor_);
        break;
      case KeyState::kPendingDelete:
      case KeyState::kDestroyed:
        key = *keyring_->disable(key.id, actor_);
        key = *keyring_->schedule_deletion(key.id, 7, actor_);
        if (state == KeyState::kPendingDelete) break;
        clock_.advance(days(7));
        key = keyring_->run_due(actor_)->done.at(0);
        break;
    }
    EXPECT_EQ(key.state, state);
    return key;
  }
};

// What is expected of one operation in one state.
struct Expected {
  std::optional<Reason> refused{};  // None: it succeeds,
  std::optional<KeyState> to{};     // and leads there; none: the state stays.
};
Expected stays() {
  return {};
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
      {stays(), leads_to(KeyState::kEnabled), refused(kArchived), refused(kImport),
       refused(kDelete), refused(kGone)});
  add(
      "disable", "key.disable",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) { return ended(k.disable(id, a)); },
      {leads_to(KeyState::kDisabled), stays(), refused(kArchived), refused(kImport),
       refused(kDelete), refused(kGone)},
      kService);
  add(
      "archive", "key.archive",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) { return ended(k.archive(id, a)); },
      {leads_to(KeyState::kArchived), leads_to(KeyState::kArchived), stays(), refused(kImport),
       refused(kDelete), refused(kGone)},
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
  add(
      "delete material", "key.delete-material",
      [](Keyring& k, const CmkId& id, const audit::Actor& a) {
        return ended(k.delete_material(id, a));
      },
      {refused(Reason::kKeyNotImported), refused(Reason::kKeyNotImported),
       refused(Reason::kKeyNotImported), refused(kImport), refused(Reason::kKeyNotImported),
       refused(kGone)},
      kService);
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
  return all;
}

constexpr std::array kStates{KeyState::kEnabled,       KeyState::kDisabled,
                             KeyState::kArchived,      KeyState::kPendingImport,
                             KeyState::kPendingDelete, KeyState::kDestroyed};

TEST_F(KeyLifeTest, EveryOperationInEveryStateEndsAsTheTableSays) {
  for (const auto& operation : table()) {
    for (std::size_t s = 0; s < kStates.size(); ++s) {
      for (const auto owner : {KeyOwner::kUser, KeyOwner::kService}) {
        const auto key = create_in(kStates[s], owner);
        if (!key) continue;
        SCOPED_TRACE(std::string(operation.name) + ", " + std::string(key_state_name(kStates[s])) +
                     ", key of a " + std::string(key_owner_name(owner)));
        Expected expected = operation.expected.at(s);
        if (owner == KeyOwner::kService && operation.of_service) {
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
        const bool idle = !expected.refused && now->revision == key->revision &&
                          store_.row(key->id).intent <= before && events.size() == before + 1;
        if (!idle) {
          ASSERT_GE(events.size(), before + 2);
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

// Wrapping needs Enabled, unwrapping Enabled or Archived.
TEST_F(KeyLifeTest, KeysAreUsedInTheStatesThatTheTableSays) {
  const auto expect = [&](KeyState state, std::optional<Reason> wrap,
                          std::optional<Reason> unwrap) {
    const CmkRecord key = create();
    const auto blob = keyring_->wrap(key.id, one_plain(), actor_).at(0);
    ASSERT_THAT(blob, Succeeds());
    const auto there = create_in(state, KeyOwner::kUser);
    ASSERT_TRUE(there);
    const auto wrapped = keyring_->wrap(there->id, one_plain(), actor_).at(0);
    if (wrap) {
      EXPECT_THAT(wrapped, FailsWith(*wrap)) << key_state_name(state);
    } else {
      EXPECT_THAT(wrapped, Succeeds()) << key_state_name(state);
    }
    keyring::Presented presented{*blob, one_plain()[0].context};
    presented.blob.cmk = there->id;
    // Another key's blob: where the state allows it, the blob does not.
    EXPECT_THAT(keyring_->unwrap({&presented, 1}, actor_).at(0),
                FailsWith(unwrap.value_or(Reason::kBlobInvalid)))
        << key_state_name(state);
  };
  expect(KeyState::kEnabled, {}, {});
  expect(KeyState::kDisabled, Reason::kKeyDisabled, Reason::kKeyDisabled);
  expect(KeyState::kArchived, Reason::kKeyArchived, {});
  expect(KeyState::kPendingImport, Reason::kKeyPendingImport, Reason::kKeyPendingImport);
  expect(KeyState::kPendingDelete, Reason::kKeyPendingDeletion, Reason::kKeyPendingDeletion);
  expect(KeyState::kDestroyed, Reason::kNoSuchKey, Reason::kNoSuchKey);
}

TEST_F(KeyLifeTest, AKeyCanBeRescuedUntilTheLastSecondAndNotAfter) {
  const CmkRecord early = *create_in(KeyState::kPendingDelete, KeyOwner::kUser);
  const CmkRecord late = *create_in(KeyState::kPendingDelete, KeyOwner::kUser);
  clock_.advance(days(7) - std::chrono::seconds(1));
  EXPECT_TRUE(keyring_->run_due(actor_)->done.empty());
  EXPECT_EQ(keyring_->cancel_deletion(early.id, actor_)->state, KeyState::kDisabled);
  clock_.advance(std::chrono::seconds(1));
  EXPECT_THAT(keyring_->cancel_deletion(late.id, actor_), FailsWith(Reason::kKeyPendingDeletion));

  const auto report = keyring_->run_due(actor_);
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
  ASSERT_EQ(keyring_->run_due(actor_)->done.size(), 1U);

  EXPECT_THAT(keyring_->adopt({&copy, 1}, actor_).at(0), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(vault_->present(copy), FailsWith(Reason::kRecordSuperseded));
  CmkParameters parameters;
  parameters.alias = key.alias;
  EXPECT_THAT(keyring_->create(parameters, actor_), Succeeds()) << "its alias is free again";
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

TEST_F(KeyLifeTest, ABoundKeyIsNotTakenAwayUnlessThatIsSaid) {
  const CmkRecord key = create();
  ASSERT_THAT(keyring_->bind(key.id, "volume:a", actor_), Succeeds());
  ASSERT_THAT(keyring_->bind(key.id, "volume:b", actor_), Succeeds());
  EXPECT_THAT(keyring_->disable(key.id, actor_), FailsWith(Reason::kKeyBound));
  EXPECT_THAT(keyring_->archive(key.id, actor_), FailsWith(Reason::kKeyBound));
  EXPECT_THAT(keyring_->bindings(key.id, "", 10).value(),
              testing::ElementsAre("volume:a", "volume:b"));
  EXPECT_THAT(keyring_->bindings(key.id, "volume:a", 10).value(), testing::ElementsAre("volume:b"));

  EXPECT_THAT(keyring_->disable(key.id, actor_, WhenBound::kGoOn), Succeeds());
  EXPECT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), FailsWith(Reason::kKeyBound));
  ASSERT_THAT(keyring_->unbind(key.id, "volume:a", actor_), Succeeds());
  ASSERT_THAT(keyring_->unbind(key.id, "volume:b", actor_), Succeeds());
  EXPECT_THAT(keyring_->schedule_deletion(key.id, 7, actor_), Succeeds());
  for (const char* bad : {"", "two words", "\x01"}) {
    EXPECT_THAT(keyring_->bind(key.id, bad, actor_), FailsWith(Reason::kInvalidArgs));
  }
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

TEST_F(KeyLifeTest, AVersionThatNothingNeedsIsDestroyedForGood) {
  const CmkRecord key = create();
  const auto old = keyring_->wrap(key.id, one_plain(), actor_).at(0);
  EXPECT_THAT(keyring_->destroy_version(key.id, 1, actor_), FailsWith(Reason::kInvalidArgs));
  ASSERT_THAT(keyring_->rotate(key.id, actor_), Succeeds());
  const auto destroyed = keyring_->destroy_version(key.id, 1, actor_);
  ASSERT_THAT(destroyed, Succeeds());
  EXPECT_TRUE(destroyed->versions[0].material.empty());
  const keyring::Presented presented{*old, one_plain()[0].context};
  EXPECT_THAT(keyring_->unwrap({&presented, 1}, actor_).at(0), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(keyring_->destroy_version(key.id, 1, actor_), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(keyring_->destroy_version(key.id, 9, actor_), FailsWith(Reason::kInvalidArgs));
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

// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/core/keyring/keyring_fixture.h"

namespace coffer::tests {
namespace {

// Crash points: the state that a stop leaves is put together by hand, then cofferd starts.
class KeyringCrashTest : public KeyringTest {
 protected:
  std::uint64_t intend(const std::string& operation, const std::optional<CmkId>& id) {
    audit::Event event;
    event.kind = Kind::kIntent;
    event.operation = operation;
    event.cmk = id;
    return *log_.append_one(event);
  }
  void expect_closed(std::uint64_t intent, const std::string& outcome) {
    const auto last = log_.events().back();
    EXPECT_EQ(last.kind, Kind::kResult);
    EXPECT_EQ(last.intent_sequence, intent);
    EXPECT_EQ(last.outcome, outcome) << last.text;
  }
};

TEST_F(KeyringCrashTest, AnIntentWithNothingStoredIsClosedAsCancelled) {
  const auto made = create();
  const auto intent = intend("key.disable", made.id);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
  EXPECT_EQ(keyring_->get(made.id)->state, KeyState::kEnabled);
}

TEST_F(KeyringCrashTest, AnIntentToCreateWithNothingStoredIsClosedAsCancelled) {
  const auto intent = intend("key.create", *CmkId::random());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
}

TEST_F(KeyringCrashTest, AStoredChangeWithoutAResultIsClosedAsDoneAndTakesEffect) {
  const auto made = create();
  const auto kept = *keyring_->sealed_record(made.id);
  const auto intent = intend("key.disable", made.id);
  const auto next = vault_->change_cmk(kept, keyring::CmkChange::kDisable);
  ASSERT_THAT(store_.put(*next, 1, intent), Succeeds());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "OK");
  EXPECT_THAT(vault_->present(kept), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(KeyringCrashTest, AUseWithoutAResultIsClosedToo) {
  const auto made = create();
  const auto intent = intend("key.unwrap", made.id);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
}

TEST_F(KeyringCrashTest, WhatIsClosedIsNotClosedAgain) {
  create();
  intend("key.rotate", *CmkId::random());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 0U);
  intend("volume.unlock", std::nullopt);  // Not the keyring's to close.
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 0U);
}

TEST_F(KeyringCrashTest, ANewJournalBehindAnOldMarkIsReadFromItsStart) {
  ASSERT_THAT(store_.set_reconciled_to(1000), Succeeds());
  const auto intent = intend("key.rotate", *CmkId::random());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
}

TEST_F(KeyringCrashTest, WhatThisKeyringIsDoingIsNotTakenForACrash) {
  const auto made = create();
  std::optional<Result<std::size_t>> closed;
  store_.before_put([&] { closed = keyring_->reconcile(); });
  ASSERT_THAT(keyring_->disable(made.id, actor_), Succeeds());
  EXPECT_EQ(**closed, 0U);
  EXPECT_EQ(log_.count(Kind::kResult, "key.disable"), 1U);
}

TEST_F(KeyringCrashTest, AResultThatCannotBeRecordedIsToldAndRecordedLater) {
  const auto made = create();
  store_.before_put([&] { log_.fail_always(); });
  EXPECT_THAT(keyring_->disable(made.id, actor_), FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(keyring_->get(made.id)->state, KeyState::kDisabled);
  log_.succeed_again();
  ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  EXPECT_EQ(log_.count(Kind::kResult, "key.disable"), 1U);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 0U);
}

}  // namespace
}  // namespace coffer::tests

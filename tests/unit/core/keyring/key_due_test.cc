// SPDX-License-Identifier: Apache-2.0
// What is done when its time has come: clocks that are wrong, keys that fail, and a vault that was
// away when something was stored.
#include <gtest/gtest.h>

#include <vector>

#include "tests/fakes/flaky_vault.h"
#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CmkRecord;
using keyring::Keyring;
using keyring::KeyState;
using std::chrono::days;
using std::chrono::hours;
using std::chrono::minutes;

class KeyDueTest : public KeyFixture {
 protected:
  KeyDueTest() { restart(); }
  // As cofferd starts anew with what is on disk.
  void restart() { keyring_.emplace(Keyring::Parts{flaky_, store_, log_, clock_}); }

  CmkRecord create_doomed() {
    const CmkRecord key = create({});
    EXPECT_THAT(keyring_->disable(key.id, actor_), Succeeds());
    auto doomed = keyring_->schedule_deletion(key.id, 7, actor_);
    EXPECT_THAT(doomed, Succeeds());
    return *doomed;
  }
  CmkRecord create_rotating(std::uint32_t period) {
    auto rotating = keyring_->set_rotation(create({}).id, period, actor_);
    EXPECT_THAT(rotating, Succeeds());
    return *rotating;
  }
  std::size_t done_now() {
    const auto report = keyring_->run_due(actor_);
    EXPECT_THAT(report, Succeeds());
    return report ? report->done.size() : 0;
  }

  FlakyVault flaky_{*vault_};
};

TEST_F(KeyDueTest, AKeyIsDestroyedOnceItWasDueForAnHour) {
  const CmkRecord key = create_doomed();
  clock_.advance(days(7));
  const auto first = keyring_->run_due(actor_);
  ASSERT_THAT(first, Succeeds());
  EXPECT_TRUE(first->done.empty());
  EXPECT_TRUE(first->failed.empty());
  ASSERT_TRUE(first->next);
  EXPECT_GT(*first->next, clock_.wall() + minutes(59));
  EXPECT_LE(*first->next, clock_.wall() + hours(1));
  clock_.advance(minutes(59));
  EXPECT_EQ(done_now(), 0U);
  clock_.advance(minutes(1));
  EXPECT_EQ(done_now(), 1U);
  EXPECT_THAT(keyring_->get(key.id), FailsWith(Reason::kNoSuchKey));
}

TEST_F(KeyDueTest, AWallClockThatRunsAheadDestroysNothing) {
  const CmkRecord key = create_doomed();
  EXPECT_EQ(done_now(), 0U);
  clock_.jump(days(3650));
  EXPECT_EQ(done_now(), 0U);
  clock_.advance(minutes(30));
  EXPECT_EQ(done_now(), 0U);
  clock_.jump(-days(3650));  // Somebody has noticed.
  EXPECT_EQ(done_now(), 0U);
  clock_.advance(hours(2));
  EXPECT_EQ(done_now(), 0U);
  EXPECT_EQ(keyring_->get(key.id)->state, KeyState::kPendingDelete);
  // And what is due begins to count anew with every turn of the clock.
  clock_.advance(days(7));
  EXPECT_EQ(done_now(), 0U);
  clock_.advance(minutes(40));
  clock_.jump(hours(1));
  EXPECT_EQ(done_now(), 0U);
  clock_.advance(minutes(40));
  EXPECT_EQ(done_now(), 0U);
  clock_.advance(hours(1));
  EXPECT_EQ(done_now(), 1U);
}

TEST_F(KeyDueTest, ARotationPlannedByAClockThatWasAheadIsPlannedAnew) {
  const CmkRecord key = create_rotating(30);
  clock_.jump(days(3650));
  EXPECT_EQ(keyring_->run_due(actor_)->done.at(0).current().number, 2U);
  clock_.jump(-days(3650));
  const auto report = keyring_->run_due(actor_);
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].next_rotation, clock_.wall() + days(30));
  EXPECT_EQ(report->next, clock_.wall() + days(30));
  clock_.advance(days(30));
  EXPECT_EQ(keyring_->run_due(actor_)->done.at(0).current().number, 3U);
}

TEST_F(KeyDueTest, AnAdoptedKeyDoesNotRotateTheMomentItIsEnabled) {
  const CmkRecord key = create_rotating(30);
  const auto copy = store_.row(key.id).record;
  store_.rows().clear();
  clock_.advance(days(31));
  ASSERT_THAT(keyring_->adopt({&copy, 1}, actor_).at(0), Succeeds());
  ASSERT_THAT(keyring_->enable(key.id, actor_), Succeeds());
  EXPECT_EQ(done_now(), 0U);
  EXPECT_EQ(keyring_->get(key.id)->next_rotation, clock_.wall() + days(30));
}

TEST_F(KeyDueTest, AKeyThatFailsIsTriedLaterAndHoldsUpNoOther) {
  const CmkRecord bad = create_rotating(7);
  clock_.advance(minutes(1));
  const CmkRecord good = create_rotating(7);
  store_.row(bad.id).record.back() ^= std::byte{1};  // Its seal holds no more.
  clock_.advance(days(7));
  auto report = keyring_->run_due(actor_);
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].id, good.id);
  EXPECT_EQ(report->failed.size(), 1U);
  ASSERT_TRUE(report->next);
  EXPECT_GT(*report->next, clock_.wall());
  EXPECT_LE(*report->next, clock_.wall() + minutes(1));

  report = keyring_->run_due(actor_);
  EXPECT_TRUE(report->failed.empty()) << "not so soon";
  clock_.advance(minutes(1));
  EXPECT_EQ(keyring_->run_due(actor_)->failed.size(), 1U);
  clock_.advance(minutes(1));
  EXPECT_TRUE(keyring_->run_due(actor_)->failed.empty()) << "later and later";
  clock_.advance(minutes(1));
  EXPECT_EQ(keyring_->run_due(actor_)->failed.size(), 1U);
}

// The first page does not decide: more keys than one fail before the one that does not.
TEST_F(KeyDueTest, EveryKeyThatIsDueGetsItsTurn) {
  for (int i = 0; i < 1100; ++i) {
    const CmkRecord bad = create_rotating(7);
    store_.row(bad.id).record.back() ^= std::byte{1};
  }
  clock_.advance(minutes(1));
  const CmkRecord good = create_rotating(7);
  clock_.advance(days(7));
  const auto report = keyring_->run_due(actor_);
  EXPECT_EQ(report->failed.size(), 1100U);
  ASSERT_EQ(report->done.size(), 1U);
  EXPECT_EQ(report->done[0].id, good.id);
}

// The change is stored, and the vault is away when it is to be shown it.
TEST_F(KeyDueTest, WhatTheVaultWasNotShownIsShownToItLater) {
  const CmkRecord key = create({});
  const auto before = store_.row(key.id).record;
  store_.before_put([&] { flaky_.go_away(); });
  ASSERT_THAT(keyring_->disable(key.id, actor_), Succeeds());
  EXPECT_THAT(vault_->present(before), Succeeds()) << "it knows nothing of the change";
  const auto failing = keyring_->run_due(actor_);
  EXPECT_EQ(failing->failed.size(), 1U);
  EXPECT_LE(*failing->next, clock_.wall() + minutes(1));
  flaky_.come_back();
  EXPECT_TRUE(keyring_->run_due(actor_)->failed.empty());
  EXPECT_THAT(vault_->present(before), FailsWith(Reason::kRecordSuperseded));
  EXPECT_TRUE(store_.unpresented(10)->empty());
}

TEST_F(KeyDueTest, ADestroyedKeyThatTheVaultWasNotShownIsShownAtTheNextStart) {
  const CmkRecord key = create_doomed();
  const auto before = store_.row(key.id).record;
  clock_.advance(days(7));
  EXPECT_EQ(done_now(), 0U);
  clock_.advance(hours(1));
  store_.before_put([&] { flaky_.go_away(); });
  EXPECT_EQ(done_now(), 1U);
  EXPECT_THAT(vault_->present(before), Succeeds());
  restart();
  flaky_.come_back();
  ASSERT_THAT(keyring_->reconcile(), Succeeds());
  EXPECT_THAT(vault_->present(before), FailsWith(Reason::kRecordSuperseded));
  store_.rows().clear();
  EXPECT_THAT(keyring_->adopt({&before, 1}, actor_).at(0), FailsWith(Reason::kNoSuchKey));
}

}  // namespace
}  // namespace coffer::tests

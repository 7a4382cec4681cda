// SPDX-License-Identifier: Apache-2.0
// What the journal is told of keys that an operator may alert on.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/fakes/fake_clock.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::KeyEvent;
using keyring::CmkChange;
using std::chrono::hours;
using testing::HasSubstr;

constexpr auto kDay = hours(24);

class KeyAlarmsTest : public EngineFixture {
 protected:
  KeyAlarmsTest() { clock = &fake_clock; }

  void schedule() {
    ASSERT_THAT(change_key(key_id(), CmkChange::kDisable), Succeeds());
    CmkChange change = CmkChange::kScheduleDeletion;
    change.days = 7;
    ASSERT_THAT(change_key(key_id(), change), Succeeds());
  }
  std::vector<agent::LogEntry> told(KeyEvent event) const {
    std::vector<agent::LogEntry> found;
    std::ranges::copy_if(printed, std::back_inserter(found),
                         [&](const auto& entry) { return entry.key_event == event; });
    return found;
  }
  // Whether it was told `count` times once the agent has looked around.
  bool is_told(KeyEvent event, std::size_t count) {
    int turns = 0;
    run_until([&] { return told(event).size() > count || ++turns > 30; });
    run_until_idle();
    return told(event).size() == count;
  }
  std::optional<Reason> use() {
    std::optional<Result<agent::NewDataKey>> made;
    engine->make_data_key(key_id(), 32, "", admin(),
                          [&](Result<agent::NewDataKey> end) { made = std::move(end); });
    run_until([&] { return made.has_value(); });
    return *made ? std::optional<Reason>() : std::optional((*made).error().reason());
  }

  FakeClock fake_clock;
};

TEST_F(KeyAlarmsTest, EachOfTheLastThreeDaysOfAKeyIsToldOnce) {
  schedule();
  const CmkId id = key_id();
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 0));
  fake_clock.advance(4 * kDay - hours(1));
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 0));
  fake_clock.advance(hours(2));
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 1));
  fake_clock.advance(hours(2));
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 1)) << "once a day";
  fake_clock.advance(kDay);
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 2));
  fake_clock.advance(kDay);
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 3));
  const auto last = told(KeyEvent::kNearDeletion).back();
  EXPECT_EQ(last.key, id);
  EXPECT_EQ(last.priority, 4);
  EXPECT_THAT(last.message, HasSubstr("less than a day"));
  EXPECT_THAT(last.message, HasSubstr("coffer key undelete default"));
}

TEST_F(KeyAlarmsTest, AKeyThatIsBroughtBackIsToldOfNoMore) {
  schedule();
  fake_clock.advance(4 * kDay + hours(1));
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 1));
  ASSERT_THAT(change_key(key_id(), CmkChange::kCancelDeletion), Succeeds());
  fake_clock.advance(2 * kDay);
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 1));
}

TEST_F(KeyAlarmsTest, ADeletionThatIsPostponedHasItsOwnLastDays) {
  schedule();
  fake_clock.advance(6 * kDay + hours(1));
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 1)) << "its last day";
  // No look around between the two.
  ASSERT_THAT(change_key(key_id(), CmkChange::kCancelDeletion), Succeeds());
  CmkChange change = CmkChange::kScheduleDeletion;
  change.days = 7;
  ASSERT_THAT(change_key(key_id(), change), Succeeds());
  fake_clock.advance(4 * kDay + hours(1));
  EXPECT_TRUE(is_told(KeyEvent::kNearDeletion, 2));
  EXPECT_THAT(told(KeyEvent::kNearDeletion).back().message, HasSubstr("less than 3 days"));
}

TEST_F(KeyAlarmsTest, EachAttemptToUseAKeyInDeletionIsTold) {
  ASSERT_THAT(change_key(key_id(), CmkChange::kDisable), Succeeds());
  EXPECT_EQ(use(), Reason::kKeyDisabled);
  EXPECT_TRUE(is_told(KeyEvent::kUsedInDeletion, 0));
  CmkChange change = CmkChange::kScheduleDeletion;
  change.days = 7;
  ASSERT_THAT(change_key(key_id(), change), Succeeds());
  EXPECT_EQ(use(), Reason::kKeyPendingDeletion);
  EXPECT_EQ(use(), Reason::kKeyPendingDeletion);
  const auto alarms = told(KeyEvent::kUsedInDeletion);
  ASSERT_EQ(alarms.size(), 2U);
  EXPECT_EQ(alarms[0].key, key_id());
  EXPECT_EQ(alarms[0].error_name, "KeyPendingDeletion");
  EXPECT_THAT(alarms[0].message, HasSubstr("make a data key with key default"));
}

TEST_F(KeyAlarmsTest, WhatForceAndTheClockDoIsTold) {
  provision(plug("vda"), "data");
  CmkChange rotation = CmkChange::kSetRotation;
  rotation.days = 7;
  ASSERT_THAT(change_key(key_id(), rotation), Succeeds());
  fake_clock.advance(8 * kDay);
  EXPECT_TRUE(run_until([&] { return told(KeyEvent::kDue).size() == 1U; }));
  EXPECT_EQ(told(KeyEvent::kDue).front().key, key_id());
  ASSERT_THAT(change_key(key_id(), CmkChange::kDisable, true), Succeeds());
  EXPECT_TRUE(is_told(KeyEvent::kTakenByForce, 1));
  EXPECT_EQ(told(KeyEvent::kTakenByForce).front().key, key_id());
}

TEST_F(KeyAlarmsTest, WhatForceTakesFromOthersThanVolumesIsToldToo) {
  ASSERT_THAT(change_key(key_id(), CmkChange::kDisable, true), Succeeds());
  EXPECT_TRUE(is_told(KeyEvent::kTakenByForce, 0)) << "nobody uses it";
  ASSERT_THAT(change_key(key_id(), CmkChange::kEnable), Succeeds());
  ASSERT_THAT(keyring->bind(key_id(), "backup:nightly", {}), Succeeds());
  ASSERT_THAT(change_key(key_id(), CmkChange::kDisable, true), Succeeds());
  EXPECT_TRUE(is_told(KeyEvent::kTakenByForce, 1));
  EXPECT_THAT(told(KeyEvent::kTakenByForce).front().message, HasSubstr("backup:nightly"));
}

}  // namespace
}  // namespace coffer::tests

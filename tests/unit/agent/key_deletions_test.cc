// SPDX-License-Identifier: Apache-2.0
// What is said before volumes lose a key for good.
#include <gmock/gmock.h>

#include "tests/fakes/fake_clock.h"
#include "tests/unit/agent/engine_fixture.h"
#include "tests/unit/agent/engine_listener.h"

namespace coffer::tests {
namespace {

using keyring::CmkChange;
using std::chrono::hours;

constexpr auto kDay = hours(24);

class KeyDeletionsTest : public EngineFixture {
 protected:
  KeyDeletionsTest() {
    clock = &fake_clock;
    observer = &listener;
  }
  void SetUp() override {
    EngineFixture::SetUp();
    id = provision(plug("vda"), "data");
  }

  // By force, as volumes use it.
  void schedule() {
    ASSERT_THAT(change_key(key_id(), CmkChange::kDisable, true), Succeeds());
    CmkChange change = CmkChange::kScheduleDeletion;
    change.days = 7;
    ASSERT_THAT(change_key(key_id(), change, true), Succeeds());
  }
  std::size_t told() {
    return static_cast<std::size_t>(std::ranges::count_if(listener.alerts, [&](const auto& alert) {
      return alert.reason == Reason::kKeyPendingDeletion && alert.object == id.str();
    }));
  }
  // Whether it stays at `count` while the agent looks around.
  bool stays_at(std::size_t count) {
    run_until_idle();
    int turns = 0;
    run_until([&] { return ++turns > 20; });
    return told() == count;
  }

  FakeClock fake_clock;
  EngineListener listener;
  VolumeId id{Uuid()};
};

TEST_F(KeyDeletionsTest, AVolumeIsToldOfWhenItsKeyIsToGoAndOnceMoreADayBefore) {
  schedule();
  EXPECT_TRUE(run_until([&] { return told() == 1U; }));
  EXPECT_THAT(listener.alerts.back().text, testing::HasSubstr("coffer key undelete default"));
  // 2027-01-15 08:00:00 UTC, and seven days.
  EXPECT_THAT(listener.alerts.back().text, testing::HasSubstr("2027-01-22 08:00 UTC"));
  EXPECT_TRUE(stays_at(1)) << "not with each tick";
  fake_clock.advance(6 * kDay - hours(1));
  EXPECT_TRUE(stays_at(1));
  fake_clock.advance(hours(1));
  EXPECT_TRUE(run_until([&] { return told() == 2U; }));
  EXPECT_TRUE(stays_at(2));
}

TEST_F(KeyDeletionsTest, ItIsToldAgainAtEachStart) {
  schedule();
  EXPECT_TRUE(run_until([&] { return told() == 1U; }));
  stop();
  start();
  EXPECT_EQ(told(), 2U);
}

TEST_F(KeyDeletionsTest, AKeyThatIsKeptIsToldOfNoMore) {
  schedule();
  EXPECT_TRUE(run_until([&] { return told() == 1U; }));
  ASSERT_THAT(change_key(key_id(), CmkChange::kCancelDeletion), Succeeds());
  fake_clock.advance(6 * kDay);
  EXPECT_TRUE(stays_at(1));
  CmkChange again = CmkChange::kScheduleDeletion;
  again.days = 7;
  ASSERT_THAT(change_key(key_id(), again, true), Succeeds());
  EXPECT_TRUE(run_until([&] { return told() == 2U; })) << "another time is another warning";
}

TEST_F(KeyDeletionsTest, AnAdoptedVolumeIsToldOfAtOnceAndTheJobSaysUntilWhen) {
  finish(engine->lock({id}, {}, admin()));
  std::optional<Result<void>> forgotten;
  engine->forget(id, admin(), [&](const Result<void>& done) { forgotten = done; });
  run_until([&] { return forgotten.has_value(); });
  ASSERT_THAT(*forgotten, Succeeds());
  schedule();
  EXPECT_TRUE(stays_at(0)) << "no volume uses it";

  const auto job = engine->adopt("/dev/vda", {}, admin());
  EXPECT_EQ(finish(job).state, agent::JobState::kDone);
  EXPECT_EQ(told(), 1U);
  const auto items = engine->job_items(*job);
  EXPECT_THAT(items->front().note, testing::HasSubstr("destroyed for good at 2027-01-22"));
  EXPECT_THAT(items->front().note, testing::HasSubstr("coffer key undelete default"));
}

}  // namespace
}  // namespace coffer::tests

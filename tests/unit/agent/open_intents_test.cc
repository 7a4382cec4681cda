// SPDX-License-Identifier: Apache-2.0
#include "agent/unlock/open_intents.h"

#include <gtest/gtest.h>

#include <atomic>

#include "agent/reopening_log.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

// What an agent does with the intents that the one before it left without a result.
class OpenIntentsTest : public EngineFixture {
 protected:
  // The intent to unlock `volume`, without its result.
  void leave_intent(const VolumeId& volume) {
    audit::Event intent;
    intent.kind = audit::Kind::kIntent;
    intent.operation = "volume.unlock";
    intent.volume = volume;
    const auto recorded = audit.append_one(intent);
    ASSERT_THAT(recorded, Succeeds());
    sequence = *recorded;
  }
  // Of that intent; "" while it has none.
  std::string outcome() const {
    for (const audit::Event& event : audit.events()) {
      const bool its = event.kind == audit::Kind::kResult && event.intent_sequence == sequence;
      if (its) return event.outcome;
    }
    return "";
  }

  std::uint64_t sequence = 0;
};

TEST_F(OpenIntentsTest, IntentsThatAKilledAgentLeftGetTheirResult) {
  const VolumeId open = provision(plug("vda"), "open");
  const VolumeId shut = provision(plug("vdb"), "shut");
  finish(engine->lock({shut}, {}, admin()));
  audit::Event intent;
  intent.kind = audit::Kind::kIntent;
  intent.operation = "volume.unlock";
  for (const VolumeId& id : {open, shut}) {
    intent.volume = id;
    ASSERT_THAT(audit.append_one(intent), Succeeds());
  }
  const auto before = audit.count(audit::Kind::kResult, "volume.unlock");
  stop();
  start();
  run_until([&] { return audit.count(audit::Kind::kResult, "volume.unlock") == before + 2; });
  std::map<VolumeId, std::string> outcomes;
  for (const audit::Event& event : audit.events()) {
    if (event.kind == audit::Kind::kResult && event.operation == "volume.unlock") {
      outcomes[*event.volume] = event.outcome;
    }
  }
  EXPECT_EQ(outcomes[open], "OK");
  EXPECT_EQ(outcomes[shut], "AgentUnreachable");
}

TEST_F(OpenIntentsTest, TheyAreNotJudgedWithoutTheListOfMappings) {
  const VolumeId open = provision(plug("vda"), "open");
  leave_intent(open);
  stop();
  worker.fail_next("list_mappings", Reason::kWorkerLost);
  start();
  run_until([&] { return !outcome().empty(); });
  EXPECT_EQ(outcome(), "OK");
}

// Nothing else asks for the list here: no volume opens by itself and no disk comes.
TEST_F(OpenIntentsTest, AListThatTimesOutIsAskedForUntilItComes) {
  const VolumeId open = provision(plug("vda"), "open", {.automatic = false});
  leave_intent(open);
  stop();
  worker.fail_always(Reason::kTimedOut);
  const int asked = worker.called("list_mappings");
  start();
  run_until([&] { return worker.called("list_mappings") >= asked + 3; });
  EXPECT_EQ(outcome(), "");

  worker.succeed_again();
  run_until([&] { return !outcome().empty(); });
  EXPECT_EQ(outcome(), "OK");
}

TEST_F(OpenIntentsTest, AJournalThatCannotBeReadIsReadUntilItCan) {
  const VolumeId open = provision(plug("vda"), "open", {.automatic = false});
  leave_intent(open);
  stop();
  audit.fail_queries(2);
  start();
  run_until([&] { return !outcome().empty(); });
  EXPECT_EQ(outcome(), "OK");
}

class TurnedClock final : public Clock {
 public:
  WallTime wall() const override { return {}; }
  SteadyTime steady() const override { return SteadyTime(std::chrono::seconds(now)); }
  std::chrono::microseconds since_boot() const override { return {}; }
  std::atomic<int> now = 0;
};

TEST_F(OpenIntentsTest, AJournalThatWasNotOpenAtTheStartIsReadWhenItIs) {
  const VolumeId open = provision(plug("vda"), "open", {.automatic = false});
  stop();
  audit::Event intent;
  intent.kind = audit::Kind::kIntent;
  intent.operation = "volume.unlock";
  intent.volume = open;
  auto found = std::make_unique<FakeAudit>();
  FakeAudit& late = *found;
  ASSERT_THAT(late.append_one(intent), Succeeds());
  audit::Event rotation;
  rotation.kind = audit::Kind::kIntent;
  rotation.operation = "key.rotate";
  rotation.cmk = *CmkId::random();
  ASSERT_THAT(late.append_one(rotation), Succeeds());
  TurnedClock turned;
  std::atomic<bool> there = false;
  agent::ReopeningLog reopening(
      [&]() -> Result<std::unique_ptr<audit::AuditLog>> {
        if (!there) return fail(Reason::kAuditUnavailable, "away");
        return std::unique_ptr<audit::AuditLog>(std::move(found));
      },
      turned);
  ASSERT_THAT(reopening.try_open(), FailsWith(Reason::kAuditUnavailable));
  journal = &reopening;
  const int asked = worker.called("list_mappings");
  start();
  run_until([&] { return worker.called("list_mappings") >= asked + 3; });

  // An intent of this agent opens the journal: it is not one that the agent before left.
  there = true;
  turned.now = 5;
  ASSERT_THAT(log->append_one(intent), Succeeds());
  run_until([&] { return late.count(audit::Kind::kResult) > 1; });
  run_until_idle();
  ASSERT_EQ(late.count(audit::Kind::kResult), 2U);
  for (const auto& event : late.events()) {
    if (event.kind != audit::Kind::kResult) continue;
    const bool of_key = event.operation == "key.rotate";
    EXPECT_EQ(event.intent_sequence, of_key ? 2U : 1U);
    EXPECT_EQ(event.outcome, of_key ? "Cancelled" : "OK");
  }
  stop();
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
// Keys, providers and the audit trail as a caller of the engine sees them.
#include <gmock/gmock.h>

#include <algorithm>

#include "tests/unit/agent/engine_fixture.h"
#include "tests/unit/agent/engine_listener.h"

namespace coffer::tests {
namespace {

using agent::AuditEntry;
using agent::AuditFilter;

class EngineKeysTest : public EngineFixture {
 protected:
  std::vector<AuditEntry> query(const AuditFilter& filter) {
    std::optional<std::vector<AuditEntry>> found;
    engine->audit_query(filter, 1000, admin(), [&](const Result<std::vector<AuditEntry>>& entries) {
      EXPECT_THAT(entries, Succeeds());
      found = entries.value_or(std::vector<AuditEntry>());
    });
    run_until([&] { return found.has_value(); });
    return found.value_or(std::vector<AuditEntry>());
  }
  static AuditFilter about(const Uuid& object) {
    AuditFilter filter;
    filter.object = object;
    return filter;
  }
};

TEST_F(EngineKeysTest, TheTrailOfAKeyIsFoundByItsId) {
  const VolumeId id = provision(plug("vda"), "db");
  finish(engine->lock({id}, {}, admin()));  // Uses no key.
  const std::vector<AuditEntry> records = query(about(key_id().uuid()));
  const auto creation = std::find_if(records.begin(), records.end(), [](const AuditEntry& entry) {
    return entry.event == "intent key.create";
  });
  ASSERT_NE(creation, records.end());
  EXPECT_EQ(creation->object, key_id().str());
  EXPECT_LT(records.size(), query({}).size());
}

TEST_F(EngineKeysTest, TheTrailOfAVolumeIsFoundByItsId) {
  const VolumeId id = provision(plug("vda"), "db");
  const VolumeId other = provision(plug("vdb"), "log");
  const std::vector<AuditEntry> records = query(about(id.uuid()));
  ASSERT_FALSE(records.empty());
  for (const AuditEntry& entry : records) EXPECT_EQ(entry.object, id.str());
  EXPECT_NE(id, other);
}

TEST_F(EngineKeysTest, AnObjectThatNothingIsAboutHasNoTrail) {
  EXPECT_TRUE(query(about(*Uuid::random())).empty());
}

TEST_F(EngineKeysTest, TheHeadOfTheTrailIsKnownWithoutAskingTheJournal) {
  provision(plug("vda"), "db");
  EXPECT_TRUE(run_until([&] { return engine->audit_head().sequence == audit.head().sequence; }));
  EXPECT_EQ(engine->audit_head().hash.size(), audit.head().hash.size());
  stop();
  const std::uint64_t last = audit.head().sequence;
  start();
  EXPECT_EQ(engine->audit_head().sequence, last) << "before it records anything itself";
}

TEST_F(EngineKeysTest, TestingAProviderWrapsAndUnwrapsAKey) {
  const agent::JobInfo job = finish(engine->test_provider("local", admin()));
  EXPECT_EQ(job.state, agent::JobState::kDone) << job.message;
  EXPECT_EQ(audit.count(audit::Kind::kResult, "key.wrap"), 1U);
  EXPECT_EQ(audit.count(audit::Kind::kResult, "key.unwrap"), 1U);
}

TEST_F(EngineKeysTest, ATokenThatDoesNotUnwrapFailsItsTest) {
  vault->refuse_unwraps(Reason::kHsmFailed);
  const agent::JobInfo job = finish(engine->test_provider("local", admin()));
  EXPECT_EQ(job.state, agent::JobState::kFailed);
  EXPECT_THAT(job.message, ::testing::HasSubstr("unwrap"));
}

TEST_F(EngineKeysTest, ATokenThatIsAwayFailsItsTestWithoutUsingAKey) {
  vault->go_away();
  const agent::JobInfo job = finish(engine->test_provider("local", admin()));
  EXPECT_EQ(job.state, agent::JobState::kFailed);
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "key.wrap"), 0U);
}

TEST_F(EngineKeysTest, AProviderIsNotTestedWithADisabledKey) {
  ASSERT_THAT(change_key(key_id(), keyring::CmkChange::kDisable), Succeeds());
  const agent::JobInfo job = finish(engine->test_provider("local", admin()));
  EXPECT_EQ(job.state, agent::JobState::kFailed);
  EXPECT_THAT(job.message, ::testing::HasSubstr("no key is enabled"));
}

TEST_F(EngineKeysTest, AKeyIsToldWhenAVolumeComesToUseItAndWhenItIsForgotten) {
  EngineListener listener;
  const auto told = [&] { return std::exchange(listener.changed, {}); };
  const VolumeId id = provision(plug("vda"), "db");
  finish(engine->lock({id}, {}, admin()));
  run_until_idle();
  engine->set_observer(&listener);
  bool forgotten = false;
  engine->forget(id, admin(), [&](const Result<void>& result) {
    EXPECT_THAT(result, Succeeds());
    forgotten = true;
  });
  run_until([&] { return forgotten; });
  EXPECT_THAT(told(), ::testing::Contains(key_id()));
  EXPECT_EQ(engine->key("default")->volume_count, 0U);

  finish(engine->adopt("/dev/vda", {}, admin()));
  EXPECT_THAT(told(), ::testing::Contains(key_id()));
  EXPECT_EQ(engine->key("default")->volume_count, 1U);
  engine->set_observer(nullptr);
}

TEST_F(EngineKeysTest, AFloodOfRefusalsIsRecordedByItselfAndHidesNobody) {
  const auto refuse = [&](std::uint32_t uid, int count) {
    agent::Caller caller = admin();
    caller.uid = uid;
    for (int i = 0; i < count; ++i) {
      engine->record_refusal("volume.unlock", "db", Error(Reason::kAccessDenied, "no"), caller);
    }
  };
  refuse(1000, 500);
  refuse(1001, 1);
  const auto recorded = [&](std::uint32_t uid) {
    std::vector<std::string> texts;
    for (const audit::Event& event : audit.events()) {
      if (event.kind == audit::Kind::kRefused && event.actor.uid == uid)
        texts.push_back(event.text);
    }
    return texts;
  };
  // No further refusal is needed to tell of them.
  run_until([&] { return recorded(1000).size() == 21 && recorded(1001).size() == 1; });
  EXPECT_THAT(recorded(1000), ::testing::Contains(::testing::HasSubstr("480 further refusals")));
}

TEST_F(EngineKeysTest, AFloodIsRecordedWhenTheAgentStops) {
  for (int i = 0; i < 30; ++i) {
    engine->record_refusal("volume.unlock", "db", Error(Reason::kAccessDenied, "no"), admin());
  }
  stop();
  EXPECT_EQ(audit.count(audit::Kind::kRefused, "volume.unlock"), 21U);
}

}  // namespace
}  // namespace coffer::tests

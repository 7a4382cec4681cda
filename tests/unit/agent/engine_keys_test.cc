// SPDX-License-Identifier: Apache-2.0
// Keys, providers and the audit trail as a caller of the engine sees them.
#include <algorithm>

#include "tests/unit/agent/engine_fixture.h"

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
  CmkId key_id() { return engine->key("default")->record.id; }
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

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
// Rotation that reaches volumes of several keys: any of them opens one, two of three the other.
#include <map>

#include "agent/volume/version_proof.h"
#include "core/luks2/token.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::JobState;
using keyring::CmkChange;
using keyring::KeyContext;
using keyring::WrappedKey;
using ::testing::HasSubstr;
using ::testing::Not;

using Versions = std::vector<std::uint32_t>;

class EngineSharesRewrapTest : public EngineFixture {
 protected:
  void SetUp() override {
    EngineFixture::SetUp();
    const std::vector<std::string> names = {"one", "two", "three"};
    for (const std::string& alias : names) {
      keyring::CmkParameters parameters;
      parameters.alias = alias;
      keys.push_back(keyring->create(parameters, {})->id);
    }
    run_until([&] { return engine->key("three").has_value(); });
    plug("vda");
    plug("vdb");
    any = provision("/dev/vda", "any", {.keys = names});
    shared = provision("/dev/vdb", "shared", {.keys = names, .threshold = 2});
  }

  void change(std::size_t which, CmkChange::Kind kind) {
    ASSERT_THAT(change_key(keys[which], kind, true), Succeeds());
  }
  Result<void> destroy(std::size_t which, std::uint32_t version) {
    CmkChange destruction = CmkChange::kDestroyVersion;
    destruction.version = version;
    return change_key(keys[which], destruction, true);
  }
  agent::JobInfo rewrap(std::size_t which) {
    return finish(engine->rewrap_all(keys[which], {.per_minute = 60'000}, admin()));
  }
  luks2::Token& token(const std::string& disk) { return *worker.disk(disk).header->token; }
  // By place in the token.
  Versions on(const std::string& disk) {
    Versions all;
    for (const Bytes& wrap : token(disk).wraps)
      all.push_back(WrappedKey::decode(wrap).value().cmk_version);
    return all;
  }
  agent::VersionProof prove(std::size_t which, std::uint32_t version) {
    const agent::LifeParts parts{.unlock = {worker, *keyring, *log, system_clock(), host_id},
                                 .registry = *registry,
                                 .state_folder = folder.string(),
                                 .boot_id = boot_id,
                                 .boot_deadline = std::chrono::seconds(40)};
    return agent::prove_unused({keys[which], version}, *watch.list(),
                               Deadline::after(std::chrono::seconds(20)), parts)
        .value();
  }
  // Whether the volume, closed before, opens now from what stands on its disk.
  bool opens(const VolumeId& id) {
    finish(engine->lock({id}, {}, admin()));
    return !error_of(engine->unlock({id}, {}, admin()));
  }

  std::vector<CmkId> keys;
  VolumeId any{Uuid()};
  VolumeId shared{Uuid()};
};

TEST_F(EngineSharesRewrapTest, EachKeyMovesItsOwnWrapsAndItsOldVersionGoes) {
  const std::map<std::string, Bytes> contexts = {{"/dev/vda", token("/dev/vda").context},
                                                 {"/dev/vdb", token("/dev/vdb").context}};
  for (std::size_t which = 0; which < keys.size(); ++which) change(which, CmkChange::kRotate);
  Versions expected = {1, 1, 1};
  // Not in the order of their places.
  for (const std::size_t which : {std::size_t{1}, std::size_t{2}, std::size_t{0}}) {
    SCOPED_TRACE("key " + std::to_string(which));
    const auto before = prove(which, 1);
    EXPECT_EQ(before.volumes, 2U);
    ASSERT_EQ(before.doubts.size(), 2U) << "a share counts like a whole key";
    for (const auto& doubt : before.doubts) EXPECT_EQ(doubt.why.reason(), Reason::kKeyBound);
    EXPECT_THAT(destroy(which, 1), FailsWith(Reason::kKeyBound)) << "not even by force";

    const agent::JobInfo moved = rewrap(which);
    EXPECT_EQ(moved.state, JobState::kDone) << moved.message;
    EXPECT_EQ(moved.total, 2U);
    expected[which] = 2;
    for (const auto& [disk, context] : contexts) {
      EXPECT_EQ(on(disk), expected) << disk;
      EXPECT_EQ(token(disk).context, context) << disk;
      EXPECT_EQ(token(disk).records.size(), 3U) << disk;
    }
    EXPECT_EQ(registry->find(shared)->wraps, token("/dev/vdb").wraps);

    EXPECT_TRUE(prove(which, 1).holds());
    EXPECT_THAT(destroy(which, 1), Succeeds());
    EXPECT_TRUE(opens(any));
    EXPECT_TRUE(opens(shared));
  }
  // Nobody has been left out: each key alone opens the one, each two of them the other.
  for (std::size_t which = 0; which < keys.size(); ++which) {
    SCOPED_TRACE("without key " + std::to_string(which));
    change(which, CmkChange::kDisable);
    EXPECT_TRUE(opens(shared));
    const std::size_t second = (which + 1) % keys.size();
    change(second, CmkChange::kDisable);
    EXPECT_TRUE(opens(any));
    EXPECT_FALSE(opens(shared));
    change(second, CmkChange::kEnable);
    change(which, CmkChange::kEnable);
  }
}

TEST_F(EngineSharesRewrapTest, AShareThatWasNotMovedKeepsItsVersion) {
  change(0, CmkChange::kRotate);
  watch.unplug("/dev/vdb");
  EXPECT_EQ(rewrap(0).state, JobState::kPartial);
  EXPECT_EQ(on("/dev/vda"), (Versions{2, 1, 1}));
  EXPECT_EQ(on("/dev/vdb"), (Versions{1, 1, 1}));
  const auto refused = destroy(0, 1);
  ASSERT_THAT(refused, FailsWith(Reason::kKeyBound));
  EXPECT_THAT(refused.error().message(), HasSubstr("shared: "));
  EXPECT_THAT(refused.error().message(), Not(HasSubstr("any: ")));
}

// A share that stands in another's place is not what the vault made: it is told, not moved there.
TEST_F(EngineSharesRewrapTest, AShareInAnothersPlaceIsNotMoved) {
  change(0, CmkChange::kRotate);
  const luks2::Token good = token("/dev/vdb");
  std::swap(token("/dev/vdb").wraps[0], token("/dev/vdb").wraps[1]);
  EXPECT_EQ(rewrap(0).state, JobState::kPartial);
  EXPECT_EQ(on("/dev/vda"), (Versions{2, 1, 1}));
  EXPECT_EQ(on("/dev/vdb"), (Versions{1, 1, 1}));
  EXPECT_THAT(destroy(0, 1), FailsWith(Reason::kKeyBound));

  token("/dev/vdb") = good;
  EXPECT_EQ(rewrap(0).state, JobState::kDone);
  EXPECT_EQ(on("/dev/vdb"), (Versions{2, 1, 1}));
  EXPECT_TRUE(prove(0, 1).holds());
}

// What the rest of a set of shares says of itself is held to the registry before anything moves.
TEST_F(EngineSharesRewrapTest, ATokenThatLowersItsThresholdIsNotRewrappedAndProvesNothing) {
  change(0, CmkChange::kRotate);
  auto context = KeyContext::decode(token("/dev/vdb").context).value();
  context.shares.reset();
  token("/dev/vdb").context = context.encode();
  token("/dev/vdb").threshold = 1;
  EXPECT_EQ(rewrap(0).state, JobState::kPartial);
  EXPECT_EQ(on("/dev/vdb"), (Versions{1, 1, 1}));
  const auto proof = prove(0, 7);
  ASSERT_EQ(proof.doubts.size(), 1U) << "of any version";
  EXPECT_EQ(proof.doubts.front().name, "shared");
  EXPECT_EQ(proof.doubts.front().why.reason(), Reason::kBlobInvalid);
}

}  // namespace
}  // namespace coffer::tests

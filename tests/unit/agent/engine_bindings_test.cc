// SPDX-License-Identifier: Apache-2.0
// How the bindings of keys follow the rows of volumes, and what keeps a damaged key from hiding
// others.
#include <gmock/gmock.h>
#include <sqlite3.h>

#include "agent/volume/bindings.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using agent::resource_of;
using keyring::CmkChange;

class EngineBindingsTest : public EngineFixture {
 protected:
  CmkId create(const std::string& alias) {
    keyring::CmkParameters parameters;
    parameters.alias = alias;
    std::optional<Result<agent::KeyInfo>> made;
    engine->create_key(parameters, admin(), [&](const auto& key) { made = key; });
    run_until([&] { return made.has_value(); });
    EXPECT_THAT(*made, Succeeds());
    return (*made)->record.id;
  }
  std::vector<std::string> bound(const CmkId& id) { return keyring->bindings(id, "", 100).value(); }
  Result<void> forget(const VolumeId& id) {
    std::optional<Result<void>> forgotten;
    engine->forget(id, admin(), [&](const Result<void>& done) { forgotten = done; });
    run_until([&] { return forgotten.has_value(); });
    return *forgotten;
  }
  std::vector<std::string> list(const keyring::KeyQuery& query) {
    std::optional<Result<std::vector<agent::KeyInfo>>> found;
    engine->list_keys(query, [&](const auto& keys) { found = keys; });
    run_until([&] { return found.has_value(); });
    EXPECT_THAT(*found, Succeeds());
    std::vector<std::string> aliases;
    for (const auto& key : **found) aliases.push_back(key.record.alias);
    return aliases;
  }
  // Past every check, as for somebody who edits the file.
  void damage(const std::string& alias) {
    sqlite3* database = nullptr;
    ASSERT_EQ(::sqlite3_open((folder / "keyring.db").c_str(), &database), SQLITE_OK);
    const std::string sql = "UPDATE cmk SET record = X'00' WHERE alias = '" + alias + "'";
    EXPECT_EQ(::sqlite3_exec(database, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK);
    ::sqlite3_close(database);
  }
  std::size_t printed_of(const std::string& text) {
    return static_cast<std::size_t>(std::ranges::count_if(
        printed, [&](const auto& entry) { return entry.message.find(text) != std::string::npos; }));
  }
};

TEST_F(EngineBindingsTest, AVolumeIsUnboundFromAKeyThatItsRowDoesNotName) {
  const VolumeId id = provision(plug("vda"), "data");
  const CmkId other = create("other");
  ASSERT_THAT(keyring->bind(other, resource_of(id), {}), Succeeds());
  stop();
  start();
  EXPECT_TRUE(run_until([&] { return bound(other).empty(); })) << "its row stands all the same";
  EXPECT_EQ(bound(key_id()), std::vector{resource_of(id)});
  EXPECT_THAT(change_key(other, CmkChange::kDisable), Succeeds());
}

TEST_F(EngineBindingsTest, AnAdoptedVolumeIsUnboundFromTheKeysOfTheRowBefore) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  ASSERT_THAT(forget(id), Succeeds());
  const CmkId other = create("other");
  ASSERT_THAT(keyring->bind(other, resource_of(id), {}), Succeeds());
  EXPECT_EQ(finish(engine->adopt("/dev/vda", {}, admin())).state, agent::JobState::kDone);
  EXPECT_TRUE(bound(other).empty());
  EXPECT_EQ(bound(key_id()), std::vector{resource_of(id)});
}

TEST_F(EngineBindingsTest, WhatAForgottenVolumeCouldNotUnbindIsUnboundLater) {
  const VolumeId id = provision(plug("vda"), "data");
  finish(engine->lock({id}, {}, admin()));
  audit.fail_when([](const audit::Event& event) { return event.operation == "key.unbind"; });
  ASSERT_THAT(forget(id), Succeeds());
  EXPECT_EQ(bound(key_id()), std::vector{resource_of(id)});
  EXPECT_THAT(change_key(key_id(), CmkChange::kDisable), FailsWith(Reason::kKeyBound));
  audit.succeed_again();
  EXPECT_TRUE(run_until([&] { return bound(key_id()).empty(); })) << "without a restart";
  EXPECT_THAT(change_key(key_id(), CmkChange::kDisable), Succeeds());
}

TEST_F(EngineBindingsTest, OnlyKeysThatVolumesConcernAreSettled) {
  const VolumeId id = provision(plug("vda"), "data");
  const CmkId stale = create("stale");
  const CmkId other = create("other");
  create("idle");
  ASSERT_THAT(keyring->bind(stale, resource_of(*VolumeId::random()), {}), Succeeds());
  ASSERT_THAT(keyring->bind(other, "backup:nightly", {}), Succeeds());
  ASSERT_THAT(keyring->unbind(key_id(), resource_of(id), {}), Succeeds());
  EXPECT_THAT(agent::keys_to_settle(*registry, *keyring).value(),
              testing::UnorderedElementsAre(key_id(), stale));
}

TEST_F(EngineBindingsTest, ADamagedKeyHidesNoOtherAndIsToldOnce) {
  for (const char* alias : {"a", "b", "c", "d", "e"}) create(alias);
  damage("b");
  for (int i = 0; i < 3; ++i) {
    EXPECT_THAT(list({.order = keyring::KeyOrder::kOldestFirst, .count_max = 3}),
                testing::ElementsAre("default", "a", "c"));
  }
  EXPECT_EQ(list({.count_max = 5}).size(), 5U) << "a full page says that there may be more";
  EXPECT_EQ(list({}).size(), 5U);
  EXPECT_EQ(printed_of("record"), 1U);
}

}  // namespace
}  // namespace coffer::tests

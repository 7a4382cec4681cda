// SPDX-License-Identifier: Apache-2.0
// What callers bind to keys, how many keys there are, and random bytes of the token.
#include <algorithm>

#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CmkChange;
using testing::ElementsAre;
using testing::IsEmpty;

class EngineKeyDoorsTest : public EngineFixture {
 protected:
  // The end of a call of the engine.
  template <class T, class Call>
  Result<T> ended(Call call) {
    std::optional<Result<T>> end;
    call([&](Result<T> done) { end = std::move(done); });
    run_until([&] { return end.has_value(); });
    return end ? std::move(*end) : Result<T>(fail(Reason::kTimedOut, "no answer"));
  }
  Result<void> set_bound(const std::string& resource, bool bound) {
    return ended<void>(
        [&](auto done) { engine->set_key_bound(key_id(), resource, bound, admin(), done); });
  }
  std::vector<std::string> bindings(const std::string& after = "", std::size_t count_max = 1000) {
    return ended<std::vector<std::string>>(
               [&](auto done) { engine->key_bindings(key_id(), after, count_max, done); })
        .value();
  }
};

TEST_F(EngineKeyDoorsTest, AResourceHoldsItsKeyUntilItIsUnbound) {
  ASSERT_THAT(set_bound("backup:nightly", true), Succeeds());
  ASSERT_THAT(set_bound("backup:nightly", true), Succeeds()) << "it stays so";
  EXPECT_THAT(change_key(key_id(), CmkChange::kDisable), FailsWith(Reason::kKeyBound));
  EXPECT_GE(audit.count(audit::Kind::kIntent, "key.bind"), 1U);
  stop();
  start();
  EXPECT_THAT(bindings(), ElementsAre("backup:nightly"));
  ASSERT_THAT(set_bound("backup:nightly", false), Succeeds());
  EXPECT_THAT(bindings(), IsEmpty());
  EXPECT_THAT(change_key(key_id(), CmkChange::kDisable), Succeeds());
  EXPECT_THAT(set_bound("backup:nightly", true), FailsWith(Reason::kKeyDisabled));
}

TEST_F(EngineKeyDoorsTest, WhatIsNotBoundIsNotUnbound) {
  for (const auto* near : {"backup:nightl", "backup:nightly!", "backup:nightlz", "backup:nightl~"})
    ASSERT_THAT(set_bound(near, true), Succeeds());
  EXPECT_THAT(set_bound("backup:nightly", false), FailsWith(Reason::kNoSuchBinding));
  EXPECT_EQ(audit.events().back().kind, audit::Kind::kRefused);
  EXPECT_EQ(audit.events().back().operation, "key.unbind");
  EXPECT_EQ(audit.events().back().cmk, key_id());
  EXPECT_EQ(bindings().size(), 4U);
  for (const auto* near : {"backup:nightly!", "backup:nightl~", "backup:nightl", "backup:nightlz"})
    EXPECT_THAT(set_bound(near, false), Succeeds()) << near;
  ASSERT_THAT(set_bound("!", true), Succeeds());
  EXPECT_THAT(set_bound("!", false), Succeeds());
}

TEST_F(EngineKeyDoorsTest, VolumesBindTheirKeysThemselves) {
  const VolumeId id = provision(plug("vda"), "data");
  const std::string resource = "volume:" + id.str();
  EXPECT_THAT(bindings(), ElementsAre(resource));
  EXPECT_THAT(set_bound(resource, false), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(set_bound("volume:another", true), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(bindings(), ElementsAre(resource));
  run_until([&] { return audit.count(audit::Kind::kRefused, "key.unbind") == 1U; });
  ASSERT_THAT(set_bound("zone:a", true), Succeeds());
  EXPECT_THAT(bindings(resource), ElementsAre("zone:a"));
  EXPECT_THAT(bindings("", 1), ElementsAre(resource));
}

TEST_F(EngineKeyDoorsTest, KeysAreCountedByAFilter) {
  const auto count = [&](const keyring::KeyFilter& filter) {
    return ended<std::uint64_t>([&](auto done) { engine->count_keys(filter, done); });
  };
  EXPECT_EQ(count({}).value(), 1U);
  EXPECT_EQ(count({.state = keyring::KeyState::kArchived}).value(), 0U);
  EXPECT_THAT(count({.search = std::string(65, 'x')}), FailsWith(Reason::kInvalidArgs));
}

TEST_F(EngineKeyDoorsTest, RandomBytesAreTheTokens) {
  const auto draw = [&](std::uint32_t size) {
    return ended<SecretBytes>([&](auto done) { engine->random_bytes(size, admin(), done); });
  };
  const auto first = draw(32);
  const auto second = draw(32);
  ASSERT_THAT(first, Succeeds());
  ASSERT_THAT(second, Succeeds());
  EXPECT_EQ(first->size(), 32U);
  EXPECT_FALSE(std::ranges::equal(first->reveal(), second->reveal()));
}

TEST_F(EngineKeyDoorsTest, OfRandomBytesTheTrailHasTheReasonAndTheRefusal) {
  agent::Caller caller = admin();
  caller.reason = "ticket 17";
  const auto draw = [&] {
    return ended<SecretBytes>([&](auto done) { engine->random_bytes(32, caller, done); });
  };
  ASSERT_THAT(draw(), Succeeds());
  EXPECT_EQ(audit.events().back().operation, "key.random");
  EXPECT_EQ(audit.events().back().kind, audit::Kind::kNote);
  EXPECT_EQ(audit.events().back().text, "reason: ticket 17");
  vault->go_away();
  EXPECT_THAT(draw(), FailsWith(Reason::kHsmAbsent));
  EXPECT_EQ(audit.events().back().outcome, "HsmAbsent");
  EXPECT_EQ(audit.count(audit::Kind::kRefused, "key.random"), 1U);
  audit.fail_when([](const auto& event) { return event.kind == audit::Kind::kNote; });
  vault->come_back();
  EXPECT_THAT(draw(), FailsWith(Reason::kAuditUnavailable)) << "not without its reason";
  audit.succeed_again();
}

}  // namespace
}  // namespace coffer::tests

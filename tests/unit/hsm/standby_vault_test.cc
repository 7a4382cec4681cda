// SPDX-License-Identifier: Apache-2.0
#include "hsm/standby_vault.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "hsm/development_vault.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_key_store.h"
#include "tests/fakes/flaky_vault.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

using hsm::StandbyVault;
using keyring::CmkChange;
using keyring::KeyVault;
using keyring::VaultState;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

// Two vaults with floors of their own, on one token or on two.
struct Pair {
  explicit Pair(bool one_token = true) : same_token(one_token) {}
  // Again, as after a restart.
  explicit Pair(std::shared_ptr<TempDir> before) : dir(std::move(before)) {}

  std::unique_ptr<KeyVault> open(const std::string& name) {
    hsm::DevelopmentVaultOptions options;
    options.token.path = (dir->path() / (same_token ? "token" : name)).string();
    options.floors_path = (dir->path() / (name + ".db")).string();
    testing::internal::CaptureStderr();  // Its warning.
    auto opened = hsm::open_development_vault(options, sink);
    testing::internal::GetCapturedStderr();
    return std::move(*opened);
  }

  const bool same_token = true;
  const std::shared_ptr<TempDir> dir = std::make_shared<TempDir>();
  FakeDekSink sink;
  const std::unique_ptr<KeyVault> one = open("a");
  const std::unique_ptr<KeyVault> two = open("b");
  FlakyVault active{*one};
  FlakyVault standby{*two};
  std::vector<std::string> switches;
  StandbyVault vault{{.active = {"a", &active},
                      .standby = {"b", &standby},
                      .fail_back_after = std::chrono::milliseconds(0),
                      .on_switch = [this](const std::string& text) { switches.push_back(text); }}};
};

VaultUnderTest under_test(const std::shared_ptr<Pair>& pair, bool active_away) {
  static_cast<void>(pair->vault.health());
  if (active_away) {
    pair->active.go_away();
    static_cast<void>(pair->vault.health());
  }
  return {pair, std::shared_ptr<KeyVault>(pair, &pair->vault), &pair->sink};
}

VaultMaker standby_vault(std::string name, bool active_away) {
  return {std::move(name),
          [active_away] { return under_test(std::make_shared<Pair>(), active_away); },
          [active_away](VaultUnderTest& before) {
            const auto dir = std::static_pointer_cast<Pair>(before.parts)->dir;
            before = {};
            return under_test(std::make_shared<Pair>(dir), active_away);
          },
          true, ""};
}

INSTANTIATE_TEST_SUITE_P(Standby, KeyVaultContract,
                         testing::Values(standby_vault("BothThere", false),
                                         standby_vault("ActiveAway", true)),
                         maker_name);

class StandbyVaultTest : public testing::Test {
 protected:
  StandbyVaultTest() { EXPECT_EQ(pair_.vault.health().state, VaultState::kUp); }

  keyring::SealedRecord create() {
    keyring::CmkParameters parameters;
    parameters.alias = "default";
    auto record = pair_.vault.create_cmk(parameters);
    EXPECT_THAT(record, Succeeds());
    EXPECT_THAT(pair_.vault.present(*record), Succeeds());
    return *record;
  }
  static keyring::KeyContext data() {
    keyring::KeyContext context;
    context.purpose = keyring::Purpose::kEnvelopeData;
    context.key_bytes = 32;
    return context;
  }
  static keyring::KeyContext volume() {
    keyring::KeyContext context;
    context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
    context.cipher = "aes-xts-plain64";
    context.key_bytes = 64;
    context.generation = 1;
    return context;
  }
  std::vector<keyring::Presented> wrap(const keyring::SealedRecord& record, std::size_t count) {
    std::vector<KeyVault::Plain> keys(count);
    for (auto& key : keys) key = {*SecretBytes::random(32), data()};
    std::vector<keyring::Presented> presented;
    for (auto& blob : pair_.vault.wrap(record, keys, soon())) {
      EXPECT_THAT(blob, Succeeds());
      presented.push_back({*blob, data()});
    }
    return presented;
  }

  Pair pair_;
  StandbyVault& vault_ = pair_.vault;
};

TEST_F(StandbyVaultTest, UnwrapsGoOnWhenTheActiveOneIsLost) {
  const auto record = create();
  const auto keys = wrap(record, 3);
  for (const auto reason :
       {Reason::kHsmAbsent, Reason::kHsmTimeout, Reason::kHsmLoginNeeded, Reason::kHsmPinIncorrect,
        Reason::kHsmPinLocked, Reason::kHsmKeyUnsafe}) {
    pair_.active.go_away(reason);
    for (const auto& key : vault_.unwrap(record, keys, soon())) EXPECT_THAT(key, Succeeds());
    ASSERT_THAT(pair_.switches, SizeIs(1));
    EXPECT_THAT(pair_.switches.front(), HasSubstr("token b serves instead of a"));
    // The next one asks the standby at once.
    const int calls = pair_.active.calls();
    EXPECT_THAT(vault_.unwrap(record, keys, soon()).front(), Succeeds());
    EXPECT_EQ(pair_.active.calls(), calls);
    pair_.active.come_back();
    static_cast<void>(vault_.health());
    EXPECT_EQ(pair_.switches.size(), 2U) << "it is well again";
    pair_.switches.clear();
  }
}

TEST_F(StandbyVaultTest, BothLostIsTheActiveOnesError) {
  const auto record = create();
  const auto keys = wrap(record, 2);
  pair_.active.go_away(Reason::kHsmPinLocked);
  pair_.standby.go_away(Reason::kHsmAbsent);
  for (const auto& key : vault_.unwrap(record, keys, soon()))
    EXPECT_THAT(key, FailsWith(Reason::kHsmPinLocked));
  EXPECT_THAT(vault_.present(record), FailsWith(Reason::kHsmPinLocked));
  EXPECT_THAT(pair_.switches, IsEmpty());
  const auto health = vault_.health();
  EXPECT_NE(health.state, VaultState::kUp);
  EXPECT_THAT(health.detail, HasSubstr("token b cannot serve"));
}

// What may mean bad data is asked for once more, and changes no places when it is the data.
TEST_F(StandbyVaultTest, BadDataAreNoReasonToChangePlaces) {
  const auto record = create();
  auto keys = wrap(record, 1);
  keys.front().blob.ciphertext.front() ^= std::byte{1};
  pair_.active.refuse_unwraps(Reason::kHsmFailed);
  EXPECT_THAT(vault_.unwrap(record, keys, soon()).front(), FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(pair_.switches, IsEmpty());
  keys.front().blob.ciphertext.front() ^= std::byte{1};
  EXPECT_THAT(vault_.unwrap(record, keys, soon()).front(), Succeeds());
  EXPECT_THAT(pair_.switches, SizeIs(1)) << "it was the token";
}

// A use that nobody counted and a second DEK are worse than an error.
TEST_F(StandbyVaultTest, WrapsAreNotRepeatedAndTheNextOneGoesToTheStandby) {
  const auto record = create();
  pair_.active.go_away();
  std::vector<KeyVault::Plain> keys(1);
  keys.front() = {*SecretBytes::random(32), data()};
  EXPECT_THAT(vault_.wrap(record, keys, soon()).front(), FailsWith(Reason::kHsmAbsent));
  EXPECT_THAT(pair_.switches, SizeIs(1));
  EXPECT_THAT(vault_.wrap(record, keys, soon()).front(), Succeeds());
}

TEST_F(StandbyVaultTest, ADekThatMayHaveBeenDeliveredIsNotMadeAgain) {
  const auto record = create();
  pair_.active.go_away(Reason::kHsmTimeout);
  const auto context = volume();
  const auto ticket = *keyring::draw_ticket();
  const auto made = vault_.make_deks(record, {&context, 1}, ticket, 0, soon());
  EXPECT_THAT(made.front(), FailsWith(Reason::kHsmTimeout));
  EXPECT_THAT(pair_.sink.taken(), IsEmpty());
  EXPECT_THAT(vault_.make_deks(record, {&context, 1}, ticket, 0, soon()).front(), Succeeds());
  EXPECT_THAT(pair_.sink.taken(), SizeIs(1));
}

TEST_F(StandbyVaultTest, OfADeliveryWhoseAnswerWasLostTheFirstErrorIsTold) {
  const auto record = create();
  const auto context = volume();
  const auto ticket = *keyring::draw_ticket();
  const auto made = vault_.make_deks(record, {&context, 1}, ticket, 0, soon());
  ASSERT_THAT(made.front(), Succeeds());
  const std::vector<keyring::Presented> keys{{*made.front(), context}};
  const std::vector<std::uint32_t> indexes{0};
  pair_.active.lose_answer(Reason::kHsmAbsent);
  // The worker took it the first time, and does not take it again.
  pair_.sink.expect_only(ticket);
  pair_.sink.take_once();
  EXPECT_THAT(vault_.deliver(record, keys, ticket, indexes, soon()).front(),
              FailsWith(Reason::kHsmAbsent));
}

TEST_F(StandbyVaultTest, WhatIsPresentedIsPresentedToBoth) {
  const auto first = create();
  const auto second = vault_.change_cmk(first, CmkChange::kDisable);
  ASSERT_THAT(second, Succeeds());
  ASSERT_THAT(vault_.present(*second), Succeeds());
  pair_.active.go_away();
  EXPECT_THAT(vault_.present(first), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(StandbyVaultTest, AStandbyThatIsAwayHoldsNothingUp) {
  pair_.standby.go_away();
  EXPECT_THAT(vault_.health().detail, HasSubstr("token b cannot serve"));
  const int calls = pair_.standby.calls();
  const auto record = create();
  EXPECT_EQ(pair_.standby.calls(), calls);
  EXPECT_THAT(vault_.unwrap(record, wrap(record, 1), soon()).front(), Succeeds());
}

// Whoever can edit the store puts the old record back, and takes the active token away.
TEST_F(StandbyVaultTest, WhatTheStandbyMissedIsShownToItBeforeItServes) {
  for (const auto& change : {CmkChange(CmkChange::kDisable), CmkChange(CmkChange::kRotate)}) {
    for (const bool looked_at : {true, false}) {
      const auto old = create();
      const auto keys = wrap(old, 1);
      pair_.standby.go_away();
      static_cast<void>(vault_.health());
      const auto next = vault_.change_cmk(old, change);
      ASSERT_THAT(next, Succeeds());
      ASSERT_THAT(vault_.present(*next), Succeeds());
      pair_.standby.come_back();
      if (looked_at) static_cast<void>(vault_.health());
      pair_.active.go_away();
      EXPECT_THAT(vault_.unwrap(old, keys, soon()).front(), FailsWith(Reason::kRecordSuperseded));
      EXPECT_THAT(pair_.standby.present(old), FailsWith(Reason::kRecordSuperseded));
      EXPECT_THAT(pair_.standby.present(*next), Succeeds());
      pair_.active.come_back();
      static_cast<void>(vault_.health());
    }
  }
}

TEST_F(StandbyVaultTest, WhatTheActiveOneMissedIsShownToItBeforeItServesAgain) {
  const auto old = create();
  pair_.active.go_away();
  static_cast<void>(vault_.health());
  const auto next = vault_.change_cmk(old, CmkChange::kDisable);
  ASSERT_THAT(next, Succeeds());
  ASSERT_THAT(vault_.present(*next), Succeeds());
  pair_.active.come_back();
  static_cast<void>(vault_.health());
  EXPECT_THAT(pair_.switches, SizeIs(2));
  EXPECT_THAT(pair_.active.present(old), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(StandbyVaultTest, AStandbyThatCannotBeShownWhatItMissedDoesNotServe) {
  const auto old = create();
  const auto keys = wrap(old, 1);
  const auto other = create();
  pair_.standby.go_away();
  static_cast<void>(vault_.health());
  ASSERT_THAT(vault_.present(*vault_.change_cmk(old, CmkChange::kDisable)), Succeeds());
  pair_.standby.come_back();
  pair_.standby.refuse_records(Reason::kStoreUnavailable);
  EXPECT_THAT(vault_.health().detail, HasSubstr("token b was not shown yet"));
  pair_.active.go_away();
  EXPECT_NE(vault_.health().state, VaultState::kUp);
  EXPECT_THAT(vault_.unwrap(old, keys, soon()).front(), FailsWith(Reason::kHsmAbsent));
  EXPECT_THAT(vault_.wrap(other, std::vector<KeyVault::Plain>(1), soon()).front(),
              FailsWith(Reason::kHsmAbsent));
  EXPECT_THAT(pair_.switches, IsEmpty());
  pair_.standby.take_records();
  EXPECT_EQ(vault_.health().state, VaultState::kUp);
  EXPECT_THAT(pair_.standby.present(old), FailsWith(Reason::kRecordSuperseded));
}

// With more than it keeps for one that is away, the store is what it is shown.
TEST(StandbyStoreTest, OneThatMissedMoreThanIsKeptIsShownTheWholeStore) {
  for (const bool has_store : {true, false}) {
    Pair pair;
    FakeKeyStore store;
    StandbyVault vault({.active = {"a", &pair.active},
                        .standby = {"b", &pair.standby},
                        .on_switch = {},
                        .store = has_store ? &store : nullptr,
                        .missed_max = 1});
    static_cast<void>(vault.health());
    pair.standby.go_away();
    static_cast<void>(vault.health());
    std::vector<keyring::SealedRecord> old;
    for (const auto* alias : {"one", "two", "three"}) {
      keyring::CmkParameters parameters;
      parameters.alias = alias;
      old.push_back(*vault.create_cmk(parameters));
      ASSERT_THAT(pair.two->present(old.back()), Succeeds()) << "as before it went away";
      const auto next = vault.change_cmk(old.back(), CmkChange::kDisable);
      ASSERT_THAT(next, Succeeds());
      ASSERT_THAT(store.put(*next, 0, 1), Succeeds());
      ASSERT_THAT(vault.present(*next), Succeeds());
    }
    pair.standby.come_back();
    pair.active.go_away();
    EXPECT_THAT(vault.present(old.back()),
                FailsWith(has_store ? Reason::kRecordSuperseded : Reason::kHsmAbsent));
    if (!has_store) continue;
    for (const auto& record : old)
      EXPECT_THAT(pair.standby.present(record), FailsWith(Reason::kRecordSuperseded));
  }
}

// On fail-over every call finds that the standby missed something, a few records or more than are
// kept: one shows it all of that, and the others wait.
TEST(StandbyStoreTest, WhatWasMissedIsShownOnceHoweverManyCallsNeedIt) {
  constexpr std::size_t kRecords = 5;
  constexpr int kCalls = 4;
  for (const std::size_t missed_max : {std::size_t{1}, std::size_t{100}}) {
    Pair pair;
    FakeKeyStore store;
    StandbyVault vault({.active = {"a", &pair.active},
                        .standby = {"b", &pair.standby},
                        .on_switch = {},
                        .store = &store,
                        .missed_max = missed_max});
    static_cast<void>(vault.health());
    keyring::SealedRecord record;
    // Looked at, so that it was shown the store as it was: nothing of it is left for later.
    pair.standby.go_away();
    static_cast<void>(vault.health());
    for (std::size_t i = 0; i < kRecords; ++i) {
      keyring::CmkParameters parameters;
      parameters.alias = "key-" + std::to_string(i);
      record = *vault.create_cmk(parameters);
      ASSERT_THAT(store.put(record, 0, 1), Succeeds());
      ASSERT_THAT(vault.present(record), Succeeds());
    }
    std::vector<KeyVault::Plain> plain(1);
    plain[0] = {*SecretBytes::random(32), {}};
    plain[0].context.purpose = keyring::Purpose::kEnvelopeData;
    plain[0].context.key_bytes = 32;
    const auto wrapped = std::move(vault.wrap(record, plain, soon()).front());
    ASSERT_THAT(wrapped, Succeeds());
    const std::vector<keyring::Presented> keys{{*wrapped, plain[0].context}};

    pair.standby.hold_records();
    pair.standby.come_back();
    pair.active.go_away();
    const int asked = pair.active.calls();
    const int shown = pair.standby.calls();
    const auto unwrap = [&](Deadline deadline) { return vault.unwrap(record, keys, deadline); };
    std::vector<std::future<std::vector<Result<SecretBytes>>>> calls;
    calls.reserve(kCalls);
    for (int i = 0; i < kCalls; ++i)
      calls.push_back(std::async(std::launch::async, unwrap, soon()));
    while (pair.active.calls() < asked + kCalls) std::this_thread::yield();
    EXPECT_EQ(calls[0].wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
    EXPECT_EQ(pair.standby.calls(), shown + 1) << "the one that shows";
    // Who has less time than it takes is told of the loss then.
    EXPECT_THAT(unwrap(Deadline::after(std::chrono::milliseconds(20))).front(),
                FailsWith(Reason::kHsmAbsent));
    pair.standby.take_held_records();
    for (auto& call : calls) EXPECT_THAT(call.get().front(), Succeeds());
    EXPECT_EQ(pair.standby.calls(),
              shown + static_cast<int>(kRecords) + kCalls + (missed_max == 1 ? 1 : 0))
        << "each record once; the one that was kept by itself as well";
  }
}

// What was missed takes longer to show than one caller has time for: the next one goes on, and is
// given as much from then on. Who may repeat its call is served then, and who may not leaves the
// place to the standby.
TEST(StandbyStoreTest, WhoWaitedForOneThatWasLateGoesOnWithATimeOfItsOwn) {
  constexpr int kCalls = 4;
  for (const bool may_repeat : {true, false}) {
    SCOPED_TRACE(may_repeat);
    Pair pair;
    FakeClock clock;
    int switches = 0;
    StandbyVault vault({.active = {"a", &pair.active},
                        .standby = {"b", &pair.standby},
                        .on_switch = [&](const std::string&) { ++switches; },
                        .clock = &clock});
    static_cast<void>(vault.health());
    pair.standby.go_away();
    static_cast<void>(vault.health());
    keyring::SealedRecord record;
    for (const auto* alias : {"one", "two", "three"}) {
      keyring::CmkParameters parameters;
      parameters.alias = alias;
      record = *vault.create_cmk(parameters);
      ASSERT_THAT(vault.present(record), Succeeds());
    }
    pair.standby.hold_records();
    pair.standby.come_back();
    pair.active.go_away();
    const int asked = pair.active.calls();
    const int shown = pair.standby.calls();
    const auto call = [&]() -> Result<void> {
      if (may_repeat) return vault.present(record);
      const auto wrapped = vault.wrap(record, std::vector<KeyVault::Plain>(1), soon());
      if (!wrapped.front()) return tl::unexpected(wrapped.front().error());
      return {};
    };
    std::vector<std::future<Result<void>>> calls;
    calls.reserve(kCalls);
    for (int i = 0; i < kCalls; ++i) calls.push_back(std::async(std::launch::async, call));
    const Deadline end = soon();
    const auto come_to = [&](int all_asked, int all_shown) {
      while (!end.passed() && (pair.active.calls() < all_asked || pair.standby.calls() < all_shown))
        std::this_thread::yield();
    };
    come_to(asked + kCalls, shown + 1);
    EXPECT_EQ(calls[0].wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
    clock.advance(std::chrono::seconds(6));
    pair.standby.take_one_held_record();
    come_to(asked + kCalls, shown + 2);
    EXPECT_EQ(pair.standby.calls(), shown + 2) << "one goes on, behind the record that was shown";
    pair.standby.take_held_records();
    int served = 0;
    for (auto& one : calls) served += one.get() ? 1 : 0;
    EXPECT_EQ(served, may_repeat ? kCalls - 1 : 0) << "the first one's time was over";
    EXPECT_EQ(switches, 1);
  }
}

// One that cannot be shown anything is not asked by each of those that waited.
TEST(StandbyStoreTest, ARefusalToBeShownIsTheAnswerForAllThatWaited) {
  Pair pair;
  StandbyVault& vault = pair.vault;
  static_cast<void>(vault.health());
  pair.standby.go_away();
  static_cast<void>(vault.health());
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  const auto record = vault.create_cmk(parameters);
  ASSERT_THAT(record, Succeeds());
  ASSERT_THAT(vault.present(*record), Succeeds());
  pair.standby.hold_records();
  pair.standby.refuse_records(Reason::kStoreUnavailable);
  pair.standby.come_back();
  pair.active.go_away();
  const int asked = pair.active.calls();
  const int shown = pair.standby.calls();
  std::vector<std::future<Result<void>>> calls;
  calls.reserve(4);
  for (int i = 0; i < 4; ++i)
    calls.push_back(std::async(std::launch::async, [&] { return vault.present(*record); }));
  while (pair.active.calls() < asked + 4) std::this_thread::yield();
  EXPECT_EQ(calls[0].wait_for(std::chrono::milliseconds(100)), std::future_status::timeout);
  pair.standby.take_held_records();
  for (auto& call : calls) EXPECT_THAT(call.get(), FailsWith(Reason::kHsmAbsent));
  EXPECT_EQ(pair.standby.calls(), shown + 1);
}

TEST(StandbyStoreTest, WhatAStandbyMissedBeforeThisProcessIsShownToItFromTheStore) {
  Pair pair;
  FakeKeyStore store;
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  const auto old = pair.active.create_cmk(parameters);
  ASSERT_THAT(old, Succeeds());
  ASSERT_THAT(pair.standby.present(*old), Succeeds());
  const auto next = pair.active.change_cmk(*old, CmkChange::kDisable);
  ASSERT_THAT(next, Succeeds());
  ASSERT_THAT(store.put(*next, 0, 1), Succeeds());
  ASSERT_THAT(pair.active.present(*next), Succeeds());

  StandbyVault vault({.active = {"a", &pair.active},
                      .standby = {"b", &pair.standby},
                      .on_switch = {},
                      .store = &store});
  static_cast<void>(vault.health());
  EXPECT_THAT(pair.standby.present(*old), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(StandbyVaultTest, AKeyIsMadeOnTheStandbyToo) {
  pair_.active.go_away();
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  EXPECT_THAT(vault_.create_cmk(parameters), Succeeds());
}

TEST(StandbyRootTest, ATokenWithAnotherRootKeyNeverStandsIn) {
  Pair pair(false);
  EXPECT_THAT(pair.vault.health().detail, HasSubstr("another root key"));
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  const auto record = pair.vault.create_cmk(parameters);
  ASSERT_THAT(record, Succeeds());
  pair.active.go_away();
  EXPECT_THAT(pair.vault.create_cmk(parameters), FailsWith(Reason::kHsmAbsent));
  EXPECT_THAT(pair.vault.present(*record), FailsWith(Reason::kHsmAbsent));
  static_cast<void>(pair.vault.health());
  EXPECT_THAT(pair.switches, IsEmpty());
}

TEST(StandbyRootTest, ATokenWithAnotherRootKeyIsLeftOnceThatIsSeen) {
  Pair pair(false);
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  const auto record = pair.active.create_cmk(parameters);
  ASSERT_THAT(record, Succeeds());
  pair.active.go_away();
  static_cast<void>(pair.vault.health());  // Nobody knows yet what the active one's root key is.
  pair.active.come_back();
  EXPECT_THAT(pair.vault.health().detail, HasSubstr("another root key"));
  EXPECT_THAT(pair.vault.present(*record), Succeeds());
}

TEST(StandbyRootTest, NoKeyIsMadeOnAStandbyWhoseActiveOneWasNeverSeen) {
  Pair pair;
  pair.active.go_away();
  EXPECT_EQ(pair.vault.health().state, VaultState::kUp);
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  EXPECT_THAT(pair.vault.create_cmk(parameters), FailsWith(Reason::kHsmAbsent));
}

TEST(StandbyFailBackTest, TheActiveOneServesAgainWhenItWasWellForAWhile) {
  Pair pair;
  StandbyVault vault({.active = {"a", &pair.active},
                      .standby = {"b", &pair.standby},
                      .fail_back_after = std::chrono::hours(1),
                      .on_switch = {}});
  static_cast<void>(vault.health());
  pair.active.go_away();
  EXPECT_THAT(vault.health().detail, HasSubstr("token b: "));
  pair.active.come_back();
  EXPECT_THAT(vault.health().detail, HasSubstr("token a is well again"));
  EXPECT_THAT(vault.health().detail, HasSubstr("token b: "));
  // Unless the standby is lost meanwhile.
  pair.standby.go_away();
  EXPECT_THAT(vault.health().detail, HasSubstr("token a: "));
}

}  // namespace
}  // namespace coffer::tests

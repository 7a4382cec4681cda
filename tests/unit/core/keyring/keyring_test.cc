// SPDX-License-Identifier: Apache-2.0
#include "core/keyring/keyring.h"

#include <gtest/gtest.h>

#include "hsm/development_vault.h"
#include "tests/fakes/fake_audit.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/fakes/fake_key_store.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

Deadline soon() {
  return Deadline::after(std::chrono::seconds(30));
}

using audit::Kind;
using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::DekDelivery;
using keyring::DekRequest;
using keyring::KeyContext;
using keyring::Keyring;
using keyring::KeyState;
using keyring::KeyVault;
using keyring::SealedRecord;

class KeyringTest : public testing::Test {
 protected:
  KeyringTest() {
    testing::internal::CaptureStderr();  // The development vault's warning.
    vault_ = std::move(*hsm::open_development_vault(
        {.token = {}, .floors_path = "", .limits = {.lease_block = 8, .wraps_max = 20}}, sink_));
    testing::internal::GetCapturedStderr();
    restart();
    ticket_ = *keyring::draw_ticket();
  }

  // As cofferd starts anew with what is on disk.
  void restart() {
    keyring_.emplace(Keyring::Parts{*vault_, store_, log_, system_clock()});
    keyring_->set_observer(
        [this](const CmkRecord& now, bool is_new) { seen_.emplace_back(now, is_new); });
  }

  CmkRecord create(const std::string& alias = "default") {
    CmkParameters parameters;
    parameters.alias = alias;
    auto made = keyring_->create(parameters, actor_);
    EXPECT_THAT(made, Succeeds());
    return made ? *made : CmkRecord{.id = CmkId(Uuid())};
  }

  static KeyContext volume_context(std::uint64_t generation = 1) {
    KeyContext context;
    context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
    context.cipher = "aes-xts-plain64";
    context.key_bytes = 64;
    context.generation = generation;
    return context;
  }
  static std::vector<KeyVault::Plain> data_keys(std::size_t count) {
    std::vector<KeyVault::Plain> keys(count);
    for (auto& one : keys) {
      one.key = *SecretBytes::random(32);
      one.context.purpose = keyring::Purpose::kEnvelopeData;
      one.context.key_bytes = 32;
    }
    return keys;
  }
  keyring::WrappedKey make_dek(const CmkId& id, std::uint32_t index = 0) {
    const DekRequest request{volume_context(), 77};
    auto made = keyring_->make_deks(id, {&request, 1}, ticket_, index, actor_, soon());
    EXPECT_THAT(made.at(0), Succeeds());
    return *made.at(0);
  }
  Result<void> deliver(const keyring::WrappedKey& blob, std::uint64_t intent = 77) {
    const DekDelivery delivery{{blob, volume_context()}, 0, intent};
    return keyring_->deliver({&delivery, 1}, ticket_, soon()).at(0);
  }

  std::vector<std::string> audit_lines() const {
    std::vector<std::string> lines;
    for (const auto& event : log_.events()) {
      lines.push_back((event.kind == Kind::kIntent ? "intent " : "result ") + event.operation +
                      (event.outcome.empty() ? "" : " " + event.outcome));
    }
    return lines;
  }

  FakeDekSink sink_;
  FakeKeyStore store_;
  FakeAudit log_;
  std::unique_ptr<KeyVault> vault_;
  std::optional<Keyring> keyring_;
  audit::Actor actor_{
      .origin = audit::Origin::kDbus, .uid = 0, .bus_name = {}, .polkit_action = {}};
  keyring::Ticket ticket_{};
  std::vector<std::pair<CmkRecord, bool>> seen_;
};

TEST_F(KeyringTest, ANewKeyIsRecordedStoredAndFound) {
  const auto made = create("disks");
  EXPECT_THAT(audit_lines(), testing::ElementsAre("intent key.create", "result key.create OK"));
  EXPECT_EQ(log_.events()[0].cmk, made.id);
  EXPECT_EQ(log_.events()[1].intent_sequence, 1U);
  EXPECT_EQ(store_.row(made.id).intent, 1U);
  EXPECT_EQ(*keyring_->get(made.id), made);
  EXPECT_EQ(*keyring_->find("disks"), made);
  EXPECT_EQ(*keyring_->find(made.id.str()), made);
  ASSERT_EQ(seen_.size(), 1U);
  EXPECT_TRUE(seen_[0].second);
}

TEST_F(KeyringTest, WhatIsNotThereIsNoSuchKey) {
  EXPECT_THAT(keyring_->get(*CmkId::random()), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(keyring_->find("nobody"), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(keyring_->disable(*CmkId::random(), actor_), FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(keyring_->sealed_record(*CmkId::random()), FailsWith(Reason::kNoSuchKey));
}

TEST_F(KeyringTest, AnAliasThatLooksLikeAnIdIsFound) {
  const auto made = create("abcdefab-0000-4000-8000-000000000001");
  EXPECT_EQ(*keyring_->find("abcdefab-0000-4000-8000-000000000001"), made);
}

TEST_F(KeyringTest, ATakenOrBadAliasIsRefusedAndTheRefusalRecorded) {
  create("disks");
  CmkParameters parameters;
  parameters.alias = "disks";
  EXPECT_THAT(keyring_->create(parameters, actor_), FailsWith(Reason::kNameTaken));
  parameters.alias = "7up";
  EXPECT_THAT(keyring_->create(parameters, actor_), FailsWith(Reason::kInvalidArgs));
  parameters.alias = "fine";
  parameters.description = std::string(1025, 'x');
  EXPECT_THAT(keyring_->create(parameters, actor_), FailsWith(Reason::kInvalidArgs));
  EXPECT_EQ(log_.count(Kind::kRefused, "key.create"), 3U);
  EXPECT_EQ(store_.rows().size(), 1U);
}

TEST_F(KeyringTest, AProtectionTheTokenCannotGiveIsRefused) {
  CmkParameters parameters;
  parameters.alias = "a";
  parameters.protection = keyring::Protection::kResident;
  EXPECT_THAT(keyring_->create(parameters, actor_), FailsWith(Reason::kUnsupported));
  EXPECT_THAT(audit_lines(),
              testing::ElementsAre("intent key.create", "result key.create Unsupported"));
}

TEST_F(KeyringTest, DisableAndEnableTakeEffectAtOnceForWhoeverKeptAnOldRecord) {
  const auto made = create();
  const auto blob = make_dek(made.id);
  const auto kept = *keyring_->sealed_record(made.id);
  EXPECT_EQ(keyring_->disable(made.id, actor_)->state, KeyState::kDisabled);
  EXPECT_THAT(deliver(blob), FailsWith(Reason::kKeyDisabled));
  // Not used since, and refused all the same: the change was presented when it was stored.
  EXPECT_THAT(vault_->present(kept), FailsWith(Reason::kRecordSuperseded));
  EXPECT_EQ(keyring_->enable(made.id, actor_)->state, KeyState::kEnabled);
  EXPECT_THAT(deliver(blob), Succeeds());
}

TEST_F(KeyringTest, AChangeThatIsAlreadySoDoesNothing) {
  const auto made = create();
  const auto before = log_.events().size();
  EXPECT_EQ(keyring_->enable(made.id, actor_)->revision, 1U);
  EXPECT_EQ(log_.events().size(), before);
}

TEST_F(KeyringTest, AServicesKeyIsRotatedAndNotDisabled) {
  CmkParameters parameters;
  parameters.alias = "svc";
  parameters.owner = keyring::KeyOwner::kService;
  const auto made = keyring_->create(parameters, actor_);
  ASSERT_THAT(made, Succeeds());
  EXPECT_THAT(keyring_->disable(made->id, actor_), FailsWith(Reason::kUnsupported));
  EXPECT_THAT(keyring_->rotate(made->id, actor_), Succeeds());
}

TEST_F(KeyringTest, ARotatedKeyDeliversWhatItsOlderVersionWrapped) {
  const auto made = create();
  const auto old = make_dek(made.id);
  EXPECT_EQ(keyring_->rotate(made.id, actor_)->current().number, 2U);
  EXPECT_EQ(make_dek(made.id).cmk_version, 2U);
  EXPECT_THAT(deliver(old), Succeeds());
  EXPECT_THAT(keyring_->disable(made.id, actor_), Succeeds());
  EXPECT_THAT(keyring_->rotate(made.id, actor_), FailsWith(Reason::kKeyDisabled));
}

TEST_F(KeyringTest, NothingHappensWithoutADurableIntent) {
  const auto made = create();
  const auto blob = make_dek(made.id);
  sink_.forget();
  log_.fail_always();
  EXPECT_THAT(keyring_->disable(made.id, actor_), FailsWith(Reason::kAuditUnavailable));
  EXPECT_THAT(keyring_->rotate(made.id, actor_), FailsWith(Reason::kAuditUnavailable));
  CmkParameters parameters;
  parameters.alias = "new";
  EXPECT_THAT(keyring_->create(parameters, actor_), FailsWith(Reason::kAuditUnavailable));
  EXPECT_THAT(keyring_->wrap(made.id, data_keys(1), actor_).at(0),
              FailsWith(Reason::kAuditUnavailable));
  EXPECT_THAT(deliver(blob, 0), FailsWith(Reason::kAuditUnavailable));
  EXPECT_TRUE(sink_.taken().empty());
  EXPECT_EQ(store_.rows().size(), 1U);
  EXPECT_EQ(keyring_->get(made.id)->revision, made.revision);
  log_.succeed_again();
  EXPECT_THAT(keyring_->disable(made.id, actor_), Succeeds());
}

TEST_F(KeyringTest, KeysAreMadeAndDeliveredUnderARecordedIntentAlone) {
  const auto made = create();
  const std::vector<DekRequest> requests{{volume_context(), 5}, {volume_context(), 0}};
  for (const auto& result : keyring_->make_deks(made.id, requests, ticket_, 0, actor_, soon())) {
    EXPECT_THAT(result, FailsWith(Reason::kAuditUnavailable));
  }
  EXPECT_TRUE(sink_.taken().empty());
}

TEST_F(KeyringTest, DeliveriesOfSeveralKeysComeBackInOrderOneResultEach) {
  const auto a = create("a");
  const auto b = create("b");
  const auto gone = *CmkId::random();
  auto lost = make_dek(a.id, 9);
  lost.cmk = gone;
  const std::vector<DekDelivery> deliveries{{{make_dek(a.id, 10), volume_context()}, 0, 7},
                                            {{make_dek(b.id, 11), volume_context()}, 1, 7},
                                            {{lost, volume_context()}, 2, 7},
                                            {{make_dek(a.id, 13), volume_context(2)}, 3, 7},
                                            {{make_dek(b.id, 14), volume_context()}, 4, 7},
                                            {{make_dek(a.id, 15), volume_context()}, 5, 0}};
  const auto results = keyring_->deliver(deliveries, ticket_, soon());
  ASSERT_EQ(results.size(), deliveries.size());
  EXPECT_THAT(results[0], Succeeds());
  EXPECT_THAT(results[1], Succeeds());
  EXPECT_THAT(results[2], FailsWith(Reason::kNoSuchKey));
  EXPECT_THAT(results[3], FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(results[4], Succeeds());
  EXPECT_THAT(results[5], FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(sink_.dek(0), sink_.dek(10));
  EXPECT_EQ(sink_.dek(1), sink_.dek(11));
  EXPECT_EQ(sink_.dek(4), sink_.dek(14));
  EXPECT_TRUE(sink_.dek(5).empty());
}

TEST_F(KeyringTest, DataKeysAreWrappedAndUnwrappedWithARecordBeforeAndAfter) {
  const auto a = create("a");
  const auto b = create("b");
  const auto keys = data_keys(2);
  const auto of_a = keyring_->wrap(a.id, {keys.data(), 1}, actor_);
  const auto of_b = keyring_->wrap(b.id, {&keys[1], 1}, actor_);
  ASSERT_THAT(of_a.at(0), Succeeds());
  ASSERT_THAT(of_b.at(0), Succeeds());
  const std::vector<keyring::Presented> presented{{*of_b[0], keys[1].context},
                                                  {*of_a[0], keys[0].context}};
  const auto plain = keyring_->unwrap(presented, actor_);
  ASSERT_EQ(plain.size(), 2U);
  ASSERT_THAT(plain[0], Succeeds());
  EXPECT_TRUE(equal_constant_time(plain[0]->reveal(), keys[1].key.reveal()));
  EXPECT_TRUE(equal_constant_time(plain[1]->reveal(), keys[0].key.reveal()));
  EXPECT_EQ(log_.count(Kind::kIntent, "key.unwrap"), 2U);
  EXPECT_EQ(log_.count(Kind::kResult, "key.unwrap"), 2U);
}

TEST_F(KeyringTest, AVolumeKeyIsNeitherWrappedNorUnwrappedForACaller) {
  const auto made = create();
  auto keys = data_keys(1);
  keys[0].context = volume_context();
  EXPECT_THAT(keyring_->wrap(made.id, keys, actor_).at(0), FailsWith(Reason::kWrongPurpose));
  const keyring::Presented blob{make_dek(made.id), volume_context()};
  EXPECT_THAT(keyring_->unwrap({&blob, 1}, actor_).at(0), FailsWith(Reason::kWrongPurpose));
}

TEST_F(KeyringTest, UsesAreLeasedInBlocksAndRefusedAtTheLimit) {
  const auto made = create();
  for (int i = 0; i < 20; ++i) make_dek(made.id);
  EXPECT_EQ(log_.count(Kind::kResult, "key.lease"), 2U);  // 8, 16, 20.
  const DekRequest request{volume_context(), 77};
  EXPECT_THAT(keyring_->make_deks(made.id, {&request, 1}, ticket_, 0, actor_, soon()).at(0),
              FailsWith(Reason::kKeyExhausted));
  ASSERT_THAT(keyring_->rotate(made.id, actor_), Succeeds());
  make_dek(made.id);
}

TEST_F(KeyringTest, ARestartCountsTheOpenLeaseAsUsedUp) {
  const auto made = create();
  make_dek(made.id);
  restart();
  make_dek(made.id);
  EXPECT_EQ(keyring_->get(made.id)->current().wraps_leased, 16U);
  restart();
  make_dek(made.id);
  restart();
  const DekRequest request{volume_context(), 77};
  EXPECT_THAT(keyring_->make_deks(made.id, {&request, 1}, ticket_, 0, actor_, soon()).at(0),
              FailsWith(Reason::kKeyExhausted));
}

TEST_F(KeyringTest, OfTwoCallersWhoChangeOneKeyOneWins) {
  const auto made = create();
  std::optional<Result<CmkRecord>> second;
  store_.before_put([&] { second = keyring_->rotate(made.id, actor_); });
  const auto first = keyring_->disable(made.id, actor_);
  EXPECT_THAT(first, Succeeds());
  ASSERT_TRUE(second);
  EXPECT_THAT(*second, FailsWith(Reason::kInProgress));
  EXPECT_EQ(keyring_->get(made.id)->versions.size(), 1U);
}

TEST_F(KeyringTest, AChangeByAnotherProcessInBetweenWins) {
  const auto made = create();
  store_.before_put([&] { store_.row(made.id).revision = 9; });
  EXPECT_THAT(keyring_->disable(made.id, actor_), FailsWith(Reason::kInProgress));
}

TEST_F(KeyringTest, AnEditedRecordIsRefusedAndNamed) {
  const auto made = create();
  const auto blob = make_dek(made.id);
  auto& record = store_.row(made.id).record;
  auto edited = *CmkRecord::decode(record);
  edited.description = "edited";
  const Bytes seal(record.end() - CmkRecord::kSealBytes, record.end());
  record = edited.encode();
  record.insert(record.end(), seal.begin(), seal.end());
  const auto refused = deliver(blob);
  EXPECT_THAT(refused, FailsWith(Reason::kRecordInvalid));
  EXPECT_NE(refused.error().message().find(made.id.str()), std::string::npos);
  EXPECT_THAT(keyring_->enable(made.id, actor_), Succeeds()) << "already so: nothing was used";
  EXPECT_THAT(keyring_->disable(made.id, actor_), FailsWith(Reason::kRecordInvalid));
}

TEST_F(KeyringTest, ASwappedRecordIsRefusedAndNamedAndListedAsDamaged) {
  const auto a = create("a");
  const auto b = create("b");
  const auto blob = make_dek(a.id);
  std::swap(store_.row(a.id).record, store_.row(b.id).record);
  const auto refused = deliver(blob);
  EXPECT_THAT(refused, FailsWith(Reason::kRecordInvalid));
  EXPECT_NE(refused.error().message().find(a.id.str()), std::string::npos);
  EXPECT_THAT(keyring_->get(a.id), FailsWith(Reason::kRecordInvalid));
  EXPECT_THAT(keyring_->find("a"), FailsWith(Reason::kRecordInvalid));
  const auto c = create("c");
  const auto page = keyring_->list({}, std::nullopt, 10);
  ASSERT_THAT(page, Succeeds());
  EXPECT_EQ(page->damaged.size(), 2U);
  ASSERT_EQ(page->keys.size(), 1U);
  EXPECT_EQ(page->keys[0].id, c.id);
}

TEST_F(KeyringTest, AStorePutBackToAnOlderStateIsRefused) {
  const auto made = create();
  const auto blob = make_dek(made.id);
  const auto before = store_.row(made.id);
  ASSERT_THAT(keyring_->disable(made.id, actor_), Succeeds());
  store_.row(made.id) = before;
  EXPECT_THAT(deliver(blob), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(KeyringTest, ListFiltersAndPages) {
  std::set<CmkId> all;
  for (const char* alias : {"disk-a", "disk-b", "disk-c", "tape"}) all.insert(create(alias).id);
  const auto disks = keyring_->list({.state = {}, .owner = {}, .search = "disk"}, {}, 10);
  EXPECT_EQ(disks->keys.size(), 3U);
  ASSERT_THAT(keyring_->disable(disks->keys[1].id, actor_), Succeeds());
  const auto disabled =
      keyring_->list({.state = KeyState::kDisabled, .owner = {}, .search = ""}, {}, 10);
  ASSERT_EQ(disabled->keys.size(), 1U);
  EXPECT_EQ(disabled->keys[0].id, disks->keys[1].id);
  EXPECT_TRUE(
      keyring_->list({.state = {}, .owner = keyring::KeyOwner::kService, .search = ""}, {}, 10)
          ->keys.empty());

  std::set<CmkId> paged;
  std::optional<CmkId> after;
  do {
    const auto page = keyring_->list({}, after, 1);
    ASSERT_THAT(page, Succeeds());
    for (const auto& record : page->keys) paged.insert(record.id);
    after = page->continue_after;
  } while (after);
  EXPECT_EQ(paged, all);
}

TEST_F(KeyringTest, SealedRecordsForATokenComeInOrder) {
  const auto a = create("a");
  const auto b = create("b");
  const std::vector<CmkId> ids{b.id, *CmkId::random(), a.id};
  const auto records = keyring_->sealed_records(ids);
  ASSERT_EQ(records.size(), 3U);
  EXPECT_EQ(CmkRecord::decode(*records[0])->id, b.id);
  EXPECT_THAT(records[1], FailsWith(Reason::kNoSuchKey));
  EXPECT_EQ(CmkRecord::decode(*records[2])->id, a.id);
}

TEST_F(KeyringTest, AKeyThatTheStoreLostComesBackDisabledFromATokensRecord) {
  const auto made = create();
  const auto blob = make_dek(made.id);
  const auto in_token = *keyring_->sealed_record(made.id);
  // The store goes on, and is then lost.
  ASSERT_THAT(keyring_->disable(made.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  store_.rows().clear();
  const auto adopted = keyring_->adopt({&in_token, 1}, actor_);
  ASSERT_THAT(adopted.at(0), Succeeds());
  EXPECT_EQ(adopted[0]->state, KeyState::kDisabled);
  EXPECT_THAT(deliver(blob), FailsWith(Reason::kKeyDisabled));
  ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  EXPECT_THAT(deliver(blob), Succeeds());
  EXPECT_EQ(log_.count(Kind::kResult, "key.adopt"), 1U);
}

TEST_F(KeyringTest, TheStoresRecordWinsOverATokensUnlessItLacksAVersion) {
  const auto made = create();
  const auto old_in_token = *keyring_->sealed_record(made.id);
  ASSERT_THAT(keyring_->rotate(made.id, actor_), Succeeds());
  const auto new_in_token = *keyring_->sealed_record(made.id);
  const auto blob = make_dek(made.id);
  EXPECT_EQ(keyring_->adopt({&old_in_token, 1}, actor_).at(0)->versions.size(), 2U);
  EXPECT_EQ(log_.count(Kind::kIntent, "key.adopt"), 0U);

  // A store that came back from the older token alone does not know version 2.
  store_.rows().clear();
  EXPECT_EQ(keyring_->adopt({&old_in_token, 1}, actor_).at(0)->versions.size(), 1U);
  EXPECT_EQ(keyring_->adopt({&new_in_token, 1}, actor_).at(0)->versions.size(), 2U);
  ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  EXPECT_THAT(deliver(blob), Succeeds());
}

TEST_F(KeyringTest, ATokensRecordThatIsDamagedOrWhoseAliasIsTakenIsNotAdopted) {
  const auto made = create("a");
  auto sealed = *keyring_->sealed_record(made.id);
  store_.rows().clear();
  create("a");
  EXPECT_THAT(keyring_->adopt({&sealed, 1}, actor_).at(0), FailsWith(Reason::kNameTaken));
  sealed.back() ^= std::byte{1};
  EXPECT_THAT(keyring_->adopt({&sealed, 1}, actor_).at(0), FailsWith(Reason::kRecordInvalid));
}

TEST_F(KeyringTest, ACommitThatFailsChangesNothingAndTheKeyGoesOn) {
  const auto made = create();
  const auto blob = make_dek(made.id);
  store_.fail_next_put(Reason::kStoreUnavailable);
  EXPECT_THAT(keyring_->disable(made.id, actor_), FailsWith(Reason::kStoreUnavailable));
  EXPECT_EQ(audit_lines().back(), "result key.disable StoreUnavailable");
  EXPECT_EQ(keyring_->get(made.id)->state, KeyState::kEnabled);
  EXPECT_THAT(deliver(blob), Succeeds()) << "the record that was never stored locks nobody out";
}

TEST_F(KeyringTest, ACommitThatHappenedAndReportedAnErrorCountsAsDone) {
  const auto made = create();
  store_.fail_next_put(Reason::kStoreUnavailable, true);
  EXPECT_THAT(keyring_->disable(made.id, actor_), Succeeds());
  EXPECT_EQ(audit_lines().back(), "result key.disable OK");
}

TEST_F(KeyringTest, AStoreThatCannotBeReadIsToldApartFromNoSuchKey) {
  const auto made = create();
  store_.fail_next();
  EXPECT_THAT(keyring_->get(made.id), FailsWith(Reason::kStoreUnavailable));
  store_.fail_next(Reason::kStoreDamaged);
  EXPECT_THAT(keyring_->list({}, {}, 10), FailsWith(Reason::kStoreDamaged));
}

// Crash points: the state that a stop leaves is put together by hand, then cofferd starts.
class KeyringCrashTest : public KeyringTest {
 protected:
  std::uint64_t intend(const std::string& operation, const std::optional<CmkId>& id) {
    audit::Event event;
    event.kind = Kind::kIntent;
    event.operation = operation;
    event.cmk = id;
    return *log_.append_one(event);
  }
  void expect_closed(std::uint64_t intent, const std::string& outcome) {
    const auto last = log_.events().back();
    EXPECT_EQ(last.kind, Kind::kResult);
    EXPECT_EQ(last.intent_sequence, intent);
    EXPECT_EQ(last.outcome, outcome) << last.text;
  }
};

TEST_F(KeyringCrashTest, AnIntentWithNothingStoredIsClosedAsCancelled) {
  const auto made = create();
  const auto intent = intend("key.disable", made.id);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
  EXPECT_EQ(keyring_->get(made.id)->state, KeyState::kEnabled);
}

TEST_F(KeyringCrashTest, AnIntentToCreateWithNothingStoredIsClosedAsCancelled) {
  const auto intent = intend("key.create", *CmkId::random());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
}

TEST_F(KeyringCrashTest, AStoredChangeWithoutAResultIsClosedAsDoneAndTakesEffect) {
  const auto made = create();
  const auto kept = *keyring_->sealed_record(made.id);
  const auto intent = intend("key.disable", made.id);
  const auto next = vault_->change_cmk(kept, keyring::CmkChange::kDisable);
  ASSERT_THAT(store_.put(*next, 1, intent), Succeeds());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "OK");
  EXPECT_THAT(vault_->present(kept), FailsWith(Reason::kRecordSuperseded));
}

TEST_F(KeyringCrashTest, AUseWithoutAResultIsClosedToo) {
  const auto made = create();
  const auto intent = intend("key.unwrap", made.id);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
}

TEST_F(KeyringCrashTest, WhatIsClosedIsNotClosedAgain) {
  create();
  intend("key.rotate", *CmkId::random());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 0U);
  intend("volume.unlock", std::nullopt);  // Not the keyring's to close.
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 0U);
}

TEST_F(KeyringCrashTest, ANewJournalBehindAnOldMarkIsReadFromItsStart) {
  ASSERT_THAT(store_.set_reconciled_to(1000), Succeeds());
  const auto intent = intend("key.rotate", *CmkId::random());
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  expect_closed(intent, "Cancelled");
}

TEST_F(KeyringCrashTest, WhatThisKeyringIsDoingIsNotTakenForACrash) {
  const auto made = create();
  std::optional<Result<std::size_t>> closed;
  store_.before_put([&] { closed = keyring_->reconcile(); });
  ASSERT_THAT(keyring_->disable(made.id, actor_), Succeeds());
  EXPECT_EQ(**closed, 0U);
  EXPECT_EQ(log_.count(Kind::kResult, "key.disable"), 1U);
}

TEST_F(KeyringCrashTest, AResultThatCannotBeRecordedIsToldAndRecordedLater) {
  const auto made = create();
  store_.before_put([&] { log_.fail_always(); });
  EXPECT_THAT(keyring_->disable(made.id, actor_), FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(keyring_->get(made.id)->state, KeyState::kDisabled);
  log_.succeed_again();
  ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  EXPECT_EQ(log_.count(Kind::kResult, "key.disable"), 1U);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 0U);
}

}  // namespace
}  // namespace coffer::tests

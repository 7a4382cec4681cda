// SPDX-License-Identifier: Apache-2.0
#include "tests/fakes/flaky_vault.h"
#include "tests/unit/core/keyring/keyring_fixture.h"

namespace coffer::tests {
namespace {

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
  parameters.alias = "-up";
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
  EXPECT_THAT(keyring_->disable(made->id, actor_), FailsWith(Reason::kServiceKey));
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

// Never too few are counted: what a dropped lease had left is not handed out again.
TEST_F(KeyringTest, OfVeryManyKeysTheLeasesUnusedForLongestCountAsUsedUp) {
  const auto old = create("old");
  const auto recent = create("recent");
  make_dek(old.id);
  make_dek(recent.id);
  for (int i = 0; i < 2045; ++i) create("k" + std::to_string(i));
  make_dek(recent.id);
  create("one");
  create("two-too-many");
  make_dek(old.id);
  make_dek(recent.id);
  EXPECT_EQ(keyring_->get(old.id)->current().wraps_leased, 16U);
  EXPECT_EQ(keyring_->get(recent.id)->current().wraps_leased, 8U);
}

TEST_F(KeyringTest, AVersionThatNearsItsLimitIsRotated) {
  keyring_.emplace(Keyring::Parts{*vault_, store_, log_, system_clock(), 16});
  const auto made = create();
  for (int i = 0; i < 100; ++i) make_dek(made.id);
  EXPECT_GT(keyring_->get(made.id)->current().number, 5U);
  const auto events = log_.events();
  const auto rotated = std::ranges::find(events, "key.rotate", &audit::Event::operation);
  ASSERT_NE(rotated, events.end());
  EXPECT_EQ(rotated->actor.origin, audit::Origin::kDaemon);
}

TEST_F(KeyringTest, ARotationBeforeTheLimitThatFailsIsToldUntilItIsMadeUpFor) {
  const auto made = create();
  while (keyring_->rotate(made.id, actor_)) {
  }
  const auto full = keyring_->get(made.id)->current().number;
  keyring_.emplace(Keyring::Parts{*vault_, store_, log_, system_clock(), 16});
  make_dek(made.id);
  for (int run = 0; run < 2; ++run) {
    const auto report = keyring_->run_due(actor_);
    ASSERT_THAT(report, Succeeds());
    ASSERT_EQ(report->failed.size(), 1U);
    EXPECT_EQ(report->failed[0].reason(), Reason::kLimitsExceeded);
    EXPECT_THAT(report->failed[0].message(), testing::HasSubstr(made.id.str()));
    EXPECT_THAT(report->failed[0].message(), testing::HasSubstr("was not rotated"));
  }
  for (std::uint32_t old = 1; old < 10; ++old) {
    ASSERT_THAT(keyring_->destroy_version(made.id, old, actor_, keyring::WhenBound::kGoOn),
                Succeeds());
  }
  ASSERT_THAT(keyring_->rotate(made.id, actor_), Succeeds());
  EXPECT_EQ(keyring_->get(made.id)->current().number, full + 1);
  EXPECT_TRUE(keyring_->run_due(actor_)->failed.empty());
}

TEST_F(KeyringTest, WhatOneKeyLeasesHoldsUpNoOtherKeyAndNoObserver) {
  const auto a = create("a");
  const auto b = create("b");
  for (int i = 0; i < 8; ++i) make_dek(a.id);
  bool other = false;
  store_.before_put([&] {
    make_dek(b.id);
    other = true;
  });
  bool told = false;
  keyring_->set_observer([&](const CmkRecord& now, bool) {
    if (now.id != a.id || std::exchange(told, true)) return;
    make_dek(a.id);
  });
  make_dek(a.id);
  EXPECT_TRUE(other);
  EXPECT_TRUE(told);
}

TEST_F(KeyringTest, WhoWaitsForALeaseWaitsNoLongerThanItsTime) {
  const auto made = create();
  for (int i = 0; i < 8; ++i) make_dek(made.id);
  const DekRequest request{volume_context(), 77};
  std::optional<Result<keyring::WrappedKey>> waited;
  store_.before_put([&] {
    waited = keyring_
                 ->make_deks(made.id, {&request, 1}, ticket_, 0, actor_,
                             Deadline::after(std::chrono::milliseconds(20)))
                 .at(0);
  });
  make_dek(made.id);
  ASSERT_TRUE(waited);
  EXPECT_THAT(*waited, FailsWith(Reason::kHsmTimeout));
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
  const auto page = keyring_->list({});
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
  const auto disks = keyring_->list({.filter = {.search = "disk"}});
  EXPECT_EQ(disks->keys.size(), 3U);
  ASSERT_THAT(keyring_->disable(disks->keys[1].id, actor_), Succeeds());
  const auto disabled = keyring_->list({.filter = {.state = KeyState::kDisabled}});
  ASSERT_EQ(disabled->keys.size(), 1U);
  EXPECT_EQ(disabled->keys[0].id, disks->keys[1].id);
  EXPECT_TRUE(keyring_->list({.filter = {.owner = keyring::KeyOwner::kService}})->keys.empty());

  std::set<CmkId> paged;
  std::optional<CmkId> after;
  do {
    const auto page = keyring_->list({.after = after, .count_max = 1});
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

// Somebody changes the key between two messages of one call: what was not begun is begun again.
TEST_F(KeyringTest, AChangeInTheMidstOfACallCostsNoKey) {
  FlakyVault flaky(*vault_);
  keyring_.emplace(Keyring::Parts{flaky, store_, log_, system_clock()});
  const auto made = create();
  flaky.between_messages([&] { ASSERT_THAT(keyring_->rotate(made.id, actor_), Succeeds()); });
  const std::vector<DekRequest> requests(3, DekRequest{volume_context(), 77});
  const auto blobs = keyring_->make_deks(made.id, requests, ticket_, 0, actor_, soon());
  ASSERT_EQ(blobs.size(), 3U);
  std::vector<DekDelivery> deliveries;
  for (std::uint32_t i = 0; i < 3; ++i) {
    ASSERT_THAT(blobs[i], Succeeds()) << i;
    EXPECT_EQ(blobs[i]->cmk_version, i == 0 ? 1U : 2U);
    deliveries.push_back({{*blobs[i], volume_context()}, i, 77});
  }
  EXPECT_EQ(sink_.taken().size(), 3U);

  // The two of the new version are counted, so that its lease, of 8, is renewed in time.
  for (std::uint32_t i = 3; i < 12; ++i) make_dek(made.id, i);

  flaky.between_messages([&] {
    ASSERT_THAT(keyring_->disable(made.id, actor_), Succeeds());
    ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  });
  for (const auto& result : keyring_->deliver(deliveries, ticket_, soon()))
    EXPECT_THAT(result, Succeeds());
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

TEST_F(KeyringTest, ACommitOfWhichNothingIsKnownIsClosedAtTheNextStart) {
  const auto made = create();
  store_.lose_next_put();
  EXPECT_THAT(keyring_->disable(made.id, actor_), FailsWith(Reason::kStoreUnavailable));
  EXPECT_EQ(log_.count(Kind::kResult, "key.disable"), 0U);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  EXPECT_EQ(audit_lines().back(), "result key.disable OK");
  EXPECT_EQ(keyring_->get(made.id)->state, KeyState::kDisabled);
}

// What stands beside the record is stored by the same rules.
TEST_F(KeyringTest, ACommitOfTagsThatReportedAnErrorIsLookedUp) {
  const auto made = create();
  store_.fail_next_put(Reason::kStoreUnavailable, true);
  EXPECT_THAT(keyring_->set_tags(made.id, {{"team", "storage"}}, actor_), Succeeds());
  EXPECT_EQ(audit_lines().back(), "result key.tag OK");
  store_.fail_next_put(Reason::kStoreUnavailable);
  EXPECT_THAT(keyring_->set_tags(made.id, {}, actor_), FailsWith(Reason::kStoreUnavailable));
  EXPECT_EQ(audit_lines().back(), "result key.tag StoreUnavailable");
  EXPECT_EQ(keyring_->tags(made.id)->size(), 1U);

  store_.lose_next_put();
  EXPECT_THAT(keyring_->bind(made.id, "volume:a", actor_), FailsWith(Reason::kStoreUnavailable));
  EXPECT_EQ(log_.count(Kind::kResult, "key.bind"), 0U);
  restart();
  EXPECT_EQ(*keyring_->reconcile(), 1U);
  EXPECT_EQ(audit_lines().back(), "result key.bind OK");
}

TEST_F(KeyringTest, AStoreThatCannotBeReadIsToldApartFromNoSuchKey) {
  const auto made = create();
  store_.fail_next();
  EXPECT_THAT(keyring_->get(made.id), FailsWith(Reason::kStoreUnavailable));
  store_.fail_next(Reason::kStoreDamaged);
  EXPECT_THAT(keyring_->list({}), FailsWith(Reason::kStoreDamaged));
}

}  // namespace
}  // namespace coffer::tests

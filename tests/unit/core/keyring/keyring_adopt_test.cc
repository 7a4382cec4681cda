// SPDX-License-Identifier: Apache-2.0
#include "tests/unit/core/keyring/keyring_fixture.h"

namespace coffer::tests {
namespace {

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

// Volumes that were made before and after a rotation, and a store that was lost in between: the
// number of the version that is gone is not given again.
TEST_F(KeyringTest, AVersionMadeAfterTheStoreWasLostIsNotTakenForTheOneBefore) {
  const auto made = create();
  const auto old_in_token = *keyring_->sealed_record(made.id);
  ASSERT_THAT(keyring_->rotate(made.id, actor_), Succeeds());
  const auto new_in_token = *keyring_->sealed_record(made.id);
  const auto blob = make_dek(made.id);

  store_.rows().clear();
  ASSERT_THAT(keyring_->adopt({&old_in_token, 1}, actor_).at(0), Succeeds());
  ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  const auto rotated = keyring_->rotate(made.id, actor_);
  ASSERT_THAT(rotated, Succeeds());
  EXPECT_EQ(rotated->current().number, 3U);
  EXPECT_THAT(deliver(blob), FailsWith(Reason::kBlobInvalid));
  // What the new one wrapped is not given up for what the old one did.
  const auto newest = make_dek(made.id);
  EXPECT_THAT(keyring_->adopt({&new_in_token, 1}, actor_).at(0), FailsWith(Reason::kRecordInvalid));
  EXPECT_THAT(deliver(newest), Succeeds());
}

// Another vault, which knows nothing of the number: the two keys are told apart.
TEST_F(KeyringTest, ATokensVersionThatIsAnotherKeyThanTheStoresIsRefused) {
  const auto made = create();
  const auto current = *keyring_->sealed_record(made.id);
  const auto one = *vault_->change_cmk(current, keyring::CmkChange::kRotate);
  const auto other = *vault_->change_cmk(current, keyring::CmkChange::kRotate);
  ASSERT_THAT(store_.put(one, 1, 0), Succeeds());
  const auto refused = keyring_->adopt({&other, 1}, actor_).at(0);
  ASSERT_THAT(refused, FailsWith(Reason::kRecordInvalid));
  EXPECT_NE(refused.error().message().find("version 2"), std::string::npos);
  EXPECT_EQ(*keyring_->sealed_record(made.id), one);
}

TEST_F(KeyringTest, AStorePutBackToAnOlderStateIsTakenInAgain) {
  const auto made = create();
  const auto blob = make_dek(made.id);
  const auto in_token = *keyring_->sealed_record(made.id);
  const auto before = store_.row(made.id);
  ASSERT_THAT(keyring_->disable(made.id, actor_), Succeeds());
  ASSERT_THAT(keyring_->enable(made.id, actor_), Succeeds());
  store_.row(made.id) = before;
  EXPECT_THAT(deliver(blob), FailsWith(Reason::kRecordSuperseded));

  const auto adopted = keyring_->adopt({&in_token, 1}, actor_).at(0);
  ASSERT_THAT(adopted, Succeeds());
  EXPECT_EQ(adopted->state, KeyState::kDisabled);
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

}  // namespace
}  // namespace coffer::tests

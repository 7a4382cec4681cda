// SPDX-License-Identifier: Apache-2.0
// Keys that are made as shares under several CMKs, through the keyring.
#include <gtest/gtest.h>

#include <functional>
#include <utility>

#include "tests/fakes/flaky_vault.h"
#include "tests/unit/core/keyring/key_fixture.h"

namespace coffer::tests {
namespace {

using keyring::SharedDekOrder;

class KeyringSharesTest : public KeyFixture {
 protected:
  KeyringSharesTest() {
    keyring_.emplace(keyring::Keyring::Parts{flaky_, store_, log_, clock_});
    for (int i = 0; i < 3; ++i) order_.keys.push_back(create({}).id);
    order_.request.context.volume = *VolumeId::random();
    order_.request.context.cipher = "aes-xts-plain64";
    order_.request.context.key_bytes = 64;
    order_.request.intent = 77;
    order_.ticket = *keyring::draw_ticket();
    order_.index = 3;
  }
  Deadline soon() { return Deadline::after(std::chrono::seconds(30), clock_); }
  Result<keyring::SharedDek> make() { return keyring_->make_shared_dek(order_, actor_, soon()); }

  FlakyVault flaky_{*vault_};
  SharedDekOrder order_;
};

TEST_F(KeyringSharesTest, OneShareIsWrappedUnderEachKeyAndTheWholeIsDelivered) {
  const auto made = make();
  ASSERT_THAT(made, Succeeds());
  ASSERT_EQ(made->wraps.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(made->wraps[i].cmk, order_.keys[i]);
  EXPECT_EQ(made->context.shares->needed, 2);
  EXPECT_EQ(sink_.dek(3).size(), 64U);

  sink_.forget();
  std::vector<keyring::DekDelivery> deliveries;
  for (const std::size_t place : {0U, 2U}) {
    deliveries.push_back(
        {{made->wraps[place], keyring::wrap_context(made->context, place)}, 3, 77});
  }
  for (const auto& result : keyring_->deliver(deliveries, order_.ticket, soon())) {
    EXPECT_THAT(result, Succeeds());
  }
  ASSERT_EQ(sink_.taken().size(), 2U);
  EXPECT_EQ(sink_.taken()[0].label.share->index + sink_.taken()[1].label.share->index, 4);
}

TEST_F(KeyringSharesTest, NothingIsMadeWithoutAnIntent) {
  order_.request.intent = 0;
  EXPECT_THAT(make(), FailsWith(Reason::kAuditUnavailable));
  EXPECT_TRUE(sink_.taken().empty());
}

TEST_F(KeyringSharesTest, AKeyThatMakesNoWrapStopsAllAndIsNamed) {
  ASSERT_THAT(keyring_->archive(order_.keys[1], actor_), Succeeds());
  const auto made = make();
  ASSERT_THAT(made, FailsWith(Reason::kKeyArchived));
  EXPECT_THAT(made.error().message(), testing::HasSubstr(order_.keys[1].str()));
  order_.keys[1] = CmkId(Uuid());
  EXPECT_THAT(make(), FailsWith(Reason::kNoSuchKey));
  EXPECT_TRUE(sink_.taken().empty());
}

TEST_F(KeyringSharesTest, AChangeOfOneKeyMeanwhileIsReadAgain) {
  flaky_.between_messages(
      [&] { ASSERT_THAT(keyring_->rotate(order_.keys[2], actor_), Succeeds()); });
  const auto made = make();
  ASSERT_THAT(made, Succeeds());
  EXPECT_EQ(made->wraps[2].cmk_version, 2U);
  EXPECT_EQ(sink_.taken().size(), 1U) << "the first attempt made nothing";
}

TEST_F(KeyringSharesTest, AStoreThatWasPutBackMakesNothing) {
  flaky_.between_messages([&] {
    const auto old = store_.rows().at(order_.keys[0]);
    ASSERT_THAT(keyring_->describe(order_.keys[0], "renamed", "", actor_), Succeeds());
    store_.rows().at(order_.keys[0]) = old;
  });
  EXPECT_THAT(make(), FailsWith(Reason::kRecordSuperseded));
  EXPECT_TRUE(sink_.taken().empty());
}

// What the vault process says must not make a volume that nobody can open.
TEST_F(KeyringSharesTest, AnAnswerAboutSomethingElseIsRefused) {
  const std::vector<std::function<void(keyring::SharedDek&)>> changes = {
      [](keyring::SharedDek& made) { made.wraps.pop_back(); },
      [](keyring::SharedDek& made) { std::swap(made.wraps[0], made.wraps[1]); },
      [](keyring::SharedDek& made) { made.context.shares.reset(); },
      [](keyring::SharedDek& made) { made.context.shares->needed = 3; },
      [](keyring::SharedDek& made) { made.context.shares->index = 1; },
      [](keyring::SharedDek& made) { made.context.generation = 9; }};
  for (const auto& change : changes) {
    flaky_.change_answer(change);
    EXPECT_THAT(make(), FailsWith(Reason::kHsmFailed));
  }
  EXPECT_THAT(make(), Succeeds());
}

}  // namespace
}  // namespace coffer::tests

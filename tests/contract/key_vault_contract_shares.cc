// SPDX-License-Identifier: Apache-2.0
// Keys that are made as shares under several CMKs: what every vault keeps to.
#include <functional>
#include <utility>

#include "core/keyring/key_shares.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using keyring::CmkChange;
using keyring::KeyContext;
using keyring::KeyShares;
using keyring::SealedRecord;
using keyring::SharedDek;
using keyring::SharedDekRequest;
using keyring::WrappedKey;
using testing::HasSubstr;

// Three CMKs, two of which open what is made under them.
class ThreeKeys {
 public:
  ThreeKeys(VaultUnderTest& tested, const keyring::Ticket& ticket, const KeyContext& context,
            std::vector<SealedRecord> made_records)
      : records(std::move(made_records)), tested_(tested), ticket_(ticket), context_(context) {}

  SharedDekRequest request(std::uint8_t needed = 2) const {
    SharedDekRequest made{.records = records, .needed = needed, .context = context_};
    made.ticket = ticket_;
    made.index = 4;
    return made;
  }
  Result<SharedDek> make(const SharedDekRequest& request) const {
    return tested_.vault->make_shared_dek(request, Deadline::after(std::chrono::seconds(60)));
  }
  SharedDek make(std::uint8_t needed = 2) const {
    auto made = make(request(needed));
    EXPECT_THAT(made, Succeeds());
    return made ? std::move(*made) : SharedDek();
  }
  Result<void> deliver(const SharedDek& made, std::size_t place) const {
    const keyring::Presented share{made.wraps[place], keyring::wrap_context(made.context, place)};
    const std::uint32_t index = 0;
    return tested_.vault
        ->deliver(records[place], {&share, 1}, ticket_, {&index, 1},
                  Deadline::after(std::chrono::seconds(60)))
        .at(0);
  }
  // The key that the shares of those places make, as the worker puts them together.
  Result<Bytes> combine(const SharedDek& made, const std::vector<std::size_t>& places) const {
    tested_.sink->forget();
    for (const std::size_t place : places) {
      if (auto taken = deliver(made, place); !taken) return tl::unexpected(taken.error());
    }
    keyring::ShareCollector collector;
    for (const auto& one : tested_.sink->taken()) {
      if (!one.label.share) return fail(Reason::kInternal, "a share came as if it were the key");
      auto key =
          collector.add(*one.label.share, one.label.profile_digest, *SecretBytes::copy_of(one.dek));
      if (!key) return tl::unexpected(key.error());
      if (*key) return Bytes((*key)->reveal().begin(), (*key)->reveal().end());
    }
    return fail(Reason::kThresholdNotMet, "too few shares");
  }

  std::vector<SealedRecord> records;

 private:
  VaultUnderTest& tested_;
  keyring::Ticket ticket_;
  KeyContext context_;
};

TEST_P(KeyVaultContract, AnyTwoOfThreeGiveTheKeyThatWasDelivered) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const SharedDek made = three.make();
  ASSERT_EQ(made.wraps.size(), 3U);
  ASSERT_EQ(sink().taken().size(), 1U);
  EXPECT_EQ(sink().taken()[0].index, 4U);
  EXPECT_FALSE(sink().taken()[0].label.share) << "the whole is delivered when it is made";
  const Bytes dek = sink().dek(4);
  ASSERT_EQ(dek.size(), volume_context().key_bytes);
  EXPECT_EQ(made.context.shares->needed, 2);
  EXPECT_EQ(made.context.shares->total, 3);
  EXPECT_EQ(made.context.shares->index, 0);

  for (const auto& places : std::vector<std::vector<std::size_t>>{{0, 1}, {2, 0}, {1, 2}}) {
    const auto key = three.combine(made, places);
    ASSERT_THAT(key, Succeeds());
    EXPECT_EQ(*key, dek);
    for (const auto& one : sink().taken()) EXPECT_NE(one.dek, dek) << "a share is not the key";
  }
  EXPECT_THAT(three.combine(made, {1}), FailsWith(Reason::kThresholdNotMet));
}

TEST_P(KeyVaultContract, AllOfThemCanBeNeeded) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const SharedDek made = three.make(3);
  const Bytes dek = sink().dek(4);
  EXPECT_THAT(three.combine(made, {0, 1}), FailsWith(Reason::kThresholdNotMet));
  EXPECT_EQ(three.combine(made, {0, 1, 2}).value(), dek);
}

TEST_P(KeyVaultContract, AShareIsNeverReturned) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const SharedDek made = three.make();
  EXPECT_THAT(unwrap_one(three.records[0], made.wraps[0], keyring::wrap_context(made.context, 0)),
              FailsWith(Reason::kWrongPurpose));
  KeyContext disguised = volume_context();
  disguised.purpose = keyring::Purpose::kEnvelopeData;
  disguised.volume.reset();
  EXPECT_THAT(unwrap_one(three.records[0], made.wraps[0], disguised),
              FailsWith(Reason::kBlobInvalid));
}

TEST_P(KeyVaultContract, AShareIsBoundToItsPlaceItsSetAndItsVolume) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const SharedDek made = three.make();
  const KeyContext own = keyring::wrap_context(made.context, 0);
  sink().forget();
  const auto refused = [&](const std::function<void(KeyContext&)>& change) {
    KeyContext context = own;
    change(context);
    return deliver_one(three.records[0], made.wraps[0], context);
  };
  const auto of_blob = FailsWith(Reason::kBlobInvalid);
  EXPECT_THAT(refused([](KeyContext& c) { c.shares->index = 2; }), of_blob);
  EXPECT_THAT(refused([](KeyContext& c) { c.shares->index = 0; }), of_blob);
  EXPECT_THAT(refused([](KeyContext& c) { c.shares->needed = 3; }), of_blob);
  EXPECT_THAT(refused([](KeyContext& c) { c.shares->total = 4; }), of_blob);
  EXPECT_THAT(refused([](KeyContext& c) { c.shares->commitment[31] ^= std::byte{1}; }), of_blob);
  EXPECT_THAT(refused([](KeyContext& c) { c.shares.reset(); }), of_blob) << "as if it were the key";
  EXPECT_THAT(refused([](KeyContext& c) { c.generation = 2; }), of_blob);
  EXPECT_THAT(refused([](KeyContext& c) { c.volume = *VolumeId::random(); }), of_blob);
  // Of another CMK.
  EXPECT_THAT(deliver_one(three.records[1], made.wraps[0], own), of_blob);
  // A key that was made as one is no share.
  const WrappedKey whole = make_dek(three.records[0]);
  sink().forget();
  EXPECT_THAT(deliver_one(three.records[0], whole, own), of_blob);
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, AShareThatWasTamperedWithAtAnyByteIsRefused) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const SharedDek made = three.make();
  const KeyContext own = keyring::wrap_context(made.context, 1);
  sink().forget();
  const Bytes good = made.wraps[1].encode();
  for (std::size_t byte = 0; byte < good.size(); ++byte) {
    Bytes bad = good;
    bad[byte] ^= std::byte{0x01};
    const auto blob = WrappedKey::decode(bad);
    if (!blob) continue;
    EXPECT_THAT(deliver_one(three.records[1], *blob, own), FailsWith(Reason::kBlobInvalid)) << byte;
  }
  EXPECT_TRUE(sink().taken().empty());
  EXPECT_THAT(deliver_one(three.records[1], made.wraps[1], own), Succeeds());
}

TEST_P(KeyVaultContract, AKeyThatMayNotWrapStopsAllOfThem) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const std::vector<std::pair<CmkChange, Reason>> changes = {
      {CmkChange::kDisable, Reason::kKeyDisabled}, {CmkChange::kArchive, Reason::kKeyArchived}};
  for (const auto& [kind, reason] : changes) {
    auto asked = three.request();
    asked.records[1] = change(create(reason == Reason::kKeyDisabled ? "off" : "old"), kind);
    const auto made = three.make(asked);
    ASSERT_THAT(made, FailsWith(reason));
    const auto record = keyring::CmkRecord::decode(asked.records[1]);
    EXPECT_THAT(made.error().message(), HasSubstr(record->id.str())) << "it names the key";
  }
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, AnArchivedKeyStillGivesItsShare) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const SharedDek made = three.make();
  const Bytes dek = sink().dek(4);
  three.records[0] = change(three.records[0], CmkChange::kArchive);
  three.records[1] = change(three.records[1], CmkChange::kDisable);
  EXPECT_EQ(three.combine(made, {0, 2}).value(), dek);
  EXPECT_THAT(three.combine(made, {0, 1}), FailsWith(Reason::kKeyDisabled));
}

TEST_P(KeyVaultContract, AShareKeepsItsPlaceUnderANewVersion) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const SharedDek made = three.make();
  const Bytes dek = sink().dek(4);
  three.records[2] = change(three.records[2], CmkChange::kRotate);
  const KeyContext own = keyring::wrap_context(made.context, 2);
  const keyring::Rewrapped same{{made.wraps[2], own}, own};
  const auto wraps = vault().rewrap(three.records[2], three.records[2], {&same, 1}, soon());
  ASSERT_THAT(wraps.at(0), Succeeds());
  SharedDek moved = made;
  moved.wraps[2] = *wraps[0];
  EXPECT_EQ(moved.wraps[2].cmk_version, 2U);
  EXPECT_EQ(three.combine(moved, {1, 2}).value(), dek);
  // Not to another place.
  const keyring::Rewrapped other{{made.wraps[2], own}, keyring::wrap_context(made.context, 0)};
  EXPECT_THAT(vault().rewrap(three.records[2], three.records[2], {&other, 1}, soon()).at(0),
              FailsWith(Reason::kWrongPurpose));
  // Not to another key: that one would come to give what several are to give together.
  for (const std::size_t to : {std::size_t{0}, std::size_t{1}}) {
    EXPECT_THAT(vault().rewrap(three.records[2], three.records[to], {&same, 1}, soon()).at(0),
                FailsWith(Reason::kWrongPurpose));
  }
}

TEST_P(KeyVaultContract, WhatIsNoSetIsRefused) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  const auto invalid = FailsWith(Reason::kInvalidArgs);
  EXPECT_THAT(three.make(three.request(0)), invalid);
  EXPECT_THAT(three.make(three.request(1)), invalid) << "any one: wrap it whole";
  EXPECT_THAT(three.make(three.request(4)), invalid);
  auto one = three.request();
  one.records.resize(1);
  EXPECT_THAT(three.make(one), invalid);
  auto twice = three.request();
  twice.records[2] = twice.records[0];
  EXPECT_THAT(three.make(twice), invalid);
  auto split = three.request();
  split.context.shares = KeyShares{};
  EXPECT_THAT(three.make(split), invalid);
  auto data = three.request();
  data.context = data_context();
  EXPECT_THAT(three.make(data), FailsWith(Reason::kWrongPurpose));
  auto forged = three.request();
  forged.records[1].back() ^= std::byte{1};
  EXPECT_THAT(three.make(forged), FailsWith(Reason::kRecordInvalid));
  // Nor is a share made by itself.
  KeyContext share = volume_context();
  share.shares = KeyShares{.needed = 2, .total = 3, .index = 1};
  EXPECT_THAT(vault().make_deks(three.records[0], {&share, 1}, ticket_, 0, soon()).at(0), invalid);
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, NothingIsMadeThatTheWorkerDoesNotGet) {
  ThreeKeys three(under_test_, ticket_, volume_context(),
                  {create("one"), create("two"), create("three")});
  sink().fail_index(4);
  EXPECT_THAT(three.make(three.request()), FailsWith(Reason::kWorkerLost));
  sink().heal();
  EXPECT_THAT(vault().make_shared_dek(three.request(), Deadline(SteadyTime{})),
              FailsWith(Reason::kHsmTimeout));
  EXPECT_TRUE(sink().taken().empty());
}

}  // namespace
}  // namespace coffer::tests

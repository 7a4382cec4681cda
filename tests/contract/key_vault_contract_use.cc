// SPDX-License-Identifier: Apache-2.0
// What a vault does with keys: wrapping, unwrapping, making, delivering.
#include <set>
#include <thread>

#include "tests/contract/key_vault_contract.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using keyring::KeyContext;
using keyring::KeyVault;
using keyring::Presented;
using keyring::WrappedKey;

Bytes bytes_of(const SecretBytes& secret) {
  return {secret.reveal().begin(), secret.reveal().end()};
}

std::vector<KeyVault::Plain> some_keys(std::size_t count, const KeyContext& context) {
  std::vector<KeyVault::Plain> keys(count);
  for (auto& key : keys) {
    key.key = *SecretBytes::random(context.key_bytes);
    key.context = context;
    key.context.generation = static_cast<std::uint64_t>(&key - keys.data());
  }
  return keys;
}

TEST_P(KeyVaultContract, AFullCallOfKeysComesBackInOrder) {
  const auto record = create();
  const auto keys = some_keys(KeyVault::kKeysPerCallMax, data_context());
  const auto wrapped = vault().wrap(record, keys, soon());
  ASSERT_EQ(wrapped.size(), keys.size());
  std::vector<Presented> presented;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    ASSERT_THAT(wrapped[i], Succeeds());
    presented.push_back({*wrapped[i], keys[i].context});
  }
  const auto plain = vault().unwrap(record, presented, soon());
  ASSERT_EQ(plain.size(), keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    ASSERT_THAT(plain[i], Succeeds());
    EXPECT_EQ(bytes_of(*plain[i]), bytes_of(keys[i].key)) << i;
  }
}

TEST_P(KeyVaultContract, MoreKeysThanACallTakesAreRefused) {
  const auto record = create();
  const auto wrapped =
      vault().wrap(record, some_keys(KeyVault::kKeysPerCallMax + 1, data_context()), soon());
  ASSERT_EQ(wrapped.size(), KeyVault::kKeysPerCallMax + 1);
  EXPECT_THAT(wrapped.front(), FailsWith(Reason::kLimitsExceeded));
  EXPECT_THAT(wrapped.back(), FailsWith(Reason::kLimitsExceeded));
}

TEST_P(KeyVaultContract, NoKeysGiveNoResults) {
  const auto record = create();
  EXPECT_TRUE(vault().wrap(record, {}, soon()).empty());
  EXPECT_TRUE(vault().unwrap(record, {}, soon()).empty());
  EXPECT_TRUE(vault().make_deks(record, {}, ticket_, 0, soon()).empty());
  EXPECT_TRUE(vault().deliver(record, {}, ticket_, {}, soon()).empty());
}

TEST_P(KeyVaultContract, KeysOfEveryLengthInUseSurvive) {
  const auto record = create();
  for (const std::uint32_t size : {16U, 24U, 32U, 48U, 64U, 128U}) {
    KeyContext context = data_context();
    context.key_bytes = size;
    const auto keys = some_keys(1, context);
    const auto wrapped = vault().wrap(record, keys, soon());
    ASSERT_THAT(wrapped.at(0), Succeeds()) << size;
    const auto plain = unwrap_one(record, *wrapped[0], keys[0].context);
    ASSERT_THAT(plain, Succeeds()) << size;
    EXPECT_EQ(bytes_of(*plain), bytes_of(keys[0].key));
  }
}

// Around a block of the cipher, and up to what a caller may encrypt.
TEST_P(KeyVaultContract, DataOfEveryLengthSurviveAndAreRewrapped) {
  const auto record = create();
  for (const std::uint32_t size : {1U, 15U, 16U, 17U, 4095U, 4096U}) {
    KeyContext context = data_context();
    context.purpose = keyring::Purpose::kData;
    context.key_bytes = size;
    const auto keys = some_keys(1, context);
    const auto wrapped = vault().wrap(record, keys, soon());
    ASSERT_THAT(wrapped.at(0), Succeeds()) << size;
    const keyring::Rewrapped moved{{*wrapped[0], keys[0].context}, keys[0].context};
    const auto again = vault().rewrap(record, record, {&moved, 1}, soon());
    ASSERT_THAT(again.at(0), Succeeds()) << size;
    for (const WrappedKey& blob : {*wrapped[0], *again[0]}) {
      const auto plain = unwrap_one(record, blob, keys[0].context);
      ASSERT_THAT(plain, Succeeds()) << size;
      EXPECT_EQ(bytes_of(*plain), bytes_of(keys[0].key)) << size;
    }
  }
}

TEST_P(KeyVaultContract, AKeyOfAnotherLengthThanItsContextSaysIsNotWrapped) {
  const auto record = create();
  auto keys = some_keys(1, data_context());
  keys[0].context.key_bytes = 16;
  EXPECT_THAT(vault().wrap(record, keys, soon()).at(0), FailsWith(Reason::kInvalidArgs));
}

TEST_P(KeyVaultContract, AContextOutsideItsLimitsIsRefusedAndTheOthersAreNot) {
  const auto record = create();
  auto keys = some_keys(2, data_context());
  keys[0].context.tenant = std::string(65, 'x');
  const auto wrapped = vault().wrap(record, keys, soon());
  EXPECT_THAT(wrapped.at(0), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(wrapped.at(1), Succeeds());
}

TEST_P(KeyVaultContract, AVolumeKeyIsNeverTakenFromACaller) {
  const auto record = create();
  const auto keys = some_keys(1, volume_context());
  EXPECT_THAT(vault().wrap(record, keys, soon()).at(0), FailsWith(Reason::kWrongPurpose));
}

TEST_P(KeyVaultContract, AVolumeKeyIsNeverReturned) {
  const auto record = create();
  const auto blob = make_dek(record);
  EXPECT_THAT(unwrap_one(record, blob, volume_context()), FailsWith(Reason::kWrongPurpose));
  // Nor under a context that only says otherwise.
  KeyContext disguised = volume_context();
  disguised.purpose = keyring::Purpose::kEnvelopeData;
  disguised.volume.reset();
  EXPECT_THAT(unwrap_one(record, blob, disguised), FailsWith(Reason::kBlobInvalid));
}

TEST_P(KeyVaultContract, AnyOtherKeyIsNeverDelivered) {
  const auto record = create();
  const auto blob = wrap_one(record, Bytes(32, std::byte{7}));
  EXPECT_THAT(deliver_one(record, blob, data_context()), FailsWith(Reason::kWrongPurpose));
  EXPECT_THAT(deliver_one(record, blob, volume_context()), FailsWith(Reason::kBlobInvalid));
  const KeyContext context = data_context();
  EXPECT_THAT(vault().make_deks(record, {&context, 1}, ticket_, 0, soon()).at(0),
              FailsWith(Reason::kWrongPurpose));
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, ADekIsDeliveredWhenMadeAndAgainWhenUnwrapped) {
  const auto record = create();
  const auto blob = make_dek(record);
  const auto made = sink().taken();
  ASSERT_EQ(made.size(), 1U);
  EXPECT_EQ(made[0].ticket, ticket_);
  EXPECT_EQ(made[0].label.profile_digest, volume_context().profile_digest);
  EXPECT_EQ(made[0].dek.size(), volume_context().key_bytes);
  ASSERT_THAT(deliver_one(record, blob, volume_context()), Succeeds());
  ASSERT_EQ(sink().taken().size(), 2U);
  EXPECT_EQ(sink().taken()[1].dek, made[0].dek);
}

TEST_P(KeyVaultContract, DeksAreRandomAndTheHalvesOfXtsKeysDiffer) {
  const auto record = create();
  const std::vector<KeyContext> contexts(64, volume_context());
  for (const auto& made : vault().make_deks(record, contexts, ticket_, 0, soon())) {
    EXPECT_THAT(made, Succeeds());
  }
  std::set<Bytes> seen;
  for (const auto& one : sink().taken()) {
    const auto half = one.dek.begin() + 32;
    EXPECT_NE(Bytes(one.dek.begin(), half), Bytes(half, one.dek.end()));
    EXPECT_TRUE(seen.insert(one.dek).second) << "two equal DEKs";
  }
  EXPECT_EQ(seen.size(), 64U);
}

TEST_P(KeyVaultContract, DeksAreDeliveredUnderTheIndexesTheyAreGiven) {
  const auto record = create();
  const std::vector<KeyContext> contexts(3, volume_context());
  const auto made = vault().make_deks(record, contexts, ticket_, 10, soon());
  std::vector<Presented> presented;
  for (const auto& blob : made) {
    ASSERT_THAT(blob, Succeeds());
    presented.push_back({*blob, volume_context()});
  }
  const std::vector<std::uint32_t> indexes{30, 20, 40};
  for (const auto& result : vault().deliver(record, presented, ticket_, indexes, soon())) {
    EXPECT_THAT(result, Succeeds());
  }
  EXPECT_EQ(sink().dek(30), sink().dek(10));
  EXPECT_EQ(sink().dek(20), sink().dek(11));
  EXPECT_EQ(sink().dek(40), sink().dek(12));
}

TEST_P(KeyVaultContract, ASinkThatRefusesOneKeyGetsTheOthers) {
  const auto record = create();
  sink().fail_index(1);
  const std::vector<KeyContext> contexts(3, volume_context());
  const auto made = vault().make_deks(record, contexts, ticket_, 0, soon());
  ASSERT_EQ(made.size(), 3U);
  EXPECT_THAT(made[0], Succeeds());
  EXPECT_THAT(made[1], FailsWith(Reason::kWorkerLost));
  EXPECT_THAT(made[2], Succeeds());
  const std::vector<Presented> presented{{*made[0], volume_context()},
                                         {*made[2], volume_context()}};
  const std::vector<std::uint32_t> indexes{0, 1};
  const auto delivered = vault().deliver(record, presented, ticket_, indexes, soon());
  ASSERT_EQ(delivered.size(), 2U);
  EXPECT_THAT(delivered[0], Succeeds());
  EXPECT_THAT(delivered[1], FailsWith(Reason::kWorkerLost));
}

TEST_P(KeyVaultContract, ACallWhoseTimeIsOverDoesNothing) {
  const auto record = create();
  const auto blob = make_dek(record);
  sink().forget();
  const Deadline over(SteadyTime{});
  const std::vector<KeyContext> contexts(3, volume_context());
  for (const auto& made : vault().make_deks(record, contexts, ticket_, 0, over))
    EXPECT_THAT(made, FailsWith(Reason::kHsmTimeout));
  const std::vector<Presented> presented(3, {blob, volume_context()});
  const std::vector<std::uint32_t> indexes{0, 1, 2};
  for (const auto& result : vault().deliver(record, presented, ticket_, indexes, over))
    EXPECT_THAT(result, FailsWith(Reason::kHsmTimeout));
  const auto keys = some_keys(2, data_context());
  for (const auto& wrapped : vault().wrap(record, keys, over))
    EXPECT_THAT(wrapped, FailsWith(Reason::kHsmTimeout));
  const std::vector<Presented> data(2, {wrap_one(record, Bytes(32, std::byte{7})), data_context()});
  for (const auto& plain : vault().unwrap(record, data, over))
    EXPECT_THAT(plain, FailsWith(Reason::kHsmTimeout));
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, ATicketThatTheWorkerDoesNotExpectGetsNothing) {
  const auto record = create();
  const auto blob = make_dek(record);
  sink().forget();
  keyring::Ticket other = ticket_;
  other[0] ^= std::byte{1};
  sink().expect_only(other);
  EXPECT_THAT(deliver_one(record, blob, volume_context()), FailsWith(Reason::kTicketUnknown));
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, NoNonceComesTwice) {
  const auto record = create();
  std::set<Bytes> nonces;
  std::set<Bytes> ciphertexts;
  for (int round = 0; round < 2; ++round) {
    auto keys = some_keys(KeyVault::kKeysPerCallMax, data_context());
    for (const auto& blob : vault().wrap(record, keys, soon())) {
      ASSERT_THAT(blob, Succeeds());
      EXPECT_TRUE(ciphertexts.insert(blob->ciphertext).second);
      // AES key wrap has none.
      EXPECT_TRUE(blob->nonce.empty() || nonces.insert(blob->nonce).second);
    }
  }
}

TEST_P(KeyVaultContract, RandomBytesAreOfTheLengthAskedForAndNeverTheSame) {
  const auto a = vault().random(48);
  const auto b = vault().random(48);
  ASSERT_THAT(a, Succeeds());
  ASSERT_THAT(b, Succeeds());
  EXPECT_EQ(a->size(), 48U);
  EXPECT_NE(bytes_of(*a), bytes_of(*b));
}

TEST_P(KeyVaultContract, ManyThreadsUseOneKey) {
  const auto record = create();
  std::vector<std::thread> threads;
  std::array<bool, 4> good{};
  for (std::size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      bool all = true;
      for (int round = 0; round < 8; ++round) {
        auto keys = some_keys(4, data_context());
        const auto wrapped = vault().wrap(record, keys, soon());
        for (std::size_t i = 0; i < keys.size(); ++i) {
          const auto plain = wrapped[i] ? unwrap_one(record, *wrapped[i], keys[i].context)
                                        : Result<SecretBytes>(tl::unexpected(wrapped[i].error()));
          all = all && plain && bytes_of(*plain) == bytes_of(keys[i].key);
        }
      }
      good[t] = all;
    });
  }
  for (auto& thread : threads) thread.join();
  for (const bool one : good) EXPECT_TRUE(one);
}

TEST_P(KeyVaultContract, HealthSaysThatItIsUpAndWhichRootKeyItHas) {
  const auto health = vault().health();
  EXPECT_EQ(health.state, keyring::VaultState::kUp) << health.detail;
  const auto record = keyring::CmkRecord::decode(create());
  ASSERT_THAT(record, Succeeds());
  EXPECT_FALSE(health.root_id.empty());
  EXPECT_EQ(health.root_id, record->root_id);
  EXPECT_EQ(health.kind, record->token_kind);
  EXPECT_TRUE(health.maker) << "what it is";
  // What a token wraps by itself; rooted keys have their own.
  if (record->protection == keyring::Protection::kWrapped) {
    EXPECT_EQ(health.profile, record->current().profile);
  }
}

}  // namespace
}  // namespace coffer::tests

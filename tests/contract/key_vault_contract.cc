// SPDX-License-Identifier: Apache-2.0
#include "tests/contract/key_vault_contract.h"

#include "tests/support/result_matchers.h"

namespace coffer::tests {

using keyring::CmkChange;
using keyring::KeyContext;
using keyring::SealedRecord;
using keyring::WrappedKey;

void KeyVaultContract::SetUp() {
  if (!GetParam().skip_reason.empty()) GTEST_SKIP() << GetParam().skip_reason;
  auto made = GetParam().make();
  ASSERT_THAT(made, Succeeds());
  under_test_ = std::move(*made);
  const auto ticket = keyring::draw_ticket();
  ASSERT_THAT(ticket, Succeeds());
  ticket_ = *ticket;
}

keyring::CmkParameters KeyVaultContract::parameters_of(const std::string& alias) {
  keyring::CmkParameters parameters;
  parameters.alias = alias;
  parameters.algorithm = GetParam().algorithm;
  if (GetParam().asks_for_protection) parameters.protection = GetParam().protection;
  return parameters;
}

SealedRecord KeyVaultContract::create(const std::string& alias) {
  auto record = vault().create_cmk(parameters_of(alias));
  EXPECT_THAT(record, Succeeds());
  return record ? std::move(*record) : SealedRecord();
}

SealedRecord KeyVaultContract::change(const SealedRecord& record, const CmkChange& change) {
  auto next = vault().change_cmk(record, change);
  EXPECT_THAT(next, Succeeds());
  return next ? std::move(*next) : SealedRecord();
}

KeyContext KeyVaultContract::volume_context() {
  KeyContext context;
  context.purpose = keyring::Purpose::kVolumeKey;
  context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
  context.host_scope = "7a1d0b9c-0000-4000-8000-aabbccddeeff";
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.profile_digest.fill(std::byte{0x5A});
  context.generation = 1;
  return context;
}

KeyContext KeyVaultContract::data_context() {
  KeyContext context;
  context.purpose = keyring::Purpose::kEnvelopeData;
  context.tenant = "tenant-7";
  context.cipher = "aes-gcm";
  context.key_bytes = 32;
  return context;
}

WrappedKey KeyVaultContract::wrap_one(const SealedRecord& record, ByteView key) {
  std::vector<keyring::KeyVault::Plain> keys(1);
  keys[0].key = *SecretBytes::copy_of(key);
  keys[0].context = data_context();
  auto wrapped = vault().wrap(record, keys, soon());
  EXPECT_EQ(wrapped.size(), 1U);
  EXPECT_THAT(wrapped.at(0), Succeeds());
  return wrapped.at(0) ? *wrapped.at(0) : WrappedKey{{}, CmkId(Uuid()), 0, {}, {}, {}};
}

Result<SecretBytes> KeyVaultContract::unwrap_one(ByteView record, const WrappedKey& blob,
                                                 const KeyContext& context) {
  const keyring::Presented key{blob, context};
  auto results = vault().unwrap(record, {&key, 1}, soon());
  if (results.size() != 1) return fail(Reason::kInternal, "not one result per key");
  return std::move(results.front());
}

WrappedKey KeyVaultContract::make_dek(const SealedRecord& record) {
  const KeyContext context = volume_context();
  auto made = vault().make_deks(record, {&context, 1}, ticket_, 0, soon());
  EXPECT_EQ(made.size(), 1U);
  EXPECT_THAT(made.at(0), Succeeds());
  return made.at(0) ? *made.at(0) : WrappedKey{{}, CmkId(Uuid()), 0, {}, {}, {}};
}

Result<void> KeyVaultContract::deliver_one(ByteView record, const WrappedKey& blob,
                                           const KeyContext& context) {
  const keyring::Presented key{blob, context};
  const std::uint32_t index = 0;
  auto results = vault().deliver(record, {&key, 1}, ticket_, {&index, 1}, soon());
  if (results.size() != 1) return fail(Reason::kInternal, "not one result per key");
  return std::move(results.front());
}

}  // namespace coffer::tests

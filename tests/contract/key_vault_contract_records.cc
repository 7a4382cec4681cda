// SPDX-License-Identifier: Apache-2.0
// What a vault holds against hostile stores and callers: edited and old records, foreign blobs.
#include <functional>

#include "tests/contract/key_vault_contract.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using keyring::CmkChange;
using keyring::CmkRecord;
using keyring::KeyContext;
using keyring::KeyState;
using keyring::SealedRecord;
using keyring::WrappedKey;

const Bytes kSomeKey(32, std::byte{0x2C});

CmkRecord read(const SealedRecord& sealed) {
  auto record = CmkRecord::decode(sealed);
  EXPECT_THAT(record, Succeeds());
  return record ? *record : CmkRecord{.id = CmkId(Uuid())};
}

// Every way to be one field away from `context`.
std::vector<std::pair<std::string, KeyContext>> neighbours(const KeyContext& context) {
  std::vector<std::pair<std::string, KeyContext>> all;
  const auto with = [&](const std::string& field, const std::function<void(KeyContext&)>& edit) {
    KeyContext other = context;
    edit(other);
    all.emplace_back(field, other);
  };
  with("tenant", [](KeyContext& c) { c.tenant += "x"; });
  with("host scope", [](KeyContext& c) { c.host_scope += "x"; });
  with("device binding", [](KeyContext& c) { c.device_binding += "x"; });
  with("cipher", [](KeyContext& c) { c.cipher += "x"; });
  with("key length", [](KeyContext& c) { c.key_bytes += 16; });
  with("profile", [](KeyContext& c) { c.profile_digest[31] ^= std::byte{1}; });
  with("generation", [](KeyContext& c) { c.generation += 1; });
  with("flags", [](KeyContext& c) { c.flags ^= keyring::kForeignOpenAllowed; });
  if (context.volume) {
    with("volume", [](KeyContext& c) { c.volume = *VolumeId::random(); });
  } else {
    with("purpose", [](KeyContext& c) { c.purpose = keyring::Purpose::kAuditSeal; });
  }
  return all;
}

TEST_P(KeyVaultContract, ANewKeyIsEnabledAndSaysWhatItIs) {
  auto parameters = parameters_of("disks");
  parameters.description = "Für die Platten";
  parameters.id = *CmkId::random();
  const auto sealed = vault().create_cmk(parameters);
  ASSERT_THAT(sealed, Succeeds());
  const auto record = read(*sealed);
  EXPECT_EQ(record.id, *parameters.id);
  EXPECT_EQ(record.revision, 1U);
  EXPECT_EQ(record.state, KeyState::kEnabled);
  EXPECT_EQ(record.alias, "disks");
  EXPECT_EQ(record.description, "Für die Platten");
  EXPECT_EQ(record.protection, GetParam().protection);
  ASSERT_EQ(record.versions.size(), 1U);
  EXPECT_EQ(record.current().number, 1U);
  EXPECT_FALSE(record.current().material.empty());
}

TEST_P(KeyVaultContract, AKeyWithoutAProperAliasIsNotMade) {
  const auto parameters = parameters_of("-up");
  EXPECT_THAT(vault().create_cmk(parameters), FailsWith(Reason::kInvalidArgs));
}

TEST_P(KeyVaultContract, AWrappedKeyOpensUnderItsOwnContextAlone) {
  const auto record = create();
  const auto blob = wrap_one(record, kSomeKey);
  ASSERT_THAT(unwrap_one(record, blob, data_context()), Succeeds());
  for (const auto& [field, context] : neighbours(data_context())) {
    EXPECT_THAT(unwrap_one(record, blob, context), FailsWith(Reason::kBlobInvalid)) << field;
  }
}

TEST_P(KeyVaultContract, ADekIsDeliveredUnderItsOwnContextAlone) {
  const auto record = create();
  const auto blob = make_dek(record);
  sink().forget();
  for (const auto& [field, context] : neighbours(volume_context())) {
    EXPECT_THAT(deliver_one(record, blob, context), FailsWith(Reason::kBlobInvalid)) << field;
    // The caller, who knows what it expects, is told which field it is.
    EXPECT_FALSE(keyring::require_same(volume_context(), context)) << field;
  }
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, ABlobWithAnyByteChangedIsRefused) {
  const auto record = create();
  const Bytes encoded = make_dek(record).encode();
  sink().forget();
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    Bytes edited = encoded;
    edited[i] ^= std::byte{1};
    const auto blob = WrappedKey::decode(edited);
    if (!blob) {
      EXPECT_THAT(blob, FailsWith(Reason::kBlobInvalid)) << i;
      continue;
    }
    EXPECT_THAT(deliver_one(record, *blob, volume_context()), FailsWith(Reason::kBlobInvalid)) << i;
  }
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, AContextWithAnyByteChangedIsRefused) {
  const auto record = create();
  const auto blob = make_dek(record);
  sink().forget();
  const Bytes encoded = volume_context().encode();
  for (std::size_t i = 0; i < encoded.size(); ++i) {
    Bytes edited = encoded;
    edited[i] ^= std::byte{1};
    const auto context = KeyContext::decode(edited);
    if (!context) {
      EXPECT_THAT(context, FailsWith(Reason::kTokenInvalid)) << i;
      continue;
    }
    EXPECT_THAT(deliver_one(record, blob, *context), FailsWith(Reason::kBlobInvalid)) << i;
  }
  EXPECT_TRUE(sink().taken().empty());
}

TEST_P(KeyVaultContract, ARecordWithAnyByteChangedIsRefused) {
  const auto record = create();
  for (std::size_t i = 0; i < record.size(); ++i) {
    SealedRecord edited = record;
    edited[i] ^= std::byte{1};
    EXPECT_THAT(vault().present(edited), FailsWith(Reason::kRecordInvalid)) << i;
  }
  EXPECT_THAT(vault().present(record), Succeeds()) << "the refused ones must not count";
}

TEST_P(KeyVaultContract, ARecordCutShortOrLongerIsRefused) {
  const auto record = create();
  const auto blob = wrap_one(record, kSomeKey);
  for (const std::size_t size : {std::size_t{0}, std::size_t{31}, record.size() - 1}) {
    EXPECT_THAT(unwrap_one(ByteView(record).first(size), blob, data_context()),
                FailsWith(Reason::kRecordInvalid))
        << size;
  }
  SealedRecord longer = record;
  longer.push_back(std::byte{0});
  EXPECT_THAT(unwrap_one(longer, blob, data_context()), FailsWith(Reason::kRecordInvalid));
}

TEST_P(KeyVaultContract, ARecordOfAnotherRootKeyIsRefused) {
  auto other = GetParam().make();
  ASSERT_THAT(other, Succeeds());
  const auto parameters = parameters_of("default");
  const auto foreign = other->vault->create_cmk(parameters);
  ASSERT_THAT(foreign, Succeeds());
  EXPECT_THAT(vault().present(*foreign), FailsWith(Reason::kRecordInvalid));
  EXPECT_THAT(vault().change_cmk(*foreign, CmkChange::kAdopt), FailsWith(Reason::kRecordInvalid));
}

TEST_P(KeyVaultContract, ABlobOfAnotherKeyIsRefused) {
  const auto a = create("a");
  const auto b = create("b");
  WrappedKey blob = wrap_one(a, kSomeKey);
  EXPECT_THAT(unwrap_one(b, blob, data_context()), FailsWith(Reason::kBlobInvalid));
  blob.cmk = read(b).id;
  EXPECT_THAT(unwrap_one(b, blob, data_context()), FailsWith(Reason::kBlobInvalid));
}

TEST_P(KeyVaultContract, ABlobMovedToAnotherVersionIsRefused) {
  const auto first = create();
  WrappedKey old = wrap_one(first, kSomeKey);
  const auto second = change(first, CmkChange::kRotate);
  old.cmk_version = 2;
  EXPECT_THAT(unwrap_one(second, old, data_context()), FailsWith(Reason::kBlobInvalid));
  old.cmk_version = 3;
  EXPECT_THAT(unwrap_one(second, old, data_context()), FailsWith(Reason::kBlobInvalid));
}

TEST_P(KeyVaultContract, ARotatedKeyWrapsAnewAndStillOpensWhatIsOld) {
  const auto first = create();
  const auto old_data = wrap_one(first, kSomeKey);
  const auto old_dek = make_dek(first);
  const auto second = change(first, CmkChange::kRotate);
  EXPECT_EQ(read(second).revision, 2U);
  ASSERT_EQ(read(second).versions.size(), 2U);
  EXPECT_NE(read(second).versions[0].material, read(second).versions[1].material);

  EXPECT_THAT(unwrap_one(second, old_data, data_context()), Succeeds());
  EXPECT_THAT(deliver_one(second, old_dek, volume_context()), Succeeds());
  EXPECT_EQ(wrap_one(second, kSomeKey).cmk_version, 2U);
  // One call may hold blobs of several versions.
  const std::vector<keyring::Presented> mixed{{wrap_one(second, kSomeKey), data_context()},
                                              {old_data, data_context()}};
  for (const auto& plain : vault().unwrap(second, mixed, soon())) EXPECT_THAT(plain, Succeeds());
}

TEST_P(KeyVaultContract, ADisabledKeyDoesNothingUntilItIsEnabledAgain) {
  const auto enabled = create();
  const auto blob = wrap_one(enabled, kSomeKey);
  const auto dek = make_dek(enabled);
  const auto disabled = change(enabled, CmkChange::kDisable);
  EXPECT_EQ(read(disabled).state, KeyState::kDisabled);
  sink().forget();

  std::vector<keyring::KeyVault::Plain> keys(1);
  keys[0].key = *SecretBytes::copy_of(kSomeKey);
  keys[0].context = data_context();
  const KeyContext context = volume_context();
  EXPECT_THAT(vault().wrap(disabled, keys, soon()).at(0), FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(unwrap_one(disabled, blob, data_context()), FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(deliver_one(disabled, dek, volume_context()), FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(vault().make_deks(disabled, {&context, 1}, ticket_, 0, soon()).at(0),
              FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(vault().change_cmk(disabled, CmkChange::kRotate), FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(vault().change_cmk(disabled, CmkChange::kLease), FailsWith(Reason::kKeyDisabled));
  EXPECT_TRUE(sink().taken().empty());

  const auto again = change(disabled, CmkChange::kEnable);
  EXPECT_THAT(unwrap_one(again, blob, data_context()), Succeeds());
  EXPECT_THAT(deliver_one(again, dek, volume_context()), Succeeds());
}

TEST_P(KeyVaultContract, AnOlderRecordIsRefusedOnceANewerOneWasPresented) {
  const auto enabled = create();
  const auto blob = wrap_one(enabled, kSomeKey);
  const auto disabled = change(enabled, CmkChange::kDisable);
  ASSERT_THAT(vault().present(disabled), Succeeds());
  EXPECT_THAT(unwrap_one(enabled, blob, data_context()), FailsWith(Reason::kRecordSuperseded));
  EXPECT_THAT(vault().present(enabled), FailsWith(Reason::kRecordSuperseded));
  EXPECT_THAT(vault().change_cmk(enabled, CmkChange::kRotate),
              FailsWith(Reason::kRecordSuperseded));
}

TEST_P(KeyVaultContract, ARecordThatWasMadeAndNeverPresentedLocksNobodyOut) {
  const auto enabled = create();
  const auto blob = wrap_one(enabled, kSomeKey);
  static_cast<void>(change(enabled, CmkChange::kDisable));
  static_cast<void>(change(enabled, CmkChange::kRotate));
  EXPECT_THAT(unwrap_one(enabled, blob, data_context()), Succeeds());
}

TEST_P(KeyVaultContract, OfTwoRecordsOfOneRevisionTheFirstPresentedCounts) {
  const auto enabled = create();
  const auto disabled = change(enabled, CmkChange::kDisable);
  const auto rotated = change(enabled, CmkChange::kRotate);
  ASSERT_EQ(read(disabled).revision, read(rotated).revision);
  ASSERT_THAT(vault().present(disabled), Succeeds());
  EXPECT_THAT(vault().present(rotated), FailsWith(Reason::kRecordSuperseded));
  EXPECT_THAT(vault().present(disabled), Succeeds());
}

TEST_P(KeyVaultContract, AnAdoptedRecordIsDisabledAndAboveEverythingPresented) {
  const auto first = create();
  const auto blob = wrap_one(first, kSomeKey);
  const auto second = change(first, CmkChange::kRotate);
  ASSERT_THAT(vault().present(second), Succeeds());
  // What a volume's token still carries.
  const auto adopted = change(first, CmkChange::kAdopt);
  EXPECT_EQ(read(adopted).state, KeyState::kDisabled);
  EXPECT_EQ(read(adopted).revision, read(second).revision + 1);
  EXPECT_THAT(unwrap_one(adopted, blob, data_context()), FailsWith(Reason::kKeyDisabled));
  const auto enabled = change(adopted, CmkChange::kEnable);
  EXPECT_THAT(unwrap_one(enabled, blob, data_context()), Succeeds());
}

TEST_P(KeyVaultContract, AKeyThatWasUsedIsNotMadeASecondTime) {
  const auto record = create();
  static_cast<void>(wrap_one(record, kSomeKey));
  auto parameters = parameters_of("again");
  parameters.id = read(record).id;
  EXPECT_THAT(vault().create_cmk(parameters), FailsWith(Reason::kInvalidArgs));
}

TEST_P(KeyVaultContract, ALeaseGivesTheCurrentVersionMoreUses) {
  const auto record = create();
  const auto leased = change(record, CmkChange::kLease);
  EXPECT_GT(read(leased).current().wraps_leased, read(record).current().wraps_leased);
  EXPECT_EQ(read(leased).revision, read(record).revision + 1);
}

TEST_P(KeyVaultContract, ARestartedVaultOpensWhatItWrapped) {
  if (!GetParam().restart) GTEST_SKIP() << GetParam().name << " cannot be restarted by a test";
  const auto record = create();
  const auto blob = wrap_one(record, kSomeKey);
  auto again = GetParam().restart(under_test_);
  ASSERT_THAT(again, Succeeds());
  under_test_ = std::move(*again);
  EXPECT_THAT(unwrap_one(record, blob, data_context()), Succeeds());
}

TEST_P(KeyVaultContract, ARestartedVaultStillRefusesAnOlderRecord) {
  if (!GetParam().durable_floors) GTEST_SKIP() << GetParam().name << " keeps no floors on disk";
  const auto enabled = create();
  const auto blob = wrap_one(enabled, kSomeKey);
  const auto disabled = change(enabled, CmkChange::kDisable);
  ASSERT_THAT(vault().present(disabled), Succeeds());
  auto again = GetParam().restart(under_test_);
  ASSERT_THAT(again, Succeeds());
  under_test_ = std::move(*again);
  EXPECT_THAT(unwrap_one(enabled, blob, data_context()), FailsWith(Reason::kRecordSuperseded));
}

}  // namespace
}  // namespace coffer::tests

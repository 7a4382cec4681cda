// SPDX-License-Identifier: Apache-2.0
// An SDF device that fails, lies, goes away, or is another one.
#include "hsm/sdf_token.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "core/base/files.h"
#include "hsm/revision_floors.h"
#include "hsm/ruled_vault.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/integration/hsm/failing_token.h"
#include "tests/support/result_matchers.h"
#include "tests/support/sdf_faults.h"
#include "tests/support/sdf_folder.h"

namespace coffer::hsm {
namespace {

using keyring::KeyAlgorithm;
using keyring::KeySupport;
using keyring::KeyUsage;
using keyring::Protection;
using keyring::VaultState;
using tests::data_context;
using tests::FailsWith;
using tests::sdf_library_path;
using tests::SdfFolder;
using tests::soon;
using tests::Succeeds;

SdfFolder& folder() {
  static SdfFolder folder;
  return folder;
}

keyring::CmkParameters sm4_key() {
  keyring::CmkParameters parameters;
  parameters.alias = "default";
  parameters.algorithm = KeyAlgorithm::kSm4;
  return parameters;
}

class SdfTokenTest : public testing::Test {
 protected:
  void SetUp() override {
    folder().faults().clear();
    options_.link.library_path = sdf_library_path();
    options_.link.kek = folder().add_kek();
    options_.link.reconnect_pause = std::chrono::milliseconds(0);
    options_.keys_file = (folder().path() / ("keys-" + std::to_string(options_.link.kek))).string();
    ASSERT_THAT(SdfToken::make_keys(options_), Succeeds());
    start();
    auto record = vault_->create_cmk(sm4_key());
    ASSERT_THAT(record, Succeeds());
    record_ = std::move(*record);
    keys_.emplace_back();
    keys_[0].key = *SecretBytes::random(32);
    keys_[0].context = data_context();
    const auto wrapped = wrap();
    ASSERT_THAT(wrapped, Succeeds());
    presented_.push_back({*wrapped, data_context()});
  }
  void TearDown() override { folder().faults().clear(); }

  // A new vault on the device, as after a restart.
  void start() {
    vault_.reset();
    token_ = std::make_unique<SdfToken>(options_);
    vault_ =
        std::make_unique<RuledVault>(RuledVault::Parts{*token_, *floors_, sink_, system_clock()});
  }
  Result<SecretBytes> unwrap() {
    return std::move(vault_->unwrap(record_, presented_, soon()).at(0));
  }
  Result<keyring::WrappedKey> wrap() { return vault_->wrap(record_, keys_, soon()).at(0); }

  void expect_well(std::string_view after) {
    const auto plain = unwrap();
    ASSERT_THAT(plain, Succeeds()) << after;
    EXPECT_TRUE(equal_constant_time(plain->reveal(), keys_[0].key.reveal())) << after;
    EXPECT_THAT(wrap(), Succeeds()) << after;
    EXPECT_EQ(token_->health().state, VaultState::kUp) << after;
  }

  SdfToken::Options options_;
  std::unique_ptr<RevisionFloors> floors_ = make_memory_floors();
  tests::FakeDekSink sink_;
  std::unique_ptr<SdfToken> token_;
  std::unique_ptr<RuledVault> vault_;
  Bytes record_;
  std::vector<keyring::KeyVault::Plain> keys_;
  std::vector<keyring::Presented> presented_;
};

TEST_F(SdfTokenTest, HealthSaysWhichDeviceItIsAndThatNobodyClaimsItIsHardware) {
  const auto health = token_->health();
  EXPECT_EQ(health.state, VaultState::kUp) << health.detail;
  EXPECT_EQ(health.token_label, "Coffer tests SDF-TEST");
  EXPECT_EQ(health.token_serial, "2026112200100001");
  EXPECT_EQ(health.kind, keyring::TokenKind::kSoftware);
  EXPECT_EQ(health.maker, keyring::VaultMaker::kSdf);
  EXPECT_EQ(health.profile, keyring::KekProfile::kSm4CbcHmac);
  EXPECT_EQ(health.detail, "the device answers");
  EXPECT_TRUE(health.root_id.starts_with("sdf-"));
}

TEST_F(SdfTokenTest, ADeviceWithoutHmacSaysWhereItsMacKeysLie) {
  options_.link.library_path = sdf_library_path("sdf-2012");
  options_.keys_file += "-2012";
  ASSERT_THAT(SdfToken::make_keys(options_), Succeeds());
  start();
  const auto health = token_->health();
  EXPECT_EQ(health.state, VaultState::kUp) << health.detail;
  EXPECT_NE(health.detail.find("in locked memory"), std::string::npos) << health.detail;
}

TEST_F(SdfTokenTest, KeysMadeForHmacInTheDeviceAreNotUsedWithoutIt) {
  options_.link.library_path = sdf_library_path("sdf-2012");
  start();
  EXPECT_THAT(unwrap(), FailsWith(Reason::kUnsupported));
  EXPECT_EQ(token_->health().state, VaultState::kFailed);
}

TEST_F(SdfTokenTest, OtherKindsOfKeysAreRefused) {
  for (const KeySupport kind :
       {KeySupport{},
        KeySupport{KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt, Protection::kResident},
        KeySupport{KeyAlgorithm::kSm2, KeyUsage::kSignVerify, Protection::kWrapped}}) {
    EXPECT_THAT(token_->generate(*CmkId::random(), 1, kind), FailsWith(Reason::kUnsupported));
  }
  const auto supports = token_->supports();
  ASSERT_THAT(supports, Succeeds());
  EXPECT_EQ(supports->size(), 1U);
}

TEST_F(SdfTokenTest, ARootedKeyOpensUnderItsOwnAadAlone) {
  const auto key = *SecretBytes::random(32);
  const auto aad = as_bytes("key 7, version 1");
  const auto closed = token_->close_rooted(key, aad);
  ASSERT_THAT(closed, Succeeds());
  const auto opened = token_->open_rooted(*closed, aad);
  ASSERT_THAT(opened, Succeeds());
  EXPECT_TRUE(equal_constant_time(opened->reveal(), key.reveal()));
  EXPECT_THAT(token_->open_rooted(*closed, as_bytes("key 8, version 1")),
              FailsWith(Reason::kRecordInvalid));
  for (std::size_t i = 0; i < closed->size(); ++i) {
    Bytes edited = *closed;
    edited[i] ^= std::byte{1};
    EXPECT_THAT(token_->open_rooted(edited, aad), FailsWith(Reason::kRecordInvalid)) << i;
    EXPECT_THAT(token_->open_rooted(ByteView(*closed).first(i), aad),
                FailsWith(Reason::kRecordInvalid))
        << i;
  }
  EXPECT_THAT(token_->close_rooted(*SecretBytes::random(3073), aad),
              FailsWith(Reason::kInvalidArgs));
}

TEST_F(SdfTokenTest, WithoutItsKeysATokenSaysWhatIsToBeDone) {
  std::filesystem::remove(options_.keys_file);
  start();
  EXPECT_THAT(unwrap(), FailsWith(Reason::kNoSuchKey));
  const auto health = token_->health();
  EXPECT_EQ(health.state, VaultState::kFailed);
  EXPECT_NE(health.detail.find("--make-sdf-keys"), std::string::npos) << health.detail;
}

TEST_F(SdfTokenTest, KeysThatAreThereAreNotReplaced) {
  const auto before = read_file(options_.keys_file, 4096);
  EXPECT_THAT(SdfToken::make_keys(options_), FailsWith(Reason::kInvalidArgs));
  EXPECT_EQ(*read_file(options_.keys_file, 4096), *before);
}

TEST_F(SdfTokenTest, ADamagedFileOfKeysIsNotTakenForAnotherDevice) {
  const auto good = *read_file(options_.keys_file, 4096);
  for (std::size_t i = 0; i < good.size(); i += 7) {
    Bytes edited = good;
    edited[i] ^= std::byte{1};
    ASSERT_THAT(write_file_durably(options_.keys_file, edited), Succeeds());
    start();
    EXPECT_THAT(unwrap(), FailsWith(Reason::kStoreDamaged)) << i;
  }
}

TEST_F(SdfTokenTest, AnotherKeyEncryptionKeyIsAnotherDevice) {
  const auto index = options_.link.kek;
  const auto right = *read_file((folder().path() / ("kek-" + std::to_string(index))).string(), 64);
  folder().replace_kek(index);
  start();
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmAbsent));
  EXPECT_EQ(token_->health().state, VaultState::kAbsent);
  folder().put("kek-" + std::to_string(index), right);
  expect_well("the right one is back");

  options_.link.kek = folder().add_kek();
  start();
  EXPECT_THAT(unwrap(), FailsWith(Reason::kConfigInvalid));
}

TEST_F(SdfTokenTest, ADeviceOfAnotherSerialNumberIsNotUsed) {
  options_.link.serial = "2026112200100002";
  start();
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmAbsent));
  const auto health = token_->health();
  EXPECT_EQ(health.state, VaultState::kAbsent);
  EXPECT_NE(health.detail.find("2026112200100001"), std::string::npos) << health.detail;
}

TEST_F(SdfTokenTest, ADeviceThatIsExchangedIsNoticedByTheNextProbe) {
  folder().put("serial", as_bytes("2026112200100009"));
  EXPECT_EQ(token_->health().state, VaultState::kAbsent);
  folder().put("serial", as_bytes("2026112200100001"));
  expect_well("the old one is back");
}

TEST_F(SdfTokenTest, ARemovedDeviceIsAbsentAndUsedAgainWhenItIsBack) {
  folder().faults().set("removed\n");
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmAbsent));
  EXPECT_THAT(wrap(), FailsWith(Reason::kHsmAbsent));
  EXPECT_EQ(token_->health().state, VaultState::kAbsent);
  start();
  EXPECT_EQ(token_->health().state, VaultState::kAbsent);
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmAbsent));
  folder().faults().clear();
  expect_well("back");
}

TEST_F(SdfTokenTest, LostSessionsCostOneRepeatAndNoError) {
  for (const auto* line :
       {"SDF_Decrypt@1 drop\n", "SDF_HMACInit@1 drop\n", "SDF_HMACUpdate@1 drop\n",
        "SDF_Decrypt@1 return 0x01000008\n", "SDF_Decrypt@1 return 0x0100001D\n",
        "SDF_HMACFinal@1 return 0x01000010\n"}) {
    ASSERT_THAT(unwrap(), Succeeds());
    folder().faults().set(line);
    EXPECT_THAT(unwrap(), Succeeds()) << line;
  }
}

TEST_F(SdfTokenTest, ABusyDeviceIsReportedAsBusy) {
  folder().faults().set("SDF_Encrypt return 0x0100001C\n");
  EXPECT_THAT(wrap(), FailsWith(Reason::kHsmBusy));
  folder().faults().clear();
  expect_well("busy");
}

TEST_F(SdfTokenTest, WhatTheDeviceCannotDoIsUnsupported) {
  folder().faults().set("SDF_Encrypt return 0x0100000A\n");
  EXPECT_THAT(wrap(), FailsWith(Reason::kUnsupported));
}

TEST_F(SdfTokenTest, AnAnswerThatCannotBeIsAFailureAndNothingElse) {
  for (const auto* size : {"0", "16", "4096", "4294967295"}) {
    folder().faults().set(fmt::format("SDF_Encrypt size {}\n", size));
    EXPECT_THAT(wrap(), FailsWith(Reason::kHsmFailed)) << size;
    folder().faults().set(fmt::format("SDF_Decrypt size {}\n", size));
    EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmFailed)) << size;
    folder().faults().set(fmt::format("SDF_HMACFinal size {}\n", size));
    EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmFailed)) << size;
    // A wrapped key of 16 bytes is what it is.
    if (std::string_view(size) == "16") continue;
    folder().faults().set(fmt::format("SDF_GenerateKeyWithKEK size {}\n", size));
    EXPECT_THAT(vault_->create_cmk(sm4_key()), FailsWith(Reason::kHsmFailed)) << size;
  }
  folder().faults().clear();
  expect_well("lies");
}

TEST_F(SdfTokenTest, AKeyThatDoesNotComeBackIsNotMade) {
  folder().faults().set("SDF_GenerateKeyWithKEK flip\n");
  EXPECT_THAT(vault_->create_cmk(sm4_key()), FailsWith(Reason::kHsmFailed));
}

TEST_F(SdfTokenTest, AGeneratorThatGivesZerosMakesNoKey) {
  folder().faults().set("SDF_GenerateRandom zero\n");
  EXPECT_THAT(vault_->random(32), FailsWith(Reason::kHsmFailed));
  EXPECT_THAT(wrap(), FailsWith(Reason::kHsmFailed)) << "no IV of zeros either";
}

TEST_F(SdfTokenTest, AWrongPlaintextIsTheDevicesFaultAndNotTheDatas) {
  folder().faults().set("SDF_Decrypt flip\n");  // In the padding.
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmFailed));
}

TEST_F(SdfTokenTest, ManyKeysPushOneAnotherOutOfASession) {
  options_.link.sessions_max = 1;
  start();
  std::vector<Bytes> records;
  for (std::size_t i = 0; i < SdfSession::kKeysMax + 8; ++i) {
    auto record = vault_->create_cmk(sm4_key());
    ASSERT_THAT(record, Succeeds()) << i;
    records.push_back(std::move(*record));
  }
  for (const auto& record : records)
    EXPECT_THAT(vault_->wrap(record, keys_, soon()).at(0), Succeeds());
  expect_well("many keys");
}

class SdfReturnFaultTest : public SdfTokenTest, public testing::WithParamInterface<const char*> {};

// Whatever a device answers: nothing good is called bad, no wrong key comes out, and once it
// answers as it should, it is used again without a restart.
TEST_P(SdfReturnFaultTest, NeverMakesGoodDataBadAndHealsWithTheDevice) {
  const auto another = sm4_key();
  const auto begin = [&](const std::string& line) {
    start();
    ASSERT_THAT(unwrap(), Succeeds()) << line;
  };
  const auto use = [&](const std::string& line, bool anew) {
    if (anew) start();
    tests::use_while_it_fails(*vault_, {record_, keys_, presented_, another}, line);
    token_->health();
  };
  tests::with_every_fault(folder(), GetParam(), begin, use,
                          [&](const std::string& line) { expect_well(line); });
}

INSTANTIATE_TEST_SUITE_P(EveryFunction, SdfReturnFaultTest, tests::every_sdf_function(),
                         tests::sdf_function_name);

}  // namespace
}  // namespace coffer::hsm

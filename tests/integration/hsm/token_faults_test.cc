// SPDX-License-Identifier: Apache-2.0
// A PKCS#11 token that fails: every return value class in every function the vault uses.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <set>

#include "hsm/pkcs11_token.h"
#include "hsm/revision_floors.h"
#include "hsm/ruled_vault.h"
#include "hsm/token_setup.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/integration/hsm/failing_softhsm.h"
#include "tests/integration/hsm/failing_token.h"
#include "tests/support/result_matchers.h"
#include "tests/support/softhsm.h"

namespace coffer::hsm {
namespace {

using keyring::VaultState;
using tests::data_context;
using tests::FailsWith;
using tests::kFailingLabel;
using tests::shared;
using tests::soon;
using tests::Succeeds;

class TokenFaultTest : public testing::Test {
 protected:
  void SetUp() override {
    if (tests::softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
    shared().script.clear();
    forget_pin_mark();
    start();
    ASSERT_EQ(token_->health().state, VaultState::kUp) << token_->health().detail;
    auto record = vault_->create_cmk({.alias = "default", .description = "", .id = {}});
    ASSERT_THAT(record, Succeeds());
    record_ = std::move(*record);
    keys_.emplace_back();
    keys_[0].key = *SecretBytes::random(32);
    keys_[0].context = data_context();
    auto wrapped = vault_->wrap(record_, keys_, soon());
    ASSERT_THAT(wrapped.at(0), Succeeds());
    presented_.push_back({*wrapped.at(0), data_context()});
  }
  void TearDown() override {
    if (!tests::softhsm_module_path().empty()) shared().script.clear();
  }

  // A new vault on the token, as after a restart.
  void start() {
    vault_.reset();
    token_.reset();
    auto link = shared().folder.link(tests::fault_module_path(), kFailingLabel);
    token_ = std::make_unique<Pkcs11Token>(Pkcs11Token::Options{.link = std::move(link)});
    vault_ =
        std::make_unique<RuledVault>(RuledVault::Parts{*token_, *floors_, sink_, system_clock()});
  }

  static void forget_pin_mark() {
    std::filesystem::remove(shared().folder.pin_mark(kFailingLabel));
  }

  Result<SecretBytes> unwrap() {
    return std::move(vault_->unwrap(record_, presented_, soon()).at(0));
  }
  Result<keyring::WrappedKey> wrap() { return vault_->wrap(record_, keys_, soon()).at(0); }

  // The token works and gives what was wrapped before.
  void expect_well(std::string_view after) {
    const auto plain = unwrap();
    ASSERT_THAT(plain, Succeeds()) << after;
    EXPECT_TRUE(equal_constant_time(plain->reveal(), keys_[0].key.reveal())) << after;
    EXPECT_THAT(wrap(), Succeeds()) << after;
    EXPECT_EQ(token_->health().state, VaultState::kUp) << after;
  }

  std::unique_ptr<RevisionFloors> floors_ = make_memory_floors();
  tests::FakeDekSink sink_;
  std::unique_ptr<Pkcs11Token> token_;
  std::unique_ptr<RuledVault> vault_;
  Bytes record_;
  std::vector<keyring::KeyVault::Plain> keys_;
  std::vector<keyring::Presented> presented_;
};

// docs/decisions/0090-two-kek-profiles.md.
TEST_F(TokenFaultTest, TokenWithoutAMechanismToWrapWithIsRefusedByName) {
  shared().script.set("hide 0x1087\nhide 0x1085\n");  // AES-GCM, AES-CBC with padding.
  start();
  EXPECT_THAT(vault_->create_cmk({.alias = "other", .description = "", .id = {}}),
              FailsWith(Reason::kUnsupported));
  const auto health = token_->health();
  EXPECT_EQ(health.state, VaultState::kFailed);
  EXPECT_NE(health.detail.find("no mechanism"), std::string::npos) << health.detail;
}

class ReturnValueFaultTest : public TokenFaultTest,
                             public testing::WithParamInterface<const char*> {};

// One or more of every class.
constexpr unsigned long kValues[] = {CKR_SESSION_HANDLE_INVALID,
                                     CKR_OBJECT_HANDLE_INVALID,
                                     CKR_DEVICE_ERROR,
                                     CKR_CRYPTOKI_NOT_INITIALIZED,
                                     CKR_PIN_LOCKED,
                                     CKR_GENERAL_ERROR,
                                     CKR_ENCRYPTED_DATA_INVALID,
                                     CKR_DEVICE_MEMORY,
                                     CKR_MECHANISM_INVALID};

// Whatever a token answers: nothing good is called bad, no wrong key comes out, and once it answers
// as it should, it is used again without a restart.
TEST_P(ReturnValueFaultTest, NeverMakesGoodDataBadAndHealsWithTheToken) {
  const keyring::CmkParameters another{.alias = "other", .description = "", .id = {}};
  for (const bool every : {false, true}) {
    for (const auto value : kValues) {
      const auto line = fmt::format("{}{} return 0x{:x}\n", GetParam(), every ? "" : "@1", value);
      start();
      ASSERT_THAT(unwrap(), Succeeds()) << line;
      shared().script.set(line);
      // On a connection that is there, and on a new one.
      for (const bool anew : {false, true}) {
        if (anew) start();
        tests::use_while_it_fails(*vault_, {record_, keys_, presented_, another}, line);
        token_->health();
      }
      shared().script.clear();
      forget_pin_mark();  // As an operator would, had the PIN been refused.
      expect_well(line);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryFunction, ReturnValueFaultTest,
                         testing::Values("C_Initialize", "C_GetSlotList", "C_GetSlotInfo",
                                         "C_GetTokenInfo", "C_OpenSession", "C_Login",
                                         "C_GetMechanismList", "C_FindObjectsInit", "C_FindObjects",
                                         "C_FindObjectsFinal", "C_GetAttributeValue",
                                         "C_CreateObject", "C_DestroyObject", "C_WrapKey",
                                         "C_UnwrapKey", "C_GenerateKey", "C_SignInit", "C_Sign",
                                         "C_EncryptInit", "C_Encrypt", "C_DecryptInit", "C_Decrypt",
                                         "C_GenerateRandom", "C_CloseSession", "C_Finalize"),
                         [](const auto& function) { return std::string(function.param); });

TEST_F(TokenFaultTest, LostSessionCostsOneRepeatAndNoError) {
  for (const auto* line : {"C_DecryptInit@1 drop\n", "C_Decrypt@1 return 0xB3\n",
                           "C_DecryptInit@1 return 0x82\n", "C_DecryptInit@1 return 0x101\n"}) {
    ASSERT_THAT(unwrap(), Succeeds());
    shared().script.set(line);
    EXPECT_THAT(unwrap(), Succeeds()) << line;
  }
}

// Keys that the token is given together: each has its own repeats and its own error.
class GroupFaultTest : public TokenFaultTest {
 protected:
  void SetUp() override {
    TokenFaultTest::SetUp();
    if (IsSkipped()) return;
    while (keys_.size() < 8) {
      keys_.emplace_back();
      keys_.back().key = *SecretBytes::random(32);
      keys_.back().context = data_context();
    }
    presented_.clear();
    for (auto& one : vault_->wrap(record_, keys_, soon())) {
      ASSERT_THAT(one, Succeeds());
      presented_.push_back({*one, data_context()});
    }
  }
  void expect_all_but(const std::set<std::size_t>& bad, Reason reason) {
    const auto plain = vault_->unwrap(record_, presented_, soon());
    ASSERT_EQ(plain.size(), keys_.size());
    for (std::size_t i = 0; i < plain.size(); ++i) {
      if (bad.contains(i)) {
        EXPECT_THAT(plain[i], FailsWith(reason)) << i;
      } else {
        ASSERT_THAT(plain[i], Succeeds()) << i;
        EXPECT_TRUE(equal_constant_time(plain[i]->reveal(), keys_[i].key.reveal())) << i;
      }
    }
  }
};

TEST_F(GroupFaultTest, EachKeyIsRepeatedForItself) {
  // Sessions are lost twice, of two different keys.
  shared().script.set("C_DecryptInit@3 return 0xB3\nC_DecryptInit@6 return 0xB3\n");
  expect_all_but({}, Reason::kHsmFailed);
}

TEST_F(GroupFaultTest, OneThatFailsTakesNoOtherAlong) {
  shared().script.set("C_DecryptInit@4 return 0x31\n");
  expect_all_but({3}, Reason::kHsmBusy);
  shared().script.clear();
  presented_[2].blob.tag[0] ^= std::byte{1};
  presented_[5].blob.tag[0] ^= std::byte{1};
  expect_all_but({2, 5}, Reason::kBlobInvalid);
}

TEST_F(GroupFaultTest, NoNonceIsUsedTwiceThoughAnAttemptIsRepeated) {
  shared().script.set("C_Encrypt@4 return 0xB3\n");
  std::set<Bytes> nonces;
  for (const auto& key : presented_) nonces.insert(key.blob.nonce);
  for (const auto& one : vault_->wrap(record_, keys_, soon())) {
    ASSERT_THAT(one, Succeeds());
    nonces.insert(one->nonce);
  }
  EXPECT_EQ(nonces.size(), 2 * keys_.size());
}

TEST_F(TokenFaultTest, UnclearAnswerOnceIsRepeatedAndTwiceMeansBadData) {
  shared().script.set("C_Decrypt@1 return 0x5\n");
  EXPECT_THAT(unwrap(), Succeeds());

  shared().script.clear();
  presented_[0].blob.tag[0] ^= std::byte{1};
  EXPECT_THAT(unwrap(), FailsWith(Reason::kBlobInvalid));
}

TEST_F(TokenFaultTest, TokenThatDecryptsNothingIsNotTakenForBadData) {
  shared().script.set("C_Decrypt return 0x5\n");
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmFailed));
  presented_[0].blob.tag[0] ^= std::byte{1};
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmFailed));
}

TEST_F(TokenFaultTest, BusyTokenIsReportedAsBusy) {
  shared().script.set("C_EncryptInit return 0x31\n");
  EXPECT_THAT(wrap(), FailsWith(Reason::kHsmBusy));
  shared().script.clear();
  expect_well("busy");
}

TEST_F(TokenFaultTest, RemovedTokenIsAbsentAndUsedAgainWhenItIsBack) {
  shared().script.set("removed\n");
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmAbsent));
  EXPECT_THAT(wrap(), FailsWith(Reason::kHsmAbsent));
  EXPECT_EQ(token_->health().state, VaultState::kAbsent);
  start();
  EXPECT_EQ(token_->health().state, VaultState::kAbsent);
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmAbsent));
  shared().script.clear();
  expect_well("back");
}

TEST_F(TokenFaultTest, GeneratorThatGivesZerosMakesNoKey) {
  shared().script.set("C_GenerateRandom zero\n");
  EXPECT_THAT(vault_->random(32), FailsWith(Reason::kHsmFailed));
}

TEST_F(TokenFaultTest, WrapThatCannotBeUnwrappedMakesNoCmk) {
  shared().script.set("C_WrapKey flip\n");
  EXPECT_FALSE(vault_->create_cmk({.alias = "spoilt", .description = "", .id = {}}));
}

TEST_F(TokenFaultTest, NoValueOfAKeyIsEverAskedFor) {
  EXPECT_EQ(shared().script.logged("value asked for"), 0);
}

class PinTest : public TokenFaultTest {
 protected:
  void SetUp() override {
    TokenFaultTest::SetUp();
    if (IsSkipped()) return;
    right_ = as_text(*read_file(shared().folder.pin_file(kFailingLabel), 256));
    shared().script.set("pin-tries 3\n");
    shared().script.set_pin_tries_left(3);
  }
  void TearDown() override {
    if (!right_.empty() && !shared().folder.write_pin(kFailingLabel, right_)) FAIL();
    forget_pin_mark();
    TokenFaultTest::TearDown();
  }
  std::ptrdiff_t tries() const { return shared().script.logged("login bad"); }

  std::string right_;
};

TEST_F(PinTest, WrongPinIsTriedOnceWhateverIsAskedAndHoweverOftenItStarts) {
  const auto before = tries();
  ASSERT_THAT(shared().folder.write_pin(kFailingLabel, "not-the-pin"), Succeeds());
  for (int restart = 0; restart < 5; ++restart) {
    start();
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(token_->health().state, VaultState::kPinRefused);
      EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmPinIncorrect));
    }
  }
  EXPECT_EQ(tries() - before, 1);

  // Another credential is tried, once too; the right one heals.
  ASSERT_THAT(shared().folder.write_pin(kFailingLabel, "not-it-either"), Succeeds());
  EXPECT_EQ(token_->health().state, VaultState::kPinRefused);
  EXPECT_EQ(token_->health().state, VaultState::kPinLocked);  // One try is left: never used.
  EXPECT_EQ(tries() - before, 2);
}

TEST_F(PinTest, RightPinAfterAWrongOneIsUsedWithoutARestart) {
  ASSERT_THAT(shared().folder.write_pin(kFailingLabel, "not-the-pin"), Succeeds());
  start();
  EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmPinIncorrect));
  ASSERT_THAT(shared().folder.write_pin(kFailingLabel, right_ + "\n"), Succeeds());
  expect_well("right PIN");
}

TEST_F(PinTest, LastTryIsNeverUsedAndALockedPinNeverTried) {
  const auto before = tries();
  for (const int left : {1, 0}) {
    shared().script.set_pin_tries_left(left);
    start();
    EXPECT_EQ(token_->health().state, VaultState::kPinLocked);
    EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmPinLocked));
  }
  EXPECT_EQ(tries() - before, 0);
}

TEST_F(PinTest, PinThatWasLockedIsUsedOnceTheTokenIsResetToIt) {
  for (const auto* answer : {"C_Login return 0xA4\n", "C_Login return 0xA3\n"}) {
    shared().script.set(answer);
    start();
    EXPECT_EQ(token_->health().state, VaultState::kPinLocked) << answer;
    EXPECT_EQ(token_->health().state, VaultState::kPinLocked) << answer << "not: refused";
    // Somebody gave a wrong one since: no time to try.
    shared().script.set("pin-tries 3\n");
    shared().script.set_pin_tries_left(2);
    EXPECT_EQ(token_->health().state, VaultState::kPinRefused) << answer;
    shared().script.set_pin_tries_left(3);
    expect_well(answer);
  }
}

TEST_F(PinTest, MissingOrEmptyCredentialNeedsALogin) {
  for (const auto* content : {"", "\n"}) {
    ASSERT_THAT(shared().folder.write_pin(kFailingLabel, content), Succeeds());
    start();
    EXPECT_EQ(token_->health().state, VaultState::kLoginNeeded);
    EXPECT_THAT(unwrap(), FailsWith(Reason::kHsmLoginNeeded));
  }
  std::filesystem::remove(shared().folder.pin_file(kFailingLabel));
  start();
  EXPECT_EQ(token_->health().state, VaultState::kLoginNeeded);
}

// Not as if there were no PIN: a vault without one ends itself to be given another.
TEST_F(PinTest, MarkThatCannotBeKeptTriesNoPinAndIsAFailureOfTheStore) {
  const auto mark = shared().folder.pin_mark(kFailingLabel);
  const auto before = shared().script.logged("login good") + tries();
  ASSERT_THAT(write_file_durably(mark.string(), as_bytes("something else")), Succeeds());
  start();
  EXPECT_EQ(token_->health().state, VaultState::kFailed);
  EXPECT_THAT(unwrap(), FailsWith(Reason::kStoreDamaged));
  std::filesystem::remove(mark);
  ASSERT_TRUE(std::filesystem::create_directory(mark));  // Nothing can be read or written there.
  start();
  EXPECT_EQ(token_->health().state, VaultState::kFailed);
  EXPECT_THAT(unwrap(), FailsWith(Reason::kStoreUnavailable));
  EXPECT_EQ(shared().script.logged("login good") + tries(), before);
  std::filesystem::remove(mark);
  expect_well("mark");
}

TEST_F(PinTest, AttemptThatDiedWithItsProcessIsNotRepeatedWhenThePinWasWrong) {
  const auto before = tries();
  const auto wrong = *SecretBytes::copy_of(as_bytes("not-the-pin"));
  // What a process that was killed right after the token had judged leaves behind.
  PinMark mark(shared().folder.pin_mark(kFailingLabel).string());
  ASSERT_THAT(mark.note(wrong, PinMark::Verdict::kTried), Succeeds());
  shared().script.set_pin_tries_left(2);
  ASSERT_THAT(shared().folder.write_pin(kFailingLabel, "not-the-pin"), Succeeds());
  start();
  EXPECT_EQ(token_->health().state, VaultState::kPinRefused);
  EXPECT_EQ(tries() - before, 0);

  // The same mark without a wrong PIN on the token: the attempt never reached it.
  const auto right = *SecretBytes::copy_of(as_bytes(right_));
  ASSERT_THAT(mark.note(right, PinMark::Verdict::kTried), Succeeds());
  ASSERT_THAT(shared().folder.write_pin(kFailingLabel, right_), Succeeds());
  shared().script.set_pin_tries_left(3);
  expect_well("attempt that never reached the token");
}

}  // namespace
}  // namespace coffer::hsm

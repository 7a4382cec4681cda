// SPDX-License-Identifier: Apache-2.0
#include "hsm/pkcs11_token.h"

#include <gtest/gtest.h>

#include "hsm/token_setup.h"
#include "tests/support/result_matchers.h"
#include "tests/support/softhsm.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

class Pkcs11TokenTest : public testing::Test {
 protected:
  void SetUp() override {
    module_ = tests::softhsm_module_path();
    if (module_.empty()) GTEST_SKIP() << "SoftHSM is not installed";
    const auto made = folder_.make_token(module_, "coffer test");
    ASSERT_THAT(made, Succeeds());
    root_id_ = *made;
    token_ =
        std::make_unique<Pkcs11Token>(Pkcs11Token::Options{folder_.link(module_, "coffer test")});
  }

  tests::SoftHsmFolder folder_;
  std::string module_;
  std::string root_id_;
  std::unique_ptr<Pkcs11Token> token_;
};

TEST_F(Pkcs11TokenTest, TokenMadeBySetupIsUpAndSaysWhatItIs) {
  const auto health = token_->health();
  EXPECT_EQ(health.state, keyring::VaultState::kUp) << health.detail;
  EXPECT_EQ(health.token_label, "coffer test");
  EXPECT_EQ(health.root_id, root_id_);
  EXPECT_EQ(health.kind, keyring::TokenKind::kSoftware);
  EXPECT_EQ(health.profile, keyring::KekProfile::kAesGcm);
}

TEST_F(Pkcs11TokenTest, EqualSeedsGiveEqualKeysOnAnotherToken) {
  token_.reset();
  const auto standby = folder_.make_token(module_, "standby");
  EXPECT_EQ(standby.value(), root_id_);
  const auto seed = SecretBytes::random(kSeedBytes);
  const auto other = folder_.make_token(module_, "other", &*seed);
  EXPECT_NE(other.value(), root_id_);
}

TEST_F(Pkcs11TokenTest, ADestroyedVersionLeavesNoObjectAndNoneIsKeptAgain) {
  keyring::CmkRecord record{.id = *CmkId::random()};
  const auto made = token_->generate(record.id, 1, {});
  ASSERT_THAT(made, Succeeds());
  record.versions.push_back(
      {.number = 1, .profile = keyring::KekProfile::kAesGcm, .material = made->material});
  const auto other = token_->generate(*CmkId::random(), 1, {});
  ASSERT_THAT(other, Succeeds());
  EXPECT_EQ(token_->handles(), 2U);
  ASSERT_THAT(token_->destroy(record.id, 1), Succeeds());
  EXPECT_EQ(token_->handles(), 1U);
  // By a call that began before.
  const Bytes plain(32);
  const EncryptJob job{plain, {}};
  EXPECT_THAT(token_->encrypt({record, record.current()}, {&job, 1}).at(0), Succeeds());
  EXPECT_EQ(token_->handles(), 1U);
}

}  // namespace
}  // namespace coffer::hsm

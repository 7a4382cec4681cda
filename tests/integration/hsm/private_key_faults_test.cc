// SPDX-License-Identifier: Apache-2.0
// Private keys of a PKCS#11 token that fails: every return value class in every call that makes and
// uses them.
#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>

#include "core/crypto/ec.h"
#include "hsm/pkcs11_token.h"
#include "hsm/revision_floors.h"
#include "hsm/ruled_vault.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/integration/hsm/failing_softhsm.h"
#include "tests/integration/hsm/failing_token.h"
#include "tests/support/result_matchers.h"
#include "tests/support/softhsm.h"

namespace coffer::hsm {
namespace {

using keyring::CmkRecord;
using keyring::KeyAlgorithm;
using keyring::KeyUsage;
using keyring::Protection;
using keyring::SignScheme;
using tests::FailsWith;
using tests::kFailingLabel;
using tests::shared;
using tests::soon;
using tests::Succeeds;

constexpr keyring::KeySupport kSigns{KeyAlgorithm::kEcP256, KeyUsage::kSignVerify,
                                     Protection::kWrapped};

class PrivateKeyFaultTest : public testing::Test {
 protected:
  void SetUp() override {
    if (tests::softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
    shared().script.clear();
    start();
    const auto made = create();
    ASSERT_THAT(made, Succeeds());
    record_ = *made;
  }
  void TearDown() override {
    if (!tests::softhsm_module_path().empty()) shared().script.clear();
  }

  // A new vault on the token, as after a restart. One session for all operations: one that is not
  // given back after a failure would hold up the next for good.
  void start() {
    vault_.reset();
    token_.reset();
    auto link = shared().folder.link(tests::fault_module_path(), kFailingLabel);
    link.sessions_max = 1;
    token_ = std::make_unique<Pkcs11Token>(Pkcs11Token::Options{.link = std::move(link)});
    vault_ =
        std::make_unique<RuledVault>(RuledVault::Parts{*token_, *floors_, sink_, system_clock()});
  }

  Result<keyring::SealedRecord> create(
      std::optional<Protection> protection = Protection::kWrapped) {
    keyring::CmkParameters parameters{.alias = "signer", .description = "", .id = {}};
    parameters.algorithm = kSigns.algorithm;
    parameters.usage = kSigns.usage;
    parameters.protection = protection;
    return vault_->create_cmk(parameters);
  }
  Result<Bytes> sign(ByteView record) {
    return vault_->sign(record, SignScheme::kEcdsa, {&digest_, 1}, soon()).at(0);
  }
  bool holds(ByteView record, ByteView signature) {
    const auto half = crypto::EcPublicKey::parse(CmkRecord::decode(record)->current().public_key);
    return half && half->verify(digest_, signature).has_value();
  }

  // What stands in the token beside the objects that are kept for use: always the same.
  std::size_t others() {
    const auto all = tests::count_objects(tests::fault_module_path(), kFailingLabel);
    return all - token_->handles();
  }

  std::unique_ptr<RevisionFloors> floors_ = make_memory_floors();
  tests::FakeDekSink sink_;
  std::unique_ptr<Pkcs11Token> token_;
  std::unique_ptr<RuledVault> vault_;
  Bytes record_;
  const Bytes digest_ = Bytes(32, std::byte{0x3C});
};

constexpr unsigned long kValues[] = {CKR_SESSION_HANDLE_INVALID, CKR_KEY_HANDLE_INVALID,
                                     CKR_DEVICE_ERROR,           CKR_CRYPTOKI_NOT_INITIALIZED,
                                     CKR_GENERAL_ERROR,          CKR_WRAPPED_KEY_INVALID,
                                     CKR_DEVICE_MEMORY,          CKR_MECHANISM_INVALID};

class PrivateKeyCallTest : public PrivateKeyFaultTest,
                           public testing::WithParamInterface<const char*> {};

TEST_P(PrivateKeyCallTest, NoKeyIsHalfMadeAndNothingIsLeftInTheToken) {
  ASSERT_THAT(sign(record_), Succeeds());
  const auto before = others();
  ASSERT_GT(before, 0U);
  for (const auto* which : {"@1", "@2", ""}) {
    for (const auto value : kValues) {
      const auto line = fmt::format("{}{} return 0x{:x}\n", GetParam(), which, value);
      // On a connection that is there, and on a new one, which tries private keys anew.
      for (const bool anew : {false, true}) {
        shared().script.set(line);
        if (anew) start();
        const auto signature = sign(record_);
        if (signature) {
          EXPECT_TRUE(holds(record_, *signature)) << line;
        } else {
          tests::expect_no_blame(signature.error(), line);
        }
        const auto made = create();
        shared().script.clear();
        EXPECT_EQ(token_->health().state, keyring::VaultState::kUp) << line;
        // What was made is whole; what is kept is counted.
        if (made) {
          const auto by_new = sign(*made);
          ASSERT_THAT(by_new, Succeeds()) << line;
          EXPECT_TRUE(holds(*made, *by_new)) << line;
        }
        const auto again = sign(record_);
        ASSERT_THAT(again, Succeeds()) << line;
        EXPECT_TRUE(holds(record_, *again)) << line;
        EXPECT_EQ(others(), before) << line;
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(EveryCall, PrivateKeyCallTest,
                         testing::Values("C_GenerateKeyPair", "C_GetAttributeValue", "C_WrapKey",
                                         "C_UnwrapKey", "C_SignInit", "C_Sign",
                                         "C_GetMechanismInfo"),
                         [](const auto& function) { return std::string(function.param); });

TEST_F(PrivateKeyFaultTest, AWrappedKeyThatDoesNotComeBackMakesNone) {
  const auto before = others();
  shared().script.set("C_WrapKey flip\n");
  EXPECT_FALSE(create());
  shared().script.clear();
  EXPECT_EQ(others(), before);
}

// What could be taken out goes with its session when it cannot be destroyed.
TEST_F(PrivateKeyFaultTest, APairThatIsNotDestroyedStaysNotBehind) {
  ASSERT_THAT(token_->supports(), Succeeds());
  const auto before = others();
  shared().script.set("C_DestroyObject return 0x5\n");
  EXPECT_THAT(create(), FailsWith(Reason::kHsmFailed));
  shared().script.clear();
  EXPECT_EQ(others(), before);
  EXPECT_THAT(create(), Succeeds());
}

TEST_F(PrivateKeyFaultTest, AWrongSignatureIsGivenToNobody) {
  // The seal of the record is an HMAC, made before: it is known by now.
  ASSERT_THAT(sign(record_), Succeeds());
  shared().script.set("C_Sign flip\n");
  EXPECT_THAT(sign(record_), FailsWith(Reason::kHsmFailed));
  shared().script.set("C_Sign@1 flip\n");
  EXPECT_THAT(token_->generate(*CmkId::random(), 1, kSigns), FailsWith(Reason::kHsmFailed));
  shared().script.clear();
  EXPECT_THAT(sign(record_), Succeeds());
}

TEST_F(PrivateKeyFaultTest, ALostSessionCostsOneRepeatAndNoError) {
  for (const auto* line : {"C_SignInit@1 drop\n", "C_Sign@1 return 0xB3\n",
                           "C_SignInit@1 return 0x82\n", "C_SignInit@1 return 0x101\n"}) {
    ASSERT_THAT(sign(record_), Succeeds());
    shared().script.set(line);
    EXPECT_THAT(sign(record_), Succeeds()) << line;
  }
}

// What the token does not show, it is not asked for: keys are rooted, or refused.
TEST_F(PrivateKeyFaultTest, WithoutItsMechanismsKeysAreRooted) {
  const auto shown = [&](KeyAlgorithm algorithm) {
    const auto all = *token_->supports();
    return std::ranges::find(all, keyring::KeySupport{algorithm, KeyUsage::kSignVerify,
                                                      Protection::kWrapped}) != all.end();
  };
  // Which mechanism is hidden: that of wrapping, of EC, of one of the schemes of RSA.
  struct Case {
    const char* line;
    bool ec;
    bool rsa;
  };
  for (const auto& [line, ec, rsa] :
       {Case{"", true, true}, Case{"hide 0x210a\n", false, false},
        Case{"hide 0x1041\n", false, true}, Case{"hide 0xd\n", true, false}}) {
    shared().script.set(line);
    start();
    EXPECT_EQ(shown(KeyAlgorithm::kEcP256), ec) << line;
    EXPECT_EQ(shown(KeyAlgorithm::kRsa2048), rsa) << line;
    const auto made = create({});
    ASSERT_THAT(made, Succeeds()) << line;
    EXPECT_EQ(CmkRecord::decode(*made)->protection,
              ec ? Protection::kWrapped : Protection::kRooted);
    EXPECT_THAT(sign(*made), Succeeds()) << line;
    if (ec) continue;
    EXPECT_THAT(create(), FailsWith(Reason::kUnsupported)) << line;
  }
}

TEST_F(PrivateKeyFaultTest, NoValueOfAKeyIsEverAskedFor) {
  EXPECT_EQ(shared().script.logged("value asked for"), 0);
}

}  // namespace
}  // namespace coffer::hsm

// SPDX-License-Identifier: Apache-2.0
// Which keys of a token Coffer takes: real ones with bad attributes, planted beside good ones.
#include "hsm/token_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>

#include "core/base/files.h"
#include "hsm/pkcs11_errors.h"
#include "hsm/pkcs11_session_pool.h"
#include "hsm/pkcs11_template.h"
#include "hsm/pkcs11_token.h"
#include "hsm/token_setup.h"
#include "tests/support/result_matchers.h"
#include "tests/support/softhsm.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

// A root key as a test wants it.
struct Plan {
  bool extractable = false;
  bool sensitive = true;
  bool modifiable = false;
  bool decrypt = false;
  bool sign = false;
  bool has_template = true;
  bool template_keeps_extractable = false;  // Leaves CKA_EXTRACTABLE to the caller.
  bool template_allows_wrap = false;
  CK_KEY_TYPE type = CKK_AES;
  std::size_t size_bytes = 32;
};

class TokenKeysTest : public testing::Test {
 protected:
  static constexpr std::string_view kLabel = "hostile";

  void SetUp() override {
    if (tests::softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
    ASSERT_THAT(folder_.make_token(tests::softhsm_module_path(), kLabel), Succeeds());
    module_ = std::move(*Pkcs11Module::load(tests::softhsm_module_path(), nullptr));
    ASSERT_EQ(module_->initialize(), CKR_OK);
    Pkcs11Uri uri;
    uri.token = std::string(kLabel);
    slot_ = module_->find_token(uri)->slot;
    sessions_ = std::make_unique<SessionPool>(*module_, slot_, 1);
    ASSERT_EQ(sessions_->open(SessionPool::Access::kReadWrite), CKR_OK);
    const auto pin = read_secret_file(folder_.pin_file(kLabel), 256);
    ASSERT_EQ(module_->call(&CK_FUNCTION_LIST::C_Login, sessions_->owner(), CK_USER_TYPE{CKU_USER},
                            p11_bytes(pin->reveal()), CK_ULONG{pin->size()}),
              CKR_OK);
  }

  ObjectAccess access() { return {*module_, sessions_->owner(), mutex_}; }

  void destroy(TokenKeyRole role) {
    const auto key = find_token_key(access(), role);
    ASSERT_THAT(key, Succeeds());
    ASSERT_EQ(module_->call(&CK_FUNCTION_LIST::C_DestroyObject, sessions_->owner(), *key), CKR_OK);
  }

  CK_RV plant(TokenKeyRole role, const Plan& plan) {
    Template forced;
    forced.flag(CKA_SENSITIVE, true).flag(CKA_UNWRAP, false).flag(CKA_TOKEN, false);
    forced.flag(CKA_WRAP, plan.template_allows_wrap);
    if (!plan.template_keeps_extractable) forced.flag(CKA_EXTRACTABLE, false);

    const bool wraps = role == TokenKeyRole::kRoot || role == TokenKeyRole::kPrivate;
    const Bytes value(plan.size_bytes, std::byte{7});
    Template wanted;
    wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, plan.type);
    wanted.text(CKA_ID, token_key_id(role)).text(CKA_LABEL, token_key_label(role));
    wanted.flag(CKA_TOKEN, true).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, plan.sensitive);
    wanted.flag(CKA_EXTRACTABLE, plan.extractable).flag(CKA_MODIFIABLE, plan.modifiable);
    wanted.flag(CKA_ENCRYPT, false).flag(CKA_DECRYPT, plan.decrypt).flag(CKA_DERIVE, false);
    wanted.flag(CKA_WRAP, wraps).flag(CKA_UNWRAP, wraps);
    wanted.flag(CKA_SIGN, !wraps || plan.sign).flag(CKA_VERIFY, false);
    if (wraps && plan.has_template) wanted.nested(CKA_UNWRAP_TEMPLATE, forced);
    wanted.bytes(CKA_VALUE, value);
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    return module_->call(&CK_FUNCTION_LIST::C_CreateObject, sessions_->owner(), wanted.data(),
                         wanted.size(), &key);
  }

  tests::SoftHsmFolder folder_;
  std::unique_ptr<Pkcs11Module> module_;
  CK_SLOT_ID slot_ = 0;
  std::unique_ptr<SessionPool> sessions_;
  std::mutex mutex_;
};

TEST_F(TokenKeysTest, KeysThatSetupMadeAreSafe) {
  EXPECT_THAT(find_safe_keys(access()), Succeeds());
}

TEST_F(TokenKeysTest, GoodPlanIsTakenSoThatTheBadOnesAreRefusedForWhatIsBad) {
  destroy(TokenKeyRole::kRoot);
  ASSERT_EQ(plant(TokenKeyRole::kRoot, {}), CKR_OK);
  EXPECT_THAT(find_safe_keys(access()), Succeeds());
}

TEST_F(TokenKeysTest, EveryUnsafeRootKeyIsRefusedNamingWhatIsUnsafe) {
  struct Case {
    std::string named;
    Plan plan;
  };
  const Case cases[] = {
      {"CKA_EXTRACTABLE is not 0", {.extractable = true}},
      {"CKA_SENSITIVE is not 1", {.sensitive = false}},
      {"CKA_MODIFIABLE is not 0", {.modifiable = true}},
      {"CKA_DECRYPT is not 0", {.decrypt = true}},
      {"CKA_SIGN is not 0", {.sign = true}},
      {"CKA_UNWRAP_TEMPLATE is missing", {.has_template = false}},
      {"does not force CKA_EXTRACTABLE=0", {.template_keeps_extractable = true}},
      {"does not force CKA_WRAP=0", {.template_allows_wrap = true}},
      {"is of another type", {.type = CKK_GENERIC_SECRET}},
      {"is not 256 bits long", {.size_bytes = 16}},
  };
  for (const auto& one : cases) {
    destroy(TokenKeyRole::kRoot);
    ASSERT_EQ(plant(TokenKeyRole::kRoot, one.plan), CKR_OK) << one.named;
    const auto keys = find_safe_keys(access());
    ASSERT_THAT(keys, FailsWith(Reason::kHsmKeyUnsafe)) << one.named;
    EXPECT_NE(keys.error().message().find(one.named), std::string::npos) << keys.error().message();
  }
}

TEST_F(TokenKeysTest, UnsafeSealKeyIsRefused) {
  destroy(TokenKeyRole::kSeal);
  ASSERT_EQ(plant(TokenKeyRole::kSeal, {.extractable = true, .type = CKK_GENERIC_SECRET}), CKR_OK);
  EXPECT_THAT(find_safe_keys(access()), FailsWith(Reason::kHsmKeyUnsafe));
}

TEST_F(TokenKeysTest, KeyThatStandsThereTwiceIsRefused) {
  ASSERT_EQ(plant(TokenKeyRole::kRoot, {}), CKR_OK);
  EXPECT_THAT(find_safe_keys(access()), FailsWith(Reason::kHsmKeyUnsafe));
}

TEST_F(TokenKeysTest, TokenWithoutKeysSaysThatItWasNotSetUp) {
  destroy(TokenKeyRole::kRoot);
  EXPECT_THAT(find_safe_keys(access()), FailsWith(Reason::kNoSuchKey));
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  const auto health = token.health();
  EXPECT_EQ(health.state, keyring::VaultState::kFailed);
  EXPECT_NE(health.detail.find("coffer init"), std::string::npos) << health.detail;
}

TEST_F(TokenKeysTest, UnsafeTokenIsNotUsed) {
  destroy(TokenKeyRole::kRoot);
  ASSERT_EQ(plant(TokenKeyRole::kRoot, {.extractable = true}), CKR_OK);
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  EXPECT_THAT(token.identity(), FailsWith(Reason::kHsmKeyUnsafe));
  EXPECT_THAT(token.random(16), FailsWith(Reason::kHsmKeyUnsafe));
}

// What makes a CMK outside the token safe: the root key itself refuses to unwrap it in the clear.
TEST_F(TokenKeysTest, RootKeyUnwrapsNothingThatCouldLeaveTheToken) {
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  const auto material = token.generate(*CmkId::random(), 1, {});
  ASSERT_THAT(material, Succeeds());
  const auto root = find_token_key(access(), TokenKeyRole::kRoot);
  for (const bool extractable : {true, false}) {
    Template wanted;
    wanted.number(CKA_CLASS, CKO_SECRET_KEY).number(CKA_KEY_TYPE, CKK_AES);
    wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, !extractable);
    wanted.flag(CKA_EXTRACTABLE, extractable).flag(CKA_ENCRYPT, true).flag(CKA_DECRYPT, true);
    wanted.flag(CKA_WRAP, false).flag(CKA_UNWRAP, false);
    CK_MECHANISM mechanism{CKM_AES_KEY_WRAP, nullptr, 0};
    CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
    const CK_RV rv =
        module_->call(&CK_FUNCTION_LIST::C_UnwrapKey, sessions_->owner(), &mechanism, *root,
                      p11_bytes(material->material), CK_ULONG{material->material.size()},
                      wanted.data(), wanted.size(), &key);
    EXPECT_EQ(rv == CKR_OK, !extractable) << return_info(rv).name;
  }
}

TEST_F(TokenKeysTest, RootedKeysComeBackUnderTheirNameAlone) {
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  EXPECT_TRUE(token.keeps_rooted().value());
  for (const std::size_t size : {1U, 15U, 16U, 32U, 3072U}) {
    const auto key = SecretBytes::random(size);
    const auto closed = token.close_rooted(*key, as_bytes("name"));
    ASSERT_THAT(closed, Succeeds()) << size;
    const auto opened = token.open_rooted(*closed, as_bytes("name"));
    ASSERT_THAT(opened, Succeeds()) << size;
    EXPECT_TRUE(std::ranges::equal(opened->reveal(), key->reveal())) << size;
    EXPECT_THAT(token.open_rooted(*closed, as_bytes("nam")), FailsWith(Reason::kRecordInvalid));
  }
  const auto closed = token.close_rooted(*SecretBytes::random(32), as_bytes("name"));
  for (std::size_t i = 0; i < closed->size(); ++i) {
    Bytes changed = *closed;
    changed[i] ^= std::byte{1};
    EXPECT_THAT(token.open_rooted(changed, as_bytes("name")), FailsWith(Reason::kRecordInvalid))
        << i;
  }
}

TEST_F(TokenKeysTest, UnsafeKeyForRootedOnesIsRefused) {
  destroy(TokenKeyRole::kRooted);
  ASSERT_EQ(plant(TokenKeyRole::kRooted, {.extractable = true}), CKR_OK);
  EXPECT_THAT(find_safe_keys(access()), FailsWith(Reason::kHsmKeyUnsafe));
}

TEST_F(TokenKeysTest, TokenSetUpWithoutAKeyForRootedOnesKeepsNone) {
  destroy(TokenKeyRole::kRooted);
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  EXPECT_EQ(token.health().state, keyring::VaultState::kUp);
  const auto key = SecretBytes::random(32);
  EXPECT_THAT(token.close_rooted(*key, {}), FailsWith(Reason::kUnsupported));
  EXPECT_THAT(token.open_rooted(Bytes(97), {}), FailsWith(Reason::kUnsupported));
}

constexpr keyring::KeySupport kSigns{keyring::KeyAlgorithm::kEcP256, keyring::KeyUsage::kSignVerify,
                                     keyring::Protection::kWrapped};

bool makes(Pkcs11Token& token, const keyring::KeySupport& kind) {
  const auto all = token.supports();
  return all && std::ranges::find(*all, kind) != all->end();
}

TEST_F(TokenKeysTest, UnsafeKeyForPrivateOnesIsRefused) {
  destroy(TokenKeyRole::kPrivate);
  ASSERT_EQ(plant(TokenKeyRole::kPrivate, {.template_keeps_extractable = true}), CKR_OK);
  EXPECT_THAT(find_safe_keys(access()), FailsWith(Reason::kHsmKeyUnsafe));
}

TEST_F(TokenKeysTest, TokenSetUpWithoutAKeyForPrivateOnesMakesNone) {
  destroy(TokenKeyRole::kPrivate);
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  EXPECT_EQ(token.health().state, keyring::VaultState::kUp);
  EXPECT_FALSE(makes(token, kSigns));
  EXPECT_TRUE(makes(token, {}));
  EXPECT_THAT(token.generate(*CmkId::random(), 1, kSigns), FailsWith(Reason::kUnsupported));
}

// It shows every mechanism, and its key would let nothing out; only a trial tells that SoftHSM
// takes no private key under a template that speaks of CKA_WRAP.
TEST_F(TokenKeysTest, TokenThatDoesNotTakePrivateKeysBackMakesNone) {
  destroy(TokenKeyRole::kPrivate);
  ASSERT_EQ(plant(TokenKeyRole::kPrivate, {}), CKR_OK);
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  EXPECT_FALSE(makes(token, kSigns));
  EXPECT_TRUE(makes(token, {}));
  EXPECT_EQ(token.health().state, keyring::VaultState::kUp);
}

TEST_F(TokenKeysTest, KeyForPrivateOnesUnwrapsNothingThatCouldLeaveTheToken) {
  Pkcs11Token token({.link = folder_.link(tests::softhsm_module_path(), kLabel)});
  const auto made = token.generate(*CmkId::random(), 1, kSigns);
  ASSERT_THAT(made, Succeeds());
  const auto wrapping = find_token_key(access(), TokenKeyRole::kPrivate);
  for (const auto object_class : {CKO_PRIVATE_KEY, CKO_SECRET_KEY}) {
    const bool is_private = object_class == CKO_PRIVATE_KEY;
    for (const bool extractable : {true, false}) {
      Template wanted;
      wanted.number(CKA_CLASS, object_class);
      wanted.number(CKA_KEY_TYPE, is_private ? CKK_EC : CKK_GENERIC_SECRET);
      wanted.flag(CKA_TOKEN, false).flag(CKA_PRIVATE, true).flag(CKA_SENSITIVE, !extractable);
      wanted.flag(CKA_EXTRACTABLE, extractable).flag(CKA_SIGN, true).flag(CKA_UNWRAP, false);
      CK_MECHANISM mechanism{CKM_AES_KEY_WRAP_PAD, nullptr, 0};
      CK_OBJECT_HANDLE key = CK_INVALID_HANDLE;
      const CK_RV rv =
          module_->call(&CK_FUNCTION_LIST::C_UnwrapKey, sessions_->owner(), &mechanism, *wrapping,
                        p11_bytes(made->material), CK_ULONG{made->material.size()}, wanted.data(),
                        wanted.size(), &key);
      if (extractable) {
        EXPECT_NE(rv, CKR_OK) << is_private;
      } else if (is_private) {
        EXPECT_EQ(rv, CKR_OK) << return_info(rv).name;
      }
    }
  }
}

TEST_F(TokenKeysTest, PartOfAKeySetIsMadeAnewAndAWholeOneLeftAlone) {
  const auto pin = read_secret_file(folder_.pin_file(kLabel), 256);
  const auto seed = SecretBytes::random(kSeedBytes);
  Pkcs11Uri uri;
  uri.token = std::string(kLabel);
  const auto whole = make_token_keys(*module_, uri, *pin, &*seed);
  ASSERT_THAT(whole, Succeeds());
  EXPECT_EQ(whole->found, KeySet::kWhole);

  destroy(TokenKeyRole::kRoot);
  EXPECT_THAT(look_at_token_keys(*module_, uri, *pin), FailsWith(Reason::kNoSuchKey));
  const auto part = make_token_keys(*module_, uri, *pin, &*seed);
  ASSERT_THAT(part, Succeeds());
  EXPECT_EQ(part->found, KeySet::kPart);
  EXPECT_NE(part->root_id, whole->root_id);
  EXPECT_FALSE(part->root_never_left);
}

TEST_F(TokenKeysTest, KeysGeneratedInTheTokenNeverLeftIt) {
  const auto pin = read_secret_file(folder_.pin_file(kLabel), 256);
  Pkcs11Uri uri;
  uri.token = std::string(kLabel);
  for (const auto role : {TokenKeyRole::kRoot, TokenKeyRole::kSeal, TokenKeyRole::kWrap,
                          TokenKeyRole::kRooted, TokenKeyRole::kPrivate})
    destroy(role);
  const auto made = make_token_keys(*module_, uri, *pin, nullptr);
  ASSERT_THAT(made, Succeeds());
  EXPECT_EQ(made->found, KeySet::kNone);
  EXPECT_TRUE(made->root_never_left);
}

}  // namespace
}  // namespace coffer::hsm

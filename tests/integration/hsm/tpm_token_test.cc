// SPDX-License-Identifier: Apache-2.0
// A TPM's token behind Pkcs11Token: swtpm, tpm2-abrmd and tpm2-pkcs11, all real.
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <utility>

#include "core/base/files.h"
#include "hsm/pkcs11_token.h"
#include "hsm/token_setup.h"
#include "tests/support/result_matchers.h"
#include "tests/support/swtpm.h"

namespace coffer::hsm {
namespace {

using tests::FailsWith;
using tests::Succeeds;

constexpr std::string_view kLabel = "coffer";

// One TPM for this program, with a token that all tests may use; who wants another makes it.
tests::SwtpmFolder& tpm() {
  static tests::SwtpmFolder tpm;
  return tpm;
}

class TpmTokenTest : public testing::Test {
 protected:
  static void SetUpTestSuite() {
    static bool made = false;
    if (!tpm().problem().empty() || std::exchange(made, true)) return;
    ASSERT_THAT(tpm().make_coffer_token(kLabel), Succeeds());
  }

  void SetUp() override {
    if (!tpm().problem().empty()) GTEST_SKIP() << tpm().problem();
  }

  // Asks as `coffer init` does for a token that is there already.
  static Result<hsm::SetUp> set_up(std::string_view label, const SecretBytes* seed = nullptr) {
    auto module = Pkcs11Module::load(tests::tpm_module_path(), nullptr);
    if (!module) return tl::unexpected(module.error());
    if ((*module)->initialize() != CKR_OK) return fail(Reason::kInternal, "initialise");
    Pkcs11Uri uri;
    uri.token = std::string(label);
    const auto pin = read_secret_file(tpm().pin_file(label).string(), 64);
    if (!pin) return tl::unexpected(pin.error());
    return make_token_keys(**module, uri, *pin, seed);
  }
};

TEST_F(TpmTokenTest, KeysOfItsOwnToolAreFoundAndSafe) {
  const auto keys = set_up(kLabel);
  ASSERT_THAT(keys, Succeeds());
  EXPECT_EQ(keys->found, KeySet::kWhole);
  EXPECT_TRUE(keys->root_never_left);

  Pkcs11Token token({.link = tpm().link(kLabel)});
  const auto health = token.health();
  EXPECT_EQ(health.state, keyring::VaultState::kUp) << health.detail;
  EXPECT_EQ(health.root_id, keys->root_id);
  EXPECT_EQ(health.profile, keyring::KekProfile::kAesCbcHmac);
  EXPECT_EQ(health.maker, keyring::VaultMaker::kTpm2);
}

// It says that it is hardware; Coffer does not say so after it.
TEST_F(TpmTokenTest, SoftwareTpmIsShownAsSoftware) {
  Pkcs11Token token({.link = tpm().link(kLabel)});
  const auto identity = token.identity();
  ASSERT_THAT(identity, Succeeds());
  EXPECT_EQ(identity->kind, keyring::TokenKind::kSoftware);
}

TEST_F(TpmTokenTest, LongAndShortMessagesHaveMacs) {
  Pkcs11Token token({.link = tpm().link(kLabel)});
  const Bytes message(20'000, std::byte{5});
  const auto mac = [&](MacKey key, std::size_t bytes) {
    const auto out = token.mac(key, ByteView(message).first(bytes));
    EXPECT_THAT(out, Succeeds());
    return out.value_or(Mac{});
  };
  const auto all = mac(MacKey::kSeal, 20'000);
  EXPECT_EQ(mac(MacKey::kSeal, 20'000), all);
  EXPECT_NE(mac(MacKey::kWrap, 20'000), all);
  EXPECT_NE(mac(MacKey::kSeal, 19'999), all);
  EXPECT_NE(mac(MacKey::kSeal, 0), all);
}

TEST_F(TpmTokenTest, MissingKeyIsNamedAndTheOthersAreLeftAlone) {
  ASSERT_THAT(tpm().make_token("incomplete"), Succeeds());
  ASSERT_THAT(tpm().add_key("incomplete", TokenKeyRole::kSeal, "hmac:sha256"), Succeeds());
  ASSERT_THAT(tpm().add_key("incomplete", TokenKeyRole::kRoot, "aes256"), Succeeds());
  const auto seed = SecretBytes::random(kSeedBytes);
  const auto keys = set_up("incomplete", &*seed);
  ASSERT_THAT(keys, FailsWith(Reason::kUnsupported));
  EXPECT_NE(keys.error().message().find("coffer wrap-hmac"), std::string::npos);

  ASSERT_THAT(tpm().add_key("incomplete", TokenKeyRole::kWrap, "hmac:sha256"), Succeeds());
  EXPECT_THAT(set_up("incomplete"), Succeeds());
}

TEST_F(TpmTokenTest, KeyOfAnotherKindIsRefused) {
  ASSERT_THAT(tpm().make_token("weak"), Succeeds());
  ASSERT_THAT(tpm().add_key("weak", TokenKeyRole::kSeal, "hmac:sha256"), Succeeds());
  ASSERT_THAT(tpm().add_key("weak", TokenKeyRole::kWrap, "hmac:sha256"), Succeeds());
  ASSERT_THAT(tpm().add_key("weak", TokenKeyRole::kRoot, "aes128"), Succeeds());
  const auto keys = set_up("weak");
  ASSERT_THAT(keys, FailsWith(Reason::kHsmKeyUnsafe));
  EXPECT_NE(keys.error().message().find("256 bits"), std::string::npos) << keys.error().message();
}

TEST_F(TpmTokenTest, WrongPinIsGivenOnceAsTheTpmCountsThem) {
  const auto right = read_file(tpm().pin_file(kLabel).string(), 64);
  ASSERT_THAT(right, Succeeds());
  ASSERT_THAT(write_file_durably(tpm().pin_file(kLabel).string(), as_bytes("wrong")), Succeeds());
  Pkcs11Token token({.link = tpm().link(kLabel)});
  // Three wrong ones would lock the whole TPM.
  for (int i = 0; i < 5; ++i)
    EXPECT_EQ(token.health().state, keyring::VaultState::kPinRefused) << token.health().detail;
  ASSERT_THAT(write_file_durably(tpm().pin_file(kLabel).string(), *right), Succeeds());
  EXPECT_EQ(token.health().state, keyring::VaultState::kUp) << token.health().detail;
}

TEST_F(TpmTokenTest, BrokerThatWentAwayAndCameBackIsFoundAgain) {
  Pkcs11Token token({.link = tpm().link(kLabel)});
  const auto before = token.mac(MacKey::kSeal, as_bytes("text"));
  ASSERT_THAT(before, Succeeds());
  tpm().stop_broker();
  EXPECT_THAT(token.mac(MacKey::kSeal, as_bytes("text")), FailsWith(Reason::kHsmFailed));
  EXPECT_FALSE(token.connected());
  ASSERT_THAT(tpm().start_broker(), Succeeds());
  const auto after = token.mac(MacKey::kSeal, as_bytes("text"));
  ASSERT_THAT(after, Succeeds());
  EXPECT_EQ(*after, *before);
}

class RootedBytesTest : public TpmTokenTest {
 protected:
  void SetUp() override {
    TpmTokenTest::SetUp();
    if (IsSkipped()) return;
    token_ = std::make_unique<Pkcs11Token>(Pkcs11Token::Options{.link = tpm().link(kLabel)});
  }

  static SecretBytes key_of(std::size_t size_bytes) {
    auto key = SecretBytes::zeroed(size_bytes);
    std::ranges::fill(key->reveal_mutable(), std::byte{16});  // As padding would be.
    return std::move(*key);
  }

  std::unique_ptr<Pkcs11Token> token_;
};

TEST_F(RootedBytesTest, KeysOfEveryLengthComeBack) {
  const auto aad = as_bytes("this key");
  for (const std::size_t size : {1U, 15U, 16U, 17U, 32U, 1024U, 2400U, 3072U}) {
    const auto key = key_of(size);
    const auto closed = token_->close_rooted(key, aad);
    ASSERT_THAT(closed, Succeeds()) << size;
    EXPECT_EQ(closed->size(), 1 + 16 + (size / 16 + 1) * 16 + 32);
    const auto again = token_->close_rooted(key, aad);
    ASSERT_THAT(again, Succeeds());
    EXPECT_NE(*closed, *again);  // Another vector.
    const auto back = token_->open_rooted(*closed, aad);
    ASSERT_THAT(back, Succeeds()) << size;
    EXPECT_TRUE(equal_constant_time(back->reveal(), key.reveal())) << size;
  }
}

TEST_F(RootedBytesTest, KeyThatIsEmptyOrTooLongIsNotClosed) {
  EXPECT_THAT(token_->close_rooted(SecretBytes(), {}), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(token_->close_rooted(key_of(3073), {}), FailsWith(Reason::kInvalidArgs));
}

TEST_F(RootedBytesTest, ChangeOfAnyByteOrOfTheAadIsRefused) {
  const auto aad = as_bytes("this key");
  const auto closed = token_->close_rooted(key_of(32), aad);
  ASSERT_THAT(closed, Succeeds());
  for (std::size_t i = 0; i < closed->size(); ++i) {
    Bytes changed = *closed;
    changed[i] ^= std::byte{1};
    EXPECT_THAT(token_->open_rooted(changed, aad), FailsWith(Reason::kRecordInvalid)) << i;
  }
  EXPECT_THAT(token_->open_rooted(*closed, as_bytes("that key")),
              FailsWith(Reason::kRecordInvalid));
  EXPECT_THAT(token_->open_rooted(*closed, {}), FailsWith(Reason::kRecordInvalid));
  for (const std::size_t size : {0U, 64U, 65U, 81U, 96U})
    EXPECT_THAT(token_->open_rooted(ByteView(*closed).first(size), aad),
                FailsWith(Reason::kRecordInvalid));
  EXPECT_THAT(token_->open_rooted(Bytes(3137 + 16, std::byte{1}), aad),
              FailsWith(Reason::kRecordInvalid));
  EXPECT_THAT(token_->open_rooted(*closed, aad), Succeeds());
}

}  // namespace
}  // namespace coffer::hsm

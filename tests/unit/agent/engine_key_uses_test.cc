// SPDX-License-Identifier: Apache-2.0
// What callers of the engine use keys for.
#include <gmock/gmock.h>

#include "core/base/sealed_secret.h"
#include "core/crypto/digest.h"
#include "core/crypto/ec.h"
#include "core/crypto/rsa.h"
#include "tests/unit/agent/engine_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CallerBlob;
using keyring::CmkChange;

class EngineKeyUsesTest : public EngineFixture {
 protected:
  // Waits for what `start` hands to its callback.
  template <class T>
  Result<T> wait_for(const std::function<void(agent::Engine::Done<T>)>& start) {
    std::optional<Result<T>> ended;
    start([&](Result<T> done) { ended.emplace(std::move(done)); });
    run_until([&] { return ended.has_value(); });
    return std::move(*ended);
  }

  CmkId create(keyring::KeyAlgorithm algorithm, keyring::KeyUsage usage) {
    keyring::CmkParameters parameters;
    parameters.alias = "key-" + std::to_string(++created_);
    parameters.algorithm = algorithm;
    parameters.usage = usage;
    if (!keyring::is_symmetric(algorithm)) parameters.protection = keyring::Protection::kRooted;
    const auto made = wait_for<agent::KeyInfo>(
        [&](auto done) { engine->create_key(parameters, admin(), std::move(done)); });
    EXPECT_THAT(made, Succeeds());
    return made->record.id;
  }
  Result<CallerBlob> encrypt(const CmkId& id, std::string_view text,
                             const std::string& application = "") {
    const auto blob = wait_for<Bytes>([&](auto done) {
      engine->encrypt(id, *seal_secret(*SecretBytes::copy_of(as_bytes(text))), application, admin(),
                      std::move(done));
    });
    if (!blob) return tl::unexpected(blob.error());
    return CallerBlob::decode(*blob);
  }
  Result<std::string> decrypt(const CallerBlob& blob, const std::string& application = "") {
    const auto plain = wait_for<SecretBytes>(
        [&](auto done) { engine->decrypt(blob, application, admin(), std::move(done)); });
    if (!plain) return tl::unexpected(plain.error());
    return std::string(as_text(plain->reveal()));
  }
  Result<agent::Reencrypted> reencrypt(const CallerBlob& blob, const CmkId& to,
                                       const std::string& then = "") {
    return wait_for<agent::Reencrypted>(
        [&](auto done) { engine->reencrypt(blob, "", to, then, admin(), std::move(done)); });
  }

 private:
  int created_ = 0;
};

TEST_F(EngineKeyUsesTest, DataOfACallerOpenUnderTheirContext) {
  const auto blob = encrypt(key_id(), "the password", R"({"app":"db"})");
  ASSERT_THAT(blob, Succeeds());
  EXPECT_EQ(*decrypt(*blob, R"({"app":"db"})"), "the password");
  EXPECT_THAT(decrypt(*blob), FailsWith(Reason::kBlobInvalid));
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "key.unwrap"), 2U);
  EXPECT_THAT(encrypt(*CmkId::random(), "text"), FailsWith(Reason::kNoSuchKey));
}

TEST_F(EngineKeyUsesTest, AnArchivedKeyDecryptsAndADisabledOneDoesNot) {
  const auto blob = encrypt(key_id(), "old");
  ASSERT_THAT(change_key(key_id(), CmkChange::kArchive), Succeeds());
  EXPECT_THAT(encrypt(key_id(), "new"), FailsWith(Reason::kKeyArchived));
  EXPECT_EQ(*decrypt(*blob), "old");
  ASSERT_THAT(change_key(key_id(), CmkChange::kCancelArchive), Succeeds());
  ASSERT_THAT(change_key(key_id(), CmkChange::kDisable), Succeeds());
  EXPECT_THAT(encrypt(key_id(), "new"), FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(decrypt(*blob), FailsWith(Reason::kKeyDisabled));
}

TEST_F(EngineKeyUsesTest, DataAreEncryptedAnewWithoutBeingShown) {
  const auto blob = encrypt(key_id(), "moved");
  const auto same = reencrypt(*blob, key_id());
  ASSERT_THAT(same, Succeeds());
  EXPECT_FALSE(same->changed);
  EXPECT_EQ(same->blob, blob->encode());
  EXPECT_EQ(audit.count(audit::Kind::kIntent, "key.unwrap"), 1U) << "it was opened to know";
  auto damaged = *blob;
  damaged.wrapped.ciphertext.front() ^= std::byte{1};
  EXPECT_THAT(reencrypt(damaged, key_id()), FailsWith(Reason::kBlobInvalid));

  ASSERT_THAT(change_key(key_id(), CmkChange::kRotate), Succeeds());
  const auto newer = CallerBlob::decode(reencrypt(*blob, key_id())->blob);
  EXPECT_EQ(newer->wrapped.cmk_version, 2U);
  const CmkId other = create(keyring::KeyAlgorithm::kAes256, keyring::KeyUsage::kEncryptDecrypt);
  const auto moved = reencrypt(*newer, other, R"({"new":"context"})");
  ASSERT_THAT(moved, Succeeds());
  EXPECT_TRUE(moved->changed);
  const auto there = CallerBlob::decode(moved->blob);
  EXPECT_EQ(there->wrapped.cmk, other);
  EXPECT_EQ(*decrypt(*there, R"({"new":"context"})"), "moved");
}

TEST_F(EngineKeyUsesTest, ADataKeyIsGivenPlainAndEncrypted) {
  const auto made = wait_for<agent::NewDataKey>(
      [&](auto done) { engine->make_data_key(key_id(), 32, "", admin(), std::move(done)); });
  ASSERT_THAT(made, Succeeds());
  EXPECT_EQ(made->plain.size(), 32U);
  const auto blob = CallerBlob::decode(made->blob);
  EXPECT_EQ(blob->purpose, keyring::Purpose::kEnvelopeData);
  EXPECT_EQ(*decrypt(*blob), as_text(made->plain.reveal()));
}

TEST_F(EngineKeyUsesTest, PrivateKeysSignAndDecrypt) {
  const CmkId signer = create(keyring::KeyAlgorithm::kEcP256, keyring::KeyUsage::kSignVerify);
  const auto digest = crypto::sha256(as_bytes("message"));
  const auto sign = [&](const CmkId& id, const Bytes& what) {
    return wait_for<Bytes>([&](auto done) {
      engine->sign(id, keyring::SignScheme::kEcdsa, what, admin(), std::move(done));
    });
  };
  const auto signature = sign(signer, Bytes(digest.begin(), digest.end()));
  ASSERT_THAT(signature, Succeeds());
  const auto public_key =
      crypto::EcPublicKey::parse(engine->key(signer.str())->record.current().public_key);
  EXPECT_THAT(public_key->verify(digest, *signature), Succeeds());
  EXPECT_THAT(sign(signer, Bytes(5)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(sign(key_id(), Bytes(32)), FailsWith(Reason::kKeyUsage));

  const CmkId opener =
      create(keyring::KeyAlgorithm::kRsa2048, keyring::KeyUsage::kAsymmetricDecrypt);
  const auto to =
      crypto::RsaPublicKey::parse(engine->key(opener.str())->record.current().public_key);
  const auto open = [&](const Bytes& ciphertext) {
    return wait_for<SecretBytes>([&](auto done) {
      engine->decrypt_asymmetric(opener, keyring::DecryptScheme::kRsaOaepSha256, ciphertext,
                                 admin(), std::move(done));
    });
  };
  const auto plain = open(*to->encrypt(crypto::kOaepSha256, as_bytes("for you")));
  ASSERT_THAT(plain, Succeeds());
  EXPECT_EQ(as_text(plain->reveal()), "for you");
  EXPECT_THAT(open(Bytes(256, std::byte{1})), FailsWith(Reason::kBlobInvalid));
}

// All that a key can be used for, each with arguments that are right.
class EngineAllUsesTest : public EngineKeyUsesTest {
 protected:
  struct Use {
    const char* name;
    const char* audited;
    std::function<Result<void>()> run;
  };

  void SetUp() override {
    EngineKeyUsesTest::SetUp();
    signer_ = create(keyring::KeyAlgorithm::kEcP256, keyring::KeyUsage::kSignVerify);
    opener_ = create(keyring::KeyAlgorithm::kRsa2048, keyring::KeyUsage::kAsymmetricDecrypt);
    const auto to =
        crypto::RsaPublicKey::parse(engine->key(opener_.str())->record.current().public_key);
    ciphertext_ = *to->encrypt(crypto::kOaepSha256, as_bytes(kSecret));
    blob_ = *encrypt(key_id(), kSecret);
    uses_ = {{"encrypt", "key.wrap", [this] { return ended(encrypt(key_id(), kSecret)); }},
             {"decrypt", "key.unwrap", [this] { return ended(decrypt(*blob_)); }},
             {"data key", "key.wrap",
              [this] {
                return ended(wait_for<agent::NewDataKey>([&](auto done) {
                  engine->make_data_key(key_id(), 32, "", admin(), std::move(done));
                }));
              }},
             {"reencrypt", "key.rewrap",
              [this] { return ended(reencrypt(*blob_, key_id(), R"({"a":"b"})")); }},
             {"sign", "key.sign",
              [this] {
                return ended(wait_for<Bytes>([&](auto done) {
                  engine->sign(signer_, keyring::SignScheme::kEcdsa, Bytes(32), admin(),
                               std::move(done));
                }));
              }},
             {"decrypt with a private key", "key.decrypt", [this] {
                return ended(wait_for<SecretBytes>([&](auto done) {
                  engine->decrypt_asymmetric(opener_, keyring::DecryptScheme::kRsaOaepSha256,
                                             ciphertext_, admin(), std::move(done));
                }));
              }}};
  }
  template <class T>
  static Result<void> ended(const Result<T>& result) {
    if (!result) return tl::unexpected(result.error());
    return {};
  }

  static constexpr const char* kSecret = "correct horse battery staple";
  CmkId signer_{Uuid()};
  CmkId opener_{Uuid()};
  Bytes ciphertext_;
  std::optional<CallerBlob> blob_;
  std::vector<Use> uses_;
};

TEST_F(EngineAllUsesTest, NothingIsUsedWithoutARecord) {
  for (const Use& use : uses_) {
    SCOPED_TRACE(use.name);
    ASSERT_THAT(use.run(), Succeeds());
    for (const auto kind : {audit::Kind::kIntent, audit::Kind::kResult}) {
      const int calls = vault->calls();
      const auto recorded = audit.count(audit::Kind::kIntent, use.audited);
      audit.fail_when([&](const audit::Event& event) {
        return event.kind == kind && event.operation == use.audited;
      });
      EXPECT_THAT(use.run(), FailsWith(Reason::kAuditUnavailable));
      audit.succeed_again();
      const bool was_intended = kind == audit::Kind::kResult;
      EXPECT_EQ(audit.count(audit::Kind::kIntent, use.audited) > recorded, was_intended);
      EXPECT_EQ(vault->calls() > calls, was_intended) << "the token is not even asked";
    }
  }
}

TEST_F(EngineAllUsesTest, NoPlaintextStandsInTheTrailOrTheLog) {
  for (const Use& use : uses_) {
    EXPECT_THAT(use.run(), Succeeds()) << use.name;
    vault->go_away();
    EXPECT_FALSE(use.run()) << use.name;
    vault->come_back();
  }
  CallerBlob damaged = *blob_;
  damaged.wrapped.ciphertext.front() ^= std::byte{1};
  EXPECT_THAT(decrypt(damaged), FailsWith(Reason::kBlobInvalid));
  std::string all;
  for (const auto& event : audit.events()) all += event.text + event.outcome + "\n";
  for (const auto& entry : printed) all += entry.message + "\n";
  EXPECT_NE(all.find("1 of 1 keys"), std::string::npos) << "it is what was recorded";
  EXPECT_EQ(all.find(kSecret), std::string::npos);
}

}  // namespace
}  // namespace coffer::tests

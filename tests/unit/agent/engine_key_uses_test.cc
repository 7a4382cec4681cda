// SPDX-License-Identifier: Apache-2.0
// What callers of the engine use keys for.
#include <gmock/gmock.h>

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
      engine->encrypt(id, *SecretBytes::copy_of(as_bytes(text)), application, admin(),
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

TEST_F(EngineKeyUsesTest, NothingIsUsedWithoutARecord) {
  audit.fail_always();
  EXPECT_THAT(encrypt(key_id(), "text"), FailsWith(Reason::kAuditUnavailable));
  vault->go_away();
  audit.fail_next();
  EXPECT_THAT(encrypt(key_id(), "text"), FailsWith(Reason::kAuditUnavailable));
  EXPECT_THAT(encrypt(key_id(), "text"), FailsWith(Reason::kHsmAbsent));
}

}  // namespace
}  // namespace coffer::tests

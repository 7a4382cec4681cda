// SPDX-License-Identifier: Apache-2.0
// What keys are used for by the methods of Keyring and Key, and each error that their XML names.
#include <fcntl.h>

#include <algorithm>

#include "core/base/encoding.h"
#include "core/keyring/caller_blob.h"
#include "tests/integration/dbus/bus_tap.h"
#include "tests/integration/dbus/keys_fixture.h"

namespace coffer::tests {
namespace {

using keyring::CallerBlob;
using testing::Contains;
using testing::ElementsAre;

TEST_F(KeysTest, WhatWasEncryptedIsDecryptedUnderItsContext) {
  const auto encrypted = encrypt("the password", "a");
  ASSERT_TRUE(encrypted.ok()) << encrypted.error << encrypted.text;
  const Bytes blob = bytes_of(encrypted.message.get());
  const auto decrypted = decrypt(blob, "a");
  ASSERT_TRUE(decrypted.ok()) << decrypted.error << decrypted.text;
  EXPECT_EQ(secret_of(decrypted.message.get()), "the password");
  const char* key = nullptr;
  ::sd_bus_message_read_basic(decrypted.message.get(), 'o', static_cast<void*>(&key));
  EXPECT_EQ(key, path);

  EXPECT_EQ(decrypt(blob, "b").error, ours("BlobInvalid"));
  EXPECT_EQ(decrypt(Bytes(10)).error, ours("BlobInvalid"));
  EXPECT_EQ(decrypt(Bytes(10'000)).error, ours("LimitsExceeded"));
  auto foreign = *CallerBlob::decode(blob);
  foreign.wrapped.cmk = *CmkId::random();
  EXPECT_EQ(decrypt(foreign.encode(), "a").error, ours("NoSuchKey"));
  expect_errors([&] { return decrypt(blob, "a"); }, {Reason::kKeyDisabled, Reason::kHsmTimeout});
  expect_errors([&] { return encrypt("text"); },
                {Reason::kKeyUsage, Reason::kKeyDisabled, Reason::kKeyArchived,
                 Reason::kKeyExhausted, Reason::kKeyPendingDeletion});
}

TEST_F(KeysTest, APlaintextComesInASealedFileOf4096BytesAtMost) {
  EXPECT_TRUE(encrypt(std::string(4096, 'x')).ok());
  EXPECT_EQ(encrypt(std::string(4097, 'x')).error, kInvalidArgs);
  const UniqueFd file(::open("/dev/zero", O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(encrypt_fd(file.get()).error, kInvalidArgs);
  EXPECT_EQ(encrypt("text", std::string(1025, 'x')).error, ours("LimitsExceeded"));
  EXPECT_THAT(engine->effects(), ElementsAre("key.encrypt 4096 bytes"));
}

class KeySecretsTest : public KeysTest {
 protected:
  void SetUp() override {
    service_options.on_event = [this](const std::string& text) { events_ += text + "\n"; };
    KeysTest::SetUp();
    if (IsSkipped()) return;
    tap_ = std::make_unique<BusTap>(bus_.address());
    ASSERT_EQ(tap_->problem(), "");
  }

  // What went over the bus up to now: nothing of it is still under way.
  const std::string& on_the_bus() {
    const std::string marker = "marker-" + std::to_string(++markers_);
    on_keyring("GetKey", [&](auto* m) { return ::sd_bus_message_append(m, "s", marker.c_str()); });
    // It stands in the call and in the answer's text.
    const auto both = [&] {
      const auto first = tap_->bytes().find(marker);
      return first != std::string::npos &&
             tap_->bytes().find(marker, first + 1) != std::string::npos;
    };
    EXPECT_TRUE(run_until(*loop, both));
    return tap_->bytes();
  }
  bool stands_nowhere(const std::string& secret) {
    return on_the_bus().find(secret) == std::string::npos &&
           events_.find(secret) == std::string::npos;
  }
  Answer data_key() {
    return on_key("GenerateDataKey", [](sd_bus_message* m) {
      int r = ::sd_bus_message_append(m, "u", 32U);
      if (r >= 0) r = append_context(m, "");
      return r < 0 ? r : no_options(m);
    });
  }
  Answer decrypt_asymmetric(const Bytes& ciphertext) {
    return on_key("DecryptAsymmetric", [&](sd_bus_message* m) {
      const int r = append_blob(m, ciphertext);
      return r < 0 ? r : no_options(m);
    });
  }

  const std::string secret_ = "correct horse battery staple";

 private:
  std::unique_ptr<BusTap> tap_;
  std::string events_;
  int markers_ = 0;
};

TEST_F(KeySecretsTest, NoPlaintextStandsInAMessage) {
  const auto encrypted = encrypt(secret_);
  ASSERT_TRUE(encrypted.ok());
  const Bytes blob = bytes_of(encrypted.message.get());
  const auto decrypted = decrypt(blob);
  ASSERT_TRUE(decrypted.ok());
  EXPECT_EQ(secret_of(decrypted.message.get()), secret_);
  // What does stand there is seen.
  EXPECT_FALSE(stands_nowhere(std::string(as_text(blob))));
  EXPECT_FALSE(stands_nowhere("GetKey"));
  EXPECT_TRUE(stands_nowhere(secret_));

  const auto made = data_key();
  ASSERT_TRUE(made.ok());
  const std::string drawn = secret_of(made.message.get());
  ASSERT_EQ(drawn.size(), 32U);
  EXPECT_TRUE(stands_nowhere(drawn));

  path = create("opener", [](sd_bus_message* m) {
           return ::sd_bus_message_append(m, "a{sv}", 2, "algorithm", "s", "RSA-2048", "usage", "s",
                                          "asymmetric-decrypt");
         }).path();
  Bytes turned(256, std::byte{'.'});  // The simulated key gives what it is given, from its end.
  std::ranges::copy(as_bytes(secret_), turned.rbegin());
  const auto opened = decrypt_asymmetric(turned);
  ASSERT_TRUE(opened.ok());
  EXPECT_TRUE(secret_of(opened.message.get()).starts_with(secret_));
  EXPECT_TRUE(stands_nowhere(secret_));
}

TEST_F(KeySecretsTest, NoPlaintextStandsInAnErrorOrASignal) {
  admin->listen(dbus::kAuditInterface);
  const Bytes blob = bytes_of(encrypt(secret_).message.get());
  for (const Reason reason :
       {Reason::kKeyDisabled, Reason::kBlobInvalid, Reason::kLimitsExceeded}) {
    for (const auto& use : std::vector<std::function<Answer()>>{
             [&] { return encrypt(secret_); }, [&] { return decrypt(blob); },
             [&] { return data_key(); }, [&] { return decrypt_asymmetric(Bytes(256)); }}) {
      engine->fail_next(Error(reason, "as the test asked"));
      EXPECT_EQ(use().error, dbus_error_name(reason));
    }
  }
  EXPECT_EQ(decrypt(blob, "another context").error, ours("BlobInvalid"));
  EXPECT_EQ(encrypt(secret_ + std::string(4096, 'x')).error, kInvalidArgs);
  EXPECT_TRUE(run_until(*loop, [&] {
    return std::ranges::any_of(admin->heard(),
                               [](const auto& signal) { return signal.starts_with("Recorded"); });
  })) << "signals went out, too";
  EXPECT_FALSE(stands_nowhere("as the test asked"));
  EXPECT_TRUE(stands_nowhere(secret_));
}

TEST_F(KeysTest, ADataKeyIsGivenPlainAndEncrypted) {
  const auto make = [&](std::uint32_t size) {
    return on_key("GenerateDataKey", [&](sd_bus_message* m) {
      int r = ::sd_bus_message_append(m, "u", size);
      if (r >= 0) r = append_context(m, "");
      return r < 0 ? r : no_options(m);
    });
  };
  const auto made = make(32);
  ASSERT_TRUE(made.ok()) << made.text;
  const std::string plain = secret_of(made.message.get());
  EXPECT_EQ(plain.size(), 32U);
  EXPECT_EQ(secret_of(decrypt(bytes_of(made.message.get())).message.get()), plain);
  for (const std::uint32_t size : {0U, 15U, 1025U}) EXPECT_EQ(make(size).error, kInvalidArgs);
  expect_errors([&] { return make(16); }, {Reason::kKeyUsage, Reason::kKeyExhausted});
}

TEST_F(KeysTest, DataAreEncryptedAnewUnderAnotherKeyAndContext) {
  const CmkId other = engine->add_key("other");
  const Bytes blob = bytes_of(encrypt("moved", "a").message.get());
  const auto reencrypt = [&](const std::string& to, const std::string& then) {
    return on_keyring("ReEncrypt", [&](sd_bus_message* m) {
      int r = append_blob(m, blob);
      if (r >= 0) r = append_context(m, "a");
      if (r >= 0) r = ::sd_bus_message_append(m, "s", to.c_str());
      if (r >= 0) r = append_context(m, then);
      return r < 0 ? r : no_options(m);
    });
  };
  const auto same = reencrypt("", "a");
  ASSERT_TRUE(same.ok()) << same.text;
  EXPECT_EQ(bytes_of(same.message.get()), blob);
  const auto moved = reencrypt("other", "b");
  ASSERT_TRUE(moved.ok()) << moved.text;
  const Bytes there = bytes_of(moved.message.get());
  int changed = 0;
  ::sd_bus_message_read_basic(moved.message.get(), 'b', &changed);
  EXPECT_EQ(changed, 1);
  EXPECT_EQ(CallerBlob::decode(there)->wrapped.cmk, other);
  EXPECT_EQ(secret_of(decrypt(there, "b").message.get()), "moved");
  EXPECT_EQ(reencrypt("none", "a").error, ours("NoSuchKey"));
  expect_errors([&] { return reencrypt("other", "a"); },
                {Reason::kBlobInvalid, Reason::kKeyArchived});
}

TEST_F(KeysTest, PrivateKeysSignAndDecrypt) {
  const auto call = [&](const char* method, const Bytes& bytes, const BusClient::Fill& options) {
    return on_key(method, [&](sd_bus_message* m) {
      const int r = append_blob(m, bytes);
      return r < 0 ? r : options(m);
    });
  };
  path = create("signer", text("algorithm", "EC-P256")).path();
  const Bytes digest = *from_hex("0102");
  const auto signature = call("Sign", digest, no_options);
  ASSERT_TRUE(signature.ok()) << signature.text;
  EXPECT_EQ(bytes_of(signature.message.get()), *from_hex("0201"));
  EXPECT_THAT(engine->effects(), Contains("key.sign ecdsa"));
  EXPECT_EQ(call("Sign", digest, text("scheme", "ink")).error, kInvalidArgs);
  EXPECT_EQ(call("Sign", Bytes(65), no_options).error, ours("LimitsExceeded"));
  expect_errors([&] { return call("Sign", digest, no_options); },
                {Reason::kKeyUsage, Reason::kInvalidArgs, Reason::kKeyDisabled});

  path = create("opener", [](sd_bus_message* m) {
           return ::sd_bus_message_append(m, "a{sv}", 2, "algorithm", "s", "RSA-2048", "usage", "s",
                                          "asymmetric-decrypt");
         }).path();
  const Bytes ciphertext(256, std::byte{'x'});
  const auto opened = call("DecryptAsymmetric", ciphertext, text("scheme", "rsa-pkcs1"));
  ASSERT_TRUE(opened.ok()) << opened.text;
  EXPECT_EQ(secret_of(opened.message.get()), std::string(256, 'x'));
  EXPECT_THAT(engine->effects(), Contains("key.decrypt rsa-pkcs1"));
  EXPECT_EQ(call("DecryptAsymmetric", ciphertext, text("scheme", "ink")).error, kInvalidArgs);
  expect_errors([&] { return call("DecryptAsymmetric", ciphertext, no_options); },
                {Reason::kKeyUsage, Reason::kBlobInvalid});
}

}  // namespace
}  // namespace coffer::tests

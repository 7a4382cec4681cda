// SPDX-License-Identifier: Apache-2.0
#include "hsm/rooted_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <utility>

#include "core/crypto/ec.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using keyring::CmkRecord;
using keyring::KeyAlgorithm;
using keyring::KeySupport;
using keyring::KeyUsage;
using keyring::Protection;
using tests::FailsWith;
using tests::Succeeds;

// A token that keeps what it closes, and counts how often it is asked to open it.
class ClosingToken final : public VaultToken {
 public:
  Result<Identity> identity() override { return Identity{}; }
  Result<std::vector<KeySupport>> supports() override { return std::vector<KeySupport>(); }
  Result<Mac> mac(MacKey, ByteView) override { return Mac{}; }
  Result<NewKey> generate(const CmkId&, std::uint32_t, const KeySupport&) override {
    return NewKey{};
  }
  std::vector<Result<Ciphertext>> encrypt(const TokenKey&, std::span<const EncryptJob>) override {
    return {};
  }
  std::vector<Result<SecretBytes>> decrypt(const TokenKey&, std::span<const DecryptJob>) override {
    return {};
  }
  Result<bool> keeps_rooted() override { return true; }
  Result<Bytes> close_rooted(const SecretBytes& key, ByteView aad) override {
    auto kept = SecretBytes::copy_of(key.reveal());
    if (!kept) return tl::unexpected(kept.error());
    closed_.push_back({std::move(*kept), Bytes(aad.begin(), aad.end())});
    return ByteWriter().u32(static_cast<std::uint32_t>(closed_.size() - 1)).take();
  }
  Result<SecretBytes> open_rooted(ByteView material, ByteView aad) override {
    ++opened;
    if (const auto hook = std::exchange(while_opening, nullptr)) hook();
    ByteReader in(material);
    const std::uint32_t index = in.u32();
    if (index >= closed_.size() || !std::ranges::equal(closed_[index].aad, aad)) {
      return fail(Reason::kRecordInvalid, "not closed here, or not so");
    }
    return SecretBytes::copy_of(closed_[index].key.reveal());
  }
  Result<SecretBytes> random(std::size_t size_bytes) override {
    return SecretBytes::random(size_bytes);
  }
  keyring::VaultHealth health() override { return {}; }

  int opened = 0;
  std::function<void()> while_opening;  // Once.

 private:
  struct Closed {
    SecretBytes key;
    Bytes aad;
  };
  std::vector<Closed> closed_;
};

class RootedKeysTest : public testing::Test {
 protected:
  CmkRecord make(KeyAlgorithm algorithm, KeyUsage usage) {
    CmkRecord record{.id = *CmkId::random(), .algorithm = algorithm, .usage = usage};
    record.protection = Protection::kRooted;
    auto made = keys_.generate(record.id, 1, {algorithm, usage, Protection::kRooted});
    EXPECT_THAT(made, Succeeds());
    record.versions.push_back({.material = made->material, .public_key = made->public_key});
    return record;
  }
  CmkRecord make_aes() { return make(KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt); }
  Result<Ciphertext> encrypt(const CmkRecord& record) {
    return keys_.encrypt({record, record.current()}, {text_, aad_});
  }

  const Bytes text_ = Bytes(40, std::byte{'t'});
  const Bytes aad_ = Bytes(9, std::byte{'a'});
  ClosingToken token_;
  RootedKeys keys_{token_, 2};
};

TEST_F(RootedKeysTest, EveryAlgorithmIsShownWithEachUseThatItHas) {
  const auto all = RootedKeys::supports();
  EXPECT_EQ(all.size(), 12U);
  for (const auto& kind : all) {
    EXPECT_TRUE(fits(kind.algorithm, kind.usage));
    EXPECT_EQ(kind.protection, Protection::kRooted);
  }
}

TEST_F(RootedKeysTest, TheLastUsedKeysStayOpenAndNoOthers) {
  const CmkRecord a = make_aes();
  const CmkRecord b = make_aes();
  const CmkRecord c = make_aes();
  for (const auto* key : {&a, &b, &a, &b}) ASSERT_THAT(encrypt(*key), Succeeds());
  EXPECT_EQ(token_.opened, 2);
  ASSERT_THAT(encrypt(c), Succeeds());  // a goes.
  ASSERT_THAT(encrypt(b), Succeeds());
  EXPECT_EQ(token_.opened, 3);
  ASSERT_THAT(encrypt(a), Succeeds());
  EXPECT_EQ(token_.opened, 4);
}

TEST_F(RootedKeysTest, ADroppedKeyIsOpenedAgain) {
  const CmkRecord a = make_aes();
  const CmkRecord b = make_aes();
  ASSERT_THAT(encrypt(a), Succeeds());
  ASSERT_THAT(encrypt(b), Succeeds());
  keys_.drop(a.id);
  ASSERT_THAT(encrypt(b), Succeeds());
  EXPECT_EQ(token_.opened, 2);
  ASSERT_THAT(encrypt(a), Succeeds());
  EXPECT_EQ(token_.opened, 3);
}

// Its deletion is presented while another thread is about to keep it.
TEST_F(RootedKeysTest, AKeyThatIsDroppedWhileItIsOpenedIsNotKept) {
  const CmkRecord a = make_aes();
  token_.while_opening = [&] { keys_.drop(a.id); };
  ASSERT_THAT(encrypt(a), Succeeds());
  ASSERT_THAT(encrypt(a), Succeeds());
  EXPECT_EQ(token_.opened, 2);
  ASSERT_THAT(encrypt(a), Succeeds());
  EXPECT_EQ(token_.opened, 2);
}

TEST_F(RootedKeysTest, WhatIsOpenIsNotUsedForOtherMaterialOfTheSameName) {
  CmkRecord key = make_aes();
  const auto before = encrypt(key);
  ASSERT_THAT(before, Succeeds());
  key.versions[0].material = Bytes(4, std::byte{0xFF});
  EXPECT_THAT(encrypt(key), FailsWith(Reason::kRecordInvalid));
}

TEST_F(RootedKeysTest, MaterialOpensInItsOwnPlaceAlone) {
  const CmkRecord key = make(KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt);
  CmkRecord moved = key;
  moved.id = *CmkId::random();
  EXPECT_THAT(encrypt(moved), FailsWith(Reason::kRecordInvalid));
  moved = key;
  moved.versions[0].number = 2;
  EXPECT_THAT(encrypt(moved), FailsWith(Reason::kRecordInvalid));
  moved = key;
  moved.algorithm = KeyAlgorithm::kAes256;
  EXPECT_THAT(encrypt(moved), FailsWith(Reason::kRecordInvalid));
  EXPECT_THAT(encrypt(key), Succeeds());
}

TEST_F(RootedKeysTest, WhatWasChangedDoesNotDecrypt) {
  for (const auto algorithm : {KeyAlgorithm::kAes256, KeyAlgorithm::kSm4}) {
    const CmkRecord key = make(algorithm, KeyUsage::kEncryptDecrypt);
    const auto made = encrypt(key);
    ASSERT_THAT(made, Succeeds());
    const TokenKey use{key, key.current()};
    const auto plain = keys_.decrypt(use, {made->nonce, made->bytes, made->tag, aad_});
    ASSERT_THAT(plain, Succeeds());
    EXPECT_TRUE(std::ranges::equal(plain->reveal(), ByteView(text_)));
    Bytes tag = made->tag;
    tag[0] ^= std::byte{1};
    EXPECT_THAT(keys_.decrypt(use, {made->nonce, made->bytes, tag, aad_}),
                FailsWith(Reason::kBlobInvalid));
    EXPECT_THAT(keys_.decrypt(use, {made->nonce, made->bytes, made->tag, text_}),
                FailsWith(Reason::kBlobInvalid));
  }
}

TEST_F(RootedKeysTest, ImportedBytesHaveTheAlgorithmsLength) {
  const auto import = [&](KeyAlgorithm algorithm, KeyUsage usage, std::size_t size) {
    return keys_.import_key(*CmkId::random(), 1, {algorithm, usage, Protection::kRooted},
                            {*SecretBytes::random(size), {}});
  };
  EXPECT_THAT(import(KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt, 32), Succeeds());
  EXPECT_THAT(import(KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt, 16), Succeeds());
  EXPECT_THAT(import(KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt, 16),
              FailsWith(Reason::kImportRefused));
  EXPECT_THAT(import(KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt, 32),
              FailsWith(Reason::kImportRefused));
  EXPECT_THAT(import(KeyAlgorithm::kEcP256, KeyUsage::kSignVerify, 32),
              FailsWith(Reason::kImportRefused))
      << "half a pair";
}

TEST_F(RootedKeysTest, AKeyDoesNothingThatItsAlgorithmDoesNot) {
  const CmkRecord ec = make(KeyAlgorithm::kEcP384, KeyUsage::kSignVerify);
  const TokenKey use{ec, ec.current()};
  const Bytes digest(48, std::byte{1});
  const auto signature = keys_.sign(use, keyring::SignScheme::kEcdsa, digest);
  ASSERT_THAT(signature, Succeeds());
  const auto half = crypto::EcPublicKey::parse(ec.current().public_key);
  ASSERT_THAT(half, Succeeds());
  EXPECT_THAT(half->verify(digest, *signature), Succeeds());
  EXPECT_THAT(keys_.sign(use, keyring::SignScheme::kRsaPssSha256, digest),
              FailsWith(Reason::kKeyUsage));
  EXPECT_THAT(keys_.decrypt_asymmetric(use, keyring::DecryptScheme::kSm2, digest),
              FailsWith(Reason::kKeyUsage));
  EXPECT_THAT(encrypt(ec), FailsWith(Reason::kKeyUsage));
  const CmkRecord aes = make_aes();
  EXPECT_THAT(keys_.sign({aes, aes.current()}, keyring::SignScheme::kEcdsa, digest),
              FailsWith(Reason::kKeyUsage));
}

}  // namespace
}  // namespace coffer::hsm

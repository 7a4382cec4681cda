// SPDX-License-Identifier: Apache-2.0
// What a wrapped key commits to, tried by one who knows two keys: their material was imported.
#include "hsm/key_commitment.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bitset>
#include <vector>

#include "core/crypto/aead.h"
#include "core/crypto/kdf.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "core/crypto/sm4.h"
#include "hsm/development_vault.h"
#include "hsm/gcm_cipher.h"
#include "hsm/vault_rules.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using keyring::CmkRecord;
using keyring::KeyAlgorithm;
using keyring::KeyContext;
using keyring::Purpose;
using keyring::SealedRecord;
using keyring::WrappedKey;
using tests::FailsWith;
using tests::Succeeds;

constexpr std::size_t kTextBytes = 48;
constexpr std::size_t kBlockBytes = 16;
constexpr std::size_t kBits = 128;  // Of a block and of a tag.

Bytes bytes_of(const SecretBytes& secret) {
  return {secret.reveal().begin(), secret.reveal().end()};
}

Bytes with(ByteView a, ByteView b) {
  Bytes out(a.begin(), a.end());
  for (std::size_t i = 0; i < b.size(); ++i) out[i] ^= b[i];
  return out;
}

TEST(KeyCommitmentTest, TextsOfEveryLengthComeBack) {
  for (const std::size_t size : {0U, 1U, 15U, 16U, 31U, 32U, 33U, 4096U}) {
    const auto plain = *SecretBytes::random(size);
    auto text = with_commitment(plain.reveal());
    ASSERT_THAT(text, Succeeds());
    EXPECT_EQ(text->size(), size + kCommitmentBytes);
    EXPECT_TRUE(take_commitment(*text));
    EXPECT_EQ(bytes_of(*text), bytes_of(plain));
  }
}

TEST(KeyCommitmentTest, ATextThatDoesNotBeginWithTheZerosStaysAsItIs) {
  for (std::size_t i = 0; i < kCommitmentBytes; ++i) {
    auto text = *with_commitment(Bytes(20, std::byte{7}));
    text.reveal_mutable()[i] = std::byte{0x80};
    const Bytes before = bytes_of(text);
    EXPECT_FALSE(take_commitment(text)) << i;
    EXPECT_EQ(bytes_of(text), before);
  }
  auto too_short = *SecretBytes::zeroed(kCommitmentBytes - 1);
  EXPECT_FALSE(take_commitment(too_short));
}

// A CMK whose key its importer knows, and what a wrap under it is bound to.
struct KnownKey {
  SealedRecord record;
  CmkId id;
  Bytes key;
  WrappedKey head{keyring::KekProfile::kAesGcm, id, 1, {}, {}, {}};
};

class TwoKnownKeysTest : public testing::TestWithParam<KeyAlgorithm> {
 protected:
  KnownKey import(const std::string& alias) {
    const bool sm4 = GetParam() == KeyAlgorithm::kSm4;
    keyring::CmkParameters parameters;
    parameters.alias = alias;
    parameters.algorithm = GetParam();
    parameters.origin = keyring::KeyOrigin::kImported;
    const auto empty = vault_->create_cmk(parameters);
    EXPECT_THAT(empty, Succeeds());
    const auto wrapping =
        sm4 ? keyring::ImportWrapping::kSm2 : keyring::ImportWrapping::kRsaOaepSha256;
    const auto prepared = vault_->prepare_import(*empty, wrapping);
    EXPECT_THAT(prepared, Succeeds());
    const auto material = *SecretBytes::random(sm4 ? 16 : 32);
    const Bytes wrapped =
        sm4 ? *crypto::Sm2PublicKey::parse(prepared->public_key)->encrypt(material.reveal())
            : *crypto::RsaPublicKey::parse(prepared->public_key)
                   ->encrypt(crypto::kOaepSha256, material.reveal());
    auto record = vault_->import_material(prepared->record, {prepared->token, wrapped, {}});
    EXPECT_THAT(record, Succeeds());
    const auto decoded = *CmkRecord::decode(*record);
    // As docs/formats/cmk-record.md says.
    const auto key = *crypto::hkdf_sha256(
        material.reveal(), {decoded.id.bytes(), as_bytes("coffer imported key")}, material.size());
    KnownKey known{.record = std::move(*record), .id = decoded.id, .key = bytes_of(key)};
    known.head.profile = decoded.current().profile;
    return known;
  }

  static KeyContext context_of(Purpose purpose) {
    KeyContext context;
    context.purpose = purpose;
    context.key_bytes = kTextBytes;
    if (purpose == Purpose::kVolumeKey) context.volume = VolumeId::random().value();
    return context;
  }

  static Ciphertext seal(const KnownKey& key, const KeyContext& context, ByteView nonce,
                         ByteView plain) {
    const Bytes aad = wrap_aad(key.head, context);
    const crypto::GcmContext gcm{nonce, aad};
    Bytes sealed = GetParam() == KeyAlgorithm::kSm4 ? *crypto::sm4_gcm_seal(key.key, gcm, plain)
                                                    : *crypto::aes_gcm_seal(key.key, gcm, plain);
    Ciphertext out{.nonce = {}, .bytes = {}, .tag = {sealed.end() - kBlockBytes, sealed.end()}};
    sealed.resize(sealed.size() - kBlockBytes);
    out.bytes = std::move(sealed);
    return out;
  }

  // What the token itself, which knows of no commitment, makes of a blob.
  static Result<SecretBytes> bare_open(const KnownKey& key, const WrappedKey& blob,
                                       const KeyContext& context) {
    const Bytes aad = wrap_aad(key.head, context);
    return gcm_decrypt(GetParam(), key.key, {blob.nonce, blob.ciphertext, blob.tag, aad});
  }

  static WrappedKey under(const KnownKey& key, WrappedKey blob) {
    blob.profile = key.head.profile;
    blob.cmk = key.id;
    return blob;
  }

  Result<SecretBytes> unwrap(const KnownKey& key, const WrappedKey& blob,
                             const KeyContext& context) {
    const keyring::Presented presented{under(key, blob), context};
    return std::move(vault_->unwrap(key.record, {&presented, 1}, soon()).at(0));
  }
  static Deadline soon() { return Deadline::after(std::chrono::seconds(60)); }

  // `ciphertext` with another last block, so that it has one tag under both keys: the difference of
  // the two tags is linear in that block, 128 equations for its 128 bits.
  WrappedKey craft(const KeyContext& context, Bytes ciphertext) const {
    const Bytes nonce(crypto::kGcmNonceBytes, std::byte{0x4E});
    const auto stream_of = [&](const KnownKey& key) {
      return seal(key, context, nonce, Bytes(ciphertext.size())).bytes;
    };
    const Bytes stream_a = stream_of(a_);
    const Bytes stream_b = stream_of(b_);
    const auto tag_of = [&](const KnownKey& key, const Bytes& stream) {
      return seal(key, context, nonce, with(stream, ciphertext)).tag;
    };
    const auto last = ciphertext.size() - kBlockBytes;
    const auto difference = [&](std::bitset<kBits> block) {
      for (std::size_t i = 0; i < kBlockBytes; ++i) {
        unsigned byte = 0;
        for (std::size_t bit = 0; bit < 8; ++bit) byte |= block[8 * i + bit] ? 1U << bit : 0U;
        ciphertext[last + i] = static_cast<std::byte>(byte);
      }
      const Bytes tags = with(tag_of(a_, stream_a), tag_of(b_, stream_b));
      std::bitset<kBits> out;
      for (std::size_t i = 0; i < kBits; ++i) {
        out[i] = (std::to_integer<unsigned>(tags[i / 8]) >> (i % 8) & 1U) != 0;
      }
      return out;
    };
    // Each row an equation, the last column its right side.
    std::array<std::bitset<kBits + 1>, kBits> rows;
    const auto at_zero = difference({});
    for (std::size_t bit = 0; bit < kBits; ++bit) {
      const auto column = difference(std::bitset<kBits>().set(bit)) ^ at_zero;
      for (std::size_t row = 0; row < kBits; ++row) rows[row][bit] = column[row];
    }
    for (std::size_t row = 0; row < kBits; ++row) rows[row][kBits] = at_zero[row];
    for (std::size_t bit = 0; bit < kBits; ++bit) {
      const auto pivot = std::find_if(rows.begin() + static_cast<std::ptrdiff_t>(bit), rows.end(),
                                      [&](const auto& row) { return row[bit]; });
      if (pivot == rows.end()) ADD_FAILURE() << "the equations have no solution";
      if (pivot == rows.end()) break;
      std::swap(*pivot, rows[bit]);
      for (auto& row : rows) {
        if (&row != &rows[bit] && row[bit]) row ^= rows[bit];
      }
    }
    std::bitset<kBits> solution;
    for (std::size_t bit = 0; bit < kBits; ++bit) solution[bit] = rows[bit][kBits];
    EXPECT_TRUE(difference(solution).none());
    const Bytes tag = tag_of(a_, stream_a);
    return {a_.head.profile, a_.id, 1, nonce, ciphertext, tag};
  }

  // Both texts are there, and they are not the same: what nobody may be given.
  void expect_opens_under_both(const WrappedKey& blob, const KeyContext& context) const {
    const auto from_a = bare_open(a_, blob, context);
    const auto from_b = bare_open(b_, blob, context);
    ASSERT_THAT(from_a, Succeeds());
    ASSERT_THAT(from_b, Succeeds());
    EXPECT_NE(bytes_of(*from_a), bytes_of(*from_b));
  }
  static void expect_uncommitted(const Result<SecretBytes>& opened) {
    ASSERT_THAT(opened, FailsWith(Reason::kBlobInvalid));
    EXPECT_THAT(opened.error().message(), testing::HasSubstr("does not commit"));
  }

  tests::FakeDekSink sink_;
  const std::unique_ptr<keyring::KeyVault> vault_ = *open_development_vault({}, sink_);
  const KnownKey a_ = import("a");
  const KnownKey b_ = import("b");
};

// So that what follows is refused for what it lacks, and not for how it was made here.
TEST_P(TwoKnownKeysTest, WhatIsMadeOutsideWithTheZerosOpens) {
  const KeyContext context = context_of(Purpose::kData);
  const Bytes nonce(crypto::kGcmNonceBytes, std::byte{1});
  const Bytes text(kTextBytes, std::byte{'t'});
  const auto plain = *with_commitment(text);
  const auto made = seal(a_, context, nonce, plain.reveal());
  const auto opened = unwrap(a_, {{}, a_.id, 1, nonce, made.bytes, made.tag}, context);
  ASSERT_THAT(opened, Succeeds());
  EXPECT_EQ(bytes_of(*opened), text);
}

TEST_P(TwoKnownKeysTest, ACiphertextThatOpensUnderTwoKeysIsRefusedUnderBoth) {
  const KeyContext context = context_of(Purpose::kData);
  const auto crafted =
      craft(context, bytes_of(*SecretBytes::random(kCommitmentBytes + kTextBytes)));
  expect_opens_under_both(crafted, context);
  expect_uncommitted(unwrap(a_, crafted, context));
  expect_uncommitted(unwrap(b_, crafted, context));
}

// The most that can be crafted: the zeros of one of the keys.
TEST_P(TwoKnownKeysTest, ACiphertextThatCommitsToOneKeyOpensUnderThatAlone) {
  const KeyContext context = context_of(Purpose::kEnvelopeData);
  const Bytes nonce(crypto::kGcmNonceBytes, std::byte{0x4E});
  const auto crafted = craft(
      context, seal(a_, context, nonce, Bytes(kCommitmentBytes + kTextBytes, std::byte{0})).bytes);
  expect_opens_under_both(crafted, context);
  EXPECT_THAT(unwrap(a_, crafted, context), Succeeds());
  expect_uncommitted(unwrap(b_, crafted, context));
}

TEST_P(TwoKnownKeysTest, NorIsItDeliveredOrWrappedAnew) {
  const Bytes some = bytes_of(*SecretBytes::random(kCommitmentBytes + kTextBytes));
  const KeyContext of_volume = context_of(Purpose::kVolumeKey);
  const auto disk = craft(of_volume, some);
  expect_opens_under_both(disk, of_volume);
  const KeyContext of_data = context_of(Purpose::kData);
  const auto data = craft(of_data, some);
  for (const KnownKey* key : {&a_, &b_}) {
    const keyring::Presented presented{under(*key, disk), of_volume};
    const std::uint32_t index = 0;
    EXPECT_THAT(vault_->deliver(key->record, {&presented, 1}, {}, {&index, 1}, soon()).at(0),
                FailsWith(Reason::kBlobInvalid));
    const std::vector<keyring::Rewrapped> again{{presented, of_volume},
                                                {{under(*key, data), of_data}, of_data}};
    for (const auto& one : vault_->rewrap(key->record, key->record, again, soon())) {
      EXPECT_THAT(one, FailsWith(Reason::kBlobInvalid));
    }
  }
  EXPECT_TRUE(sink_.taken().empty());
}

INSTANTIATE_TEST_SUITE_P(Gcm, TwoKnownKeysTest,
                         testing::Values(KeyAlgorithm::kAes256, KeyAlgorithm::kSm4),
                         [](const auto& one) {
                           return std::string(one.param == KeyAlgorithm::kSm4 ? "Sm4" : "Aes");
                         });

}  // namespace
}  // namespace coffer::hsm

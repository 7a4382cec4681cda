// SPDX-License-Identifier: Apache-2.0
// What a vault does in the later life of keys: archive, deletion, rewrap, private keys, import.
#include <algorithm>
#include <array>
#include <functional>
#include <iostream>
#include <string>
#include <utility>

#include "core/crypto/ec.h"
#include "core/crypto/key_wrap.h"
#include "core/crypto/rsa.h"
#include "core/crypto/sm2.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using keyring::CmkChange;
using keyring::CmkParameters;
using keyring::CmkRecord;
using keyring::ImportMaterial;
using keyring::ImportWrapping;
using keyring::KeyAlgorithm;
using keyring::KeyOrigin;
using keyring::KeySupport;
using keyring::KeyUsage;
using keyring::Protection;
using keyring::Rewrapped;
using keyring::SealedRecord;
using keyring::SignScheme;

const Bytes kSomeKey(32, std::byte{0x2C});
const Bytes kDigest(32, std::byte{0x11});

constexpr std::array<std::pair<KeyAlgorithm, KeyUsage>, 12> kAllKinds{
    {{KeyAlgorithm::kAes256, KeyUsage::kEncryptDecrypt},
     {KeyAlgorithm::kSm4, KeyUsage::kEncryptDecrypt},
     {KeyAlgorithm::kRsa2048, KeyUsage::kAsymmetricDecrypt},
     {KeyAlgorithm::kRsa3072, KeyUsage::kAsymmetricDecrypt},
     {KeyAlgorithm::kRsa4096, KeyUsage::kAsymmetricDecrypt},
     {KeyAlgorithm::kSm2, KeyUsage::kAsymmetricDecrypt},
     {KeyAlgorithm::kRsa2048, KeyUsage::kSignVerify},
     {KeyAlgorithm::kRsa3072, KeyUsage::kSignVerify},
     {KeyAlgorithm::kRsa4096, KeyUsage::kSignVerify},
     {KeyAlgorithm::kSm2, KeyUsage::kSignVerify},
     {KeyAlgorithm::kEcP256, KeyUsage::kSignVerify},
     {KeyAlgorithm::kEcP384, KeyUsage::kSignVerify}}};

bool supports(keyring::KeyVault& vault, const KeySupport& kind) {
  const auto all = vault.health().supports;
  return std::ranges::find(all, kind) != all.end();
}

CmkChange deletion_in(std::uint32_t days) {
  CmkChange change = CmkChange::kScheduleDeletion;
  change.days = days;
  return change;
}

TEST_P(KeyVaultContract, AnArchivedKeyUnwrapsAndDoesNotWrap) {
  const auto first = create();
  const auto blob = wrap_one(first, kSomeKey);
  const auto archived = change(first, CmkChange::kArchive);
  EXPECT_THAT(unwrap_one(archived, blob, data_context()), Succeeds());
  std::vector<keyring::KeyVault::Plain> keys(1);
  keys[0].key = *SecretBytes::copy_of(kSomeKey);
  keys[0].context = data_context();
  EXPECT_THAT(vault().wrap(archived, keys, soon()).at(0), FailsWith(Reason::kKeyArchived));
  // The record before it is not to be used any more.
  EXPECT_THAT(vault().wrap(first, keys, soon()).at(0), FailsWith(Reason::kRecordSuperseded));
  const auto back = change(archived, CmkChange::kCancelArchive);
  EXPECT_THAT(vault().wrap(back, keys, soon()).at(0), Succeeds());
}

TEST_P(KeyVaultContract, AKeyIsNotDestroyedBeforeItsTime) {
  const auto enabled = create();
  const auto blob = wrap_one(enabled, kSomeKey);
  EXPECT_THAT(vault().change_cmk(enabled, deletion_in(7)), FailsWith(Reason::kKeyNotDisabled));
  const auto disabled = change(enabled, CmkChange::kDisable);
  EXPECT_THAT(vault().change_cmk(disabled, deletion_in(6)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(vault().change_cmk(disabled, deletion_in(31)), FailsWith(Reason::kInvalidArgs));
  EXPECT_THAT(vault().change_cmk(disabled, deletion_in(30)), Succeeds());
  const auto doomed = change(disabled, deletion_in(7));
  EXPECT_THAT(vault().change_cmk(doomed, CmkChange::kDestroy),
              FailsWith(Reason::kKeyPendingDeletion));
  EXPECT_THAT(unwrap_one(doomed, blob, data_context()), FailsWith(Reason::kKeyPendingDeletion));
  const auto rescued = change(change(doomed, CmkChange::kCancelDeletion), CmkChange::kEnable);
  EXPECT_THAT(unwrap_one(rescued, blob, data_context()), Succeeds());
}

TEST_P(KeyVaultContract, RotationIsPlannedWithinItsPeriods) {
  const auto record = create();
  CmkChange rotation = CmkChange::kSetRotation;
  for (const std::uint32_t days : {6U, 366U}) {
    rotation.days = days;
    EXPECT_THAT(vault().change_cmk(record, rotation), FailsWith(Reason::kInvalidArgs)) << days;
  }
  for (const std::uint32_t days : {7U, 365U}) {
    rotation.days = days;
    const auto planned = vault().change_cmk(record, rotation);
    ASSERT_THAT(planned, Succeeds()) << days;
    EXPECT_EQ(CmkRecord::decode(*planned)->rotation_days, days);
  }
}

TEST_P(KeyVaultContract, KeysAreRewrappedToTheNewestVersionWithoutComingOut) {
  const auto first = create();
  const auto data = wrap_one(first, kSomeKey);
  const auto volume = make_dek(first);
  auto newest = change(first, CmkChange::kRotate);
  const std::vector<Rewrapped> keys{{{data, data_context()}, data_context()},
                                    {{volume, volume_context()}, volume_context()},
                                    {{volume, volume_context()}, data_context()},
                                    {{data, volume_context()}, volume_context()}};
  const auto made = vault().rewrap(newest, newest, keys, soon());
  ASSERT_EQ(made.size(), 4U);
  ASSERT_THAT(made[0], Succeeds());
  ASSERT_THAT(made[1], Succeeds());
  EXPECT_EQ(made[0]->cmk_version, 2U);
  EXPECT_THAT(made[2], FailsWith(Reason::kWrongPurpose)) << "out of the vault by another name";
  EXPECT_THAT(made[3], FailsWith(Reason::kBlobInvalid));

  CmkChange old_version = CmkChange::kDestroyVersion;
  old_version.version = 1;
  newest = change(newest, old_version);
  EXPECT_THAT(unwrap_one(newest, data, data_context()), FailsWith(Reason::kBlobInvalid));
  const auto plain = unwrap_one(newest, *made[0], data_context());
  ASSERT_THAT(plain, Succeeds());
  EXPECT_TRUE(std::ranges::equal(plain->reveal(), ByteView(kSomeKey)));
  EXPECT_THAT(deliver_one(newest, *made[1], volume_context()), Succeeds());
}

TEST_P(KeyVaultContract, AKindThatTheTokenDoesNotShowIsRefused) {
  for (const auto protection : {Protection::kResident, Protection::kWrapped, Protection::kRooted}) {
    for (const auto& [algorithm, usage] : kAllKinds) {
      if (supports(vault(), {algorithm, usage, protection})) continue;
      CmkParameters parameters = parameters_of("kind");
      parameters.algorithm = algorithm;
      parameters.usage = usage;
      parameters.protection = protection;
      EXPECT_THAT(vault().create_cmk(parameters), FailsWith(Reason::kUnsupported))
          << key_algorithm_name(algorithm) << ", " << protection_name(protection);
    }
  }
}

// `./dev capabilities` makes a table of what this test prints.
TEST_P(KeyVaultContract, AKindThatTheTokenShowsIsMade) {
  const auto shown = vault().health().supports;
  EXPECT_FALSE(shown.empty());
  for (const KeySupport& kind : shown) {
    std::cout << "capability " << GetParam().name << " " << key_algorithm_name(kind.algorithm)
              << " " << key_usage_name(kind.usage) << " " << protection_name(kind.protection)
              << "\n";
    // Those have a test of their own, and take long to make.
    const bool large =
        kind.algorithm == KeyAlgorithm::kRsa3072 || kind.algorithm == KeyAlgorithm::kRsa4096;
    if (large) continue;
    CmkParameters parameters = parameters_of("kind");
    parameters.algorithm = kind.algorithm;
    parameters.usage = kind.usage;
    parameters.protection = kind.protection;
    const auto made = vault().create_cmk(parameters);
    ASSERT_THAT(made, Succeeds()) << key_algorithm_name(kind.algorithm);
    EXPECT_EQ(CmkRecord::decode(*made)->protection, kind.protection);
  }
}

TEST_P(KeyVaultContract, PrivateKeysSignForTheirPublicHalf) {
  const KeySupport ec{KeyAlgorithm::kEcP256, KeyUsage::kSignVerify, Protection::kRooted};
  if (!supports(vault(), ec)) GTEST_SKIP() << GetParam().name << " keeps no rooted keys";
  CmkParameters parameters = parameters_of("signer");
  parameters.algorithm = ec.algorithm;
  parameters.usage = ec.usage;
  parameters.protection = ec.protection;
  const auto signer = vault().create_cmk(parameters);
  ASSERT_THAT(signer, Succeeds());
  const std::vector<Bytes> digests{kDigest, Bytes(31)};
  const auto made = vault().sign(*signer, SignScheme::kEcdsa, digests, soon());
  ASSERT_EQ(made.size(), 2U);
  ASSERT_THAT(made[0], Succeeds());
  EXPECT_THAT(made[1], FailsWith(Reason::kInvalidArgs));
  const auto half = crypto::EcPublicKey::parse(CmkRecord::decode(*signer)->current().public_key);
  ASSERT_THAT(half, Succeeds());
  EXPECT_THAT(half->verify(kDigest, *made[0]), Succeeds());

  parameters.alias = "reader";
  parameters.algorithm = KeyAlgorithm::kSm2;
  parameters.usage = KeyUsage::kAsymmetricDecrypt;
  const auto reader = vault().create_cmk(parameters);
  ASSERT_THAT(reader, Succeeds());
  const auto to = crypto::Sm2PublicKey::parse(CmkRecord::decode(*reader)->current().public_key);
  ASSERT_THAT(to, Succeeds());
  const std::vector<Bytes> texts{*to->encrypt(kSomeKey), Bytes(100, std::byte{0x30})};
  const auto opened = vault().decrypt(*reader, keyring::DecryptScheme::kSm2, texts, soon());
  ASSERT_EQ(opened.size(), 2U);
  ASSERT_THAT(opened[0], Succeeds());
  EXPECT_TRUE(std::ranges::equal(opened[0]->reveal(), ByteView(kSomeKey)));
  EXPECT_THAT(opened[1], FailsWith(Reason::kBlobInvalid));
  EXPECT_THAT(vault().sign(*reader, SignScheme::kSm2, {&kDigest, 1}, soon()).at(0),
              FailsWith(Reason::kKeyUsage));
}

// Their bytes are the most that a token closes: some 2400 of RSA-4096.
TEST_P(KeyVaultContract, LargeRsaKeysSignAndDecrypt) {
  const auto make = [&](KeyAlgorithm algorithm, KeyUsage usage) {
    CmkParameters parameters = parameters_of(std::string(key_algorithm_name(algorithm)));
    parameters.algorithm = algorithm;
    parameters.usage = usage;
    parameters.protection = Protection::kRooted;
    auto made = vault().create_cmk(parameters);
    EXPECT_THAT(made, Succeeds()) << key_algorithm_name(algorithm);
    return made ? *made : SealedRecord();
  };
  const auto public_half = [](const SealedRecord& record) {
    return crypto::RsaPublicKey::parse(CmkRecord::decode(record)->current().public_key);
  };
  if (!supports(vault(), {KeyAlgorithm::kRsa4096, KeyUsage::kSignVerify, Protection::kRooted}))
    GTEST_SKIP() << GetParam().name << " keeps no rooted keys";

  const auto signer = make(KeyAlgorithm::kRsa4096, KeyUsage::kSignVerify);
  ASSERT_FALSE(signer.empty());
  const auto signatures = vault().sign(signer, SignScheme::kRsaPssSha256, {&kDigest, 1}, soon());
  ASSERT_THAT(signatures.at(0), Succeeds());
  EXPECT_THAT(public_half(signer)->verify(crypto::RsaScheme::kPssSha256, kDigest, *signatures[0]),
              Succeeds());
  EXPECT_THAT(vault().sign(signer, SignScheme::kEcdsa, {&kDigest, 1}, soon()).at(0),
              FailsWith(Reason::kKeyUsage));
  const auto reader = make(KeyAlgorithm::kRsa3072, KeyUsage::kAsymmetricDecrypt);
  ASSERT_FALSE(reader.empty());
  const std::vector<Bytes> texts{*public_half(reader)->encrypt(crypto::kOaepSha256, kSomeKey),
                                 Bytes(384, std::byte{1})};
  const auto opened =
      vault().decrypt(reader, keyring::DecryptScheme::kRsaOaepSha256, texts, soon());
  ASSERT_EQ(opened.size(), 2U);
  ASSERT_THAT(opened[0], Succeeds());
  EXPECT_TRUE(std::ranges::equal(opened[0]->reveal(), ByteView(kSomeKey)));
  EXPECT_THAT(opened[1], FailsWith(Reason::kBlobInvalid));
}

// One way to sign, and what the public half says of a signature.
struct Signer {
  KeyAlgorithm algorithm;
  SignScheme scheme;
  std::function<Result<void>(ByteView key, ByteView digest, ByteView signature)> verify;
};

std::vector<Signer> signers() {
  const auto rsa = [](crypto::RsaScheme scheme) {
    return [scheme](ByteView key, ByteView digest, ByteView signature) {
      return crypto::RsaPublicKey::parse(key)->verify(scheme, digest, signature);
    };
  };
  const auto ec = [](ByteView key, ByteView digest, ByteView signature) {
    return crypto::EcPublicKey::parse(key)->verify(digest, signature);
  };
  return {
      {KeyAlgorithm::kRsa2048, SignScheme::kRsaPssSha256, rsa(crypto::RsaScheme::kPssSha256)},
      {KeyAlgorithm::kRsa2048, SignScheme::kRsaPkcs1Sha256, rsa(crypto::RsaScheme::kPkcs1Sha256)},
      {KeyAlgorithm::kEcP256, SignScheme::kEcdsa, ec},
      {KeyAlgorithm::kEcP384, SignScheme::kEcdsa, ec}};
}

// Wherever the key is kept, its signatures are the same kind of thing and its errors the same.
TEST_P(KeyVaultContract, KeysSignAlikeWhateverTheirProtection) {
  for (const auto protection : {Protection::kWrapped, Protection::kRooted}) {
    for (const Signer& signer : signers()) {
      if (!supports(vault(), {signer.algorithm, KeyUsage::kSignVerify, protection})) continue;
      const auto named = std::string(key_algorithm_name(signer.algorithm)) + ", " +
                         std::string(protection_name(protection));
      CmkParameters parameters = parameters_of("signer");
      parameters.algorithm = signer.algorithm;
      parameters.usage = KeyUsage::kSignVerify;
      parameters.protection = protection;
      const auto record = vault().create_cmk(parameters);
      ASSERT_THAT(record, Succeeds()) << named;
      const Bytes half = CmkRecord::decode(*record)->current().public_key;
      const bool is_ec = signer.scheme == SignScheme::kEcdsa;
      for (const std::size_t size : {32U, 48U, 64U, 31U, 0U}) {
        const Bytes digest(size, std::byte{0xA7});
        const auto made = vault().sign(*record, signer.scheme, {&digest, 1}, soon());
        if (size == 32 || (is_ec && size >= 48)) {
          ASSERT_THAT(made.at(0), Succeeds()) << named << size;
          EXPECT_THAT(signer.verify(half, digest, *made[0]), Succeeds()) << named << size;
        } else {
          EXPECT_THAT(made.at(0), FailsWith(Reason::kInvalidArgs)) << named << size;
        }
      }
      const auto other = is_ec ? SignScheme::kRsaPssSha256 : SignScheme::kEcdsa;
      for (const auto scheme : {other, SignScheme::kSm2}) {
        EXPECT_THAT(vault().sign(*record, scheme, {&kDigest, 1}, soon()).at(0),
                    FailsWith(Reason::kKeyUsage))
            << named;
      }
      EXPECT_THAT(
          vault()
              .sign(change(*record, CmkChange::kDisable), signer.scheme, {&kDigest, 1}, soon())
              .at(0),
          FailsWith(Reason::kKeyDisabled))
          << named;
    }
  }
}

TEST_P(KeyVaultContract, AKeyThatNobodyAskedAProtectionForLivesInTheTokenWhereItCan) {
  for (const auto algorithm : {KeyAlgorithm::kEcP256, KeyAlgorithm::kSm2}) {
    CmkParameters parameters = parameters_of("signer");
    parameters.algorithm = algorithm;
    parameters.usage = KeyUsage::kSignVerify;
    parameters.protection.reset();
    const bool in_token = supports(vault(), {algorithm, parameters.usage, Protection::kWrapped});
    const bool rooted = supports(vault(), {algorithm, parameters.usage, Protection::kRooted});
    const auto made = vault().create_cmk(parameters);
    if (!in_token && !rooted) {
      EXPECT_THAT(made, FailsWith(Reason::kUnsupported));
      continue;
    }
    ASSERT_THAT(made, Succeeds());
    EXPECT_EQ(CmkRecord::decode(*made)->protection,
              in_token ? Protection::kWrapped : Protection::kRooted);
  }
}

TEST_P(KeyVaultContract, NamesOutsideTheirLimitsAreRefusedAsSuch) {
  const auto record = create();
  CmkChange describe = CmkChange::kDescribe;
  const auto refused = [&](const std::string& alias, const std::string& description) {
    describe.alias = alias;
    describe.description = description;
    EXPECT_THAT(vault().change_cmk(record, describe), FailsWith(Reason::kInvalidArgs));
    CmkParameters parameters = parameters_of(alias);
    parameters.description = description;
    EXPECT_THAT(vault().create_cmk(parameters), FailsWith(Reason::kInvalidArgs));
  };
  refused(std::string(5000, 'a'), "");
  refused("a b", "");
  refused("a", std::string(5000, 'x'));
  refused("a", "\xff");
  describe.alias = "another";
  describe.description = std::string(1024, 'x');
  EXPECT_THAT(vault().change_cmk(record, describe), Succeeds());
}

TEST_P(KeyVaultContract, MaterialIsImportedByItsTokenAlone) {
  CmkParameters parameters = parameters_of("brought");
  parameters.algorithm = KeyAlgorithm::kAes256;
  parameters.protection = std::nullopt;  // As whoever asks for nothing gets it.
  parameters.origin = KeyOrigin::kImported;
  if (!supports(vault(), {parameters.algorithm, parameters.usage, Protection::kRooted})) {
    EXPECT_THAT(vault().create_cmk(parameters), FailsWith(Reason::kUnsupported));
    GTEST_SKIP() << GetParam().name << " keeps no rooted keys";
  }
  const auto empty = vault().create_cmk(parameters);
  ASSERT_THAT(empty, Succeeds());
  const auto prepared = vault().prepare_import(*empty, ImportWrapping::kRsaOaepSha256);
  ASSERT_THAT(prepared, Succeeds());
  const auto to = crypto::RsaPublicKey::parse(prepared->public_key);
  ASSERT_THAT(to, Succeeds());
  ImportMaterial material{prepared->token, *to->encrypt(crypto::kOaepSha256, kSomeKey), {}};
  material.token.back() ^= std::byte{1};
  EXPECT_THAT(vault().import_material(prepared->record, material),
              FailsWith(Reason::kImportTokenExpired));
  material.token = Bytes(4096);
  EXPECT_THAT(vault().import_material(prepared->record, material),
              FailsWith(Reason::kImportTokenExpired));
  material.token = prepared->token;
  const auto wrapped = std::exchange(material.wrapped, Bytes(10'000));
  EXPECT_THAT(vault().import_material(prepared->record, material),
              FailsWith(Reason::kImportRefused));
  material.wrapped = wrapped;
  const auto full = vault().import_material(prepared->record, material);
  ASSERT_THAT(full, Succeeds());
  const auto blob = wrap_one(*full, kSomeKey);
  EXPECT_THAT(unwrap_one(*full, blob, data_context()), Succeeds());
  EXPECT_THAT(vault().import_material(prepared->record, material),
              FailsWith(Reason::kRecordSuperseded));
}

// A private key that its owner brings, as it comes out of other programs.
struct Brought {
  KeyAlgorithm algorithm;
  KeyUsage usage;
  SecretBytes pkcs8;
};

Brought brought_key(KeyAlgorithm algorithm) {
  if (algorithm == KeyAlgorithm::kEcP256)
    return {algorithm, KeyUsage::kSignVerify,
            *crypto::EcPrivateKey::generate(crypto::EcCurve::kP256)->to_der()};
  if (algorithm == KeyAlgorithm::kSm2)
    return {algorithm, KeyUsage::kAsymmetricDecrypt, *crypto::Sm2PrivateKey::generate()->to_der()};
  return {algorithm, KeyUsage::kSignVerify, *crypto::RsaPrivateKey::generate(4096)->to_der()};
}

// By RSA-AES key wrap.
Bytes wrapped_to(const keyring::ImportParameters& parameters, const SecretBytes& pkcs8) {
  const auto kek = SecretBytes::random(32);
  const auto to = crypto::RsaPublicKey::parse(parameters.public_key);
  Bytes wrapped = *to->encrypt(crypto::kOaepSha256, kek->reveal());
  const Bytes behind = *crypto::aes_kwp_wrap(kek->reveal(), pkcs8.reveal());
  wrapped.insert(wrapped.end(), behind.begin(), behind.end());
  return wrapped;
}

// What the key does, by the public half that its record shows.
void expect_serves(keyring::KeyVault& vault, const SealedRecord& record, Deadline deadline) {
  const auto read = *CmkRecord::decode(record);
  const Bytes& half = read.current().public_key;
  if (read.usage == KeyUsage::kAsymmetricDecrypt) {
    const auto text = *crypto::Sm2PublicKey::parse(half)->encrypt(kSomeKey);
    const auto opened = vault.decrypt(record, keyring::DecryptScheme::kSm2, {&text, 1}, deadline);
    ASSERT_THAT(opened.at(0), Succeeds());
    EXPECT_TRUE(std::ranges::equal(opened[0]->reveal(), ByteView(kSomeKey)));
    return;
  }
  const bool rsa = read.algorithm == KeyAlgorithm::kRsa4096;
  const auto scheme = rsa ? SignScheme::kRsaPssSha256 : SignScheme::kEcdsa;
  const auto made = vault.sign(record, scheme, {&kDigest, 1}, deadline);
  ASSERT_THAT(made.at(0), Succeeds());
  if (rsa) {
    const auto key = crypto::RsaPublicKey::parse(half);
    EXPECT_THAT(key->verify(crypto::RsaScheme::kPssSha256, kDigest, *made[0]), Succeeds());
  } else {
    EXPECT_THAT(crypto::EcPublicKey::parse(half)->verify(kDigest, *made[0]), Succeeds());
  }
}

TEST_P(KeyVaultContract, PrivateKeysAreImportedByRsaAesKeyWrapAlone) {
  for (const auto algorithm : {KeyAlgorithm::kEcP256, KeyAlgorithm::kSm2, KeyAlgorithm::kRsa4096}) {
    SCOPED_TRACE(key_algorithm_name(algorithm));
    const Brought brought = brought_key(algorithm);
    CmkParameters parameters = parameters_of("brought");
    parameters.algorithm = algorithm;
    parameters.usage = brought.usage;
    parameters.protection = std::nullopt;
    parameters.origin = KeyOrigin::kImported;
    if (!supports(vault(), {algorithm, brought.usage, Protection::kRooted})) {
      EXPECT_THAT(vault().create_cmk(parameters), FailsWith(Reason::kUnsupported));
      GTEST_SKIP() << GetParam().name << " keeps no rooted keys";
    }
    const auto empty = vault().create_cmk(parameters);
    ASSERT_THAT(empty, Succeeds());
    EXPECT_EQ(CmkRecord::decode(*empty)->protection, Protection::kRooted);
    EXPECT_TRUE(CmkRecord::decode(*empty)->current().public_key.empty());
    EXPECT_THAT(vault().prepare_import(*empty, ImportWrapping::kRsaOaepSha256),
                FailsWith(Reason::kUnsupported));
    const auto prepared = vault().prepare_import(*empty, ImportWrapping::kRsaAesSha256);
    ASSERT_THAT(prepared, Succeeds());
    ImportMaterial material{prepared->token, wrapped_to(*prepared, brought.pkcs8), {}};
    material.wrapped.back() ^= std::byte{1};
    EXPECT_THAT(vault().import_material(prepared->record, material),
                FailsWith(Reason::kImportRefused));
    material.wrapped = wrapped_to(*prepared, *SecretBytes::copy_of(kSomeKey));
    EXPECT_THAT(vault().import_material(prepared->record, material),
                FailsWith(Reason::kImportRefused));
    material.wrapped = wrapped_to(*prepared, brought.pkcs8);
    const auto full = vault().import_material(prepared->record, material);
    ASSERT_THAT(full, Succeeds());
    expect_serves(vault(), *full, soon());

    // Each of RSA-4096 takes seconds to make.
    if (algorithm == KeyAlgorithm::kRsa4096) continue;
    const Brought other = brought_key(algorithm);
    EXPECT_THAT(
        vault().import_material(*full, {prepared->token, wrapped_to(*prepared, other.pkcs8), {}}),
        FailsWith(Reason::kMaterialMismatch));
    const auto again =
        vault().import_material(*full, {prepared->token, wrapped_to(*prepared, brought.pkcs8), {}});
    ASSERT_THAT(again, Succeeds());
    const auto gone = change(*again, CmkChange::kDeleteMaterial);
    EXPECT_EQ(CmkRecord::decode(gone)->current().public_key,
              CmkRecord::decode(*full)->current().public_key);
    const bool signs = brought.usage == KeyUsage::kSignVerify;
    const auto refused =
        signs ? vault().sign(gone, SignScheme::kEcdsa, {&kDigest, 1}, soon()).at(0).error()
              : vault()
                    .decrypt(gone, keyring::DecryptScheme::kSm2, {&kDigest, 1}, soon())
                    .at(0)
                    .error();
    EXPECT_EQ(refused.reason(), Reason::kKeyPendingImport);
  }
}

}  // namespace
}  // namespace coffer::tests

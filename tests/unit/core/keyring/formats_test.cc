// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <set>

#include "core/base/encoding.h"
#include "core/keyring/cmk_record.h"
#include "core/keyring/key_context.h"
#include "core/keyring/key_vault.h"
#include "core/keyring/wrapped_key.h"
#include "tests/support/result_matchers.h"

namespace coffer::keyring {
namespace {

using tests::FailsWith;
using tests::Succeeds;

KeyContext some_context() {
  KeyContext context;
  context.tenant = "tenant-7";
  context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
  context.host_scope = "7a1d0b9c-0000-4000-8000-aabbccddeeff";
  context.device_binding = "wwn-0x5000c500a1b2c3d4";
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.profile_digest.fill(std::byte{0x5A});
  context.generation = 3;
  context.flags = kForeignOpenAllowed;
  return context;
}

WrappedKey some_blob(KekProfile profile) {
  const bool is_cbc = profile == KekProfile::kAesCbcHmac || profile == KekProfile::kSm4CbcHmac;
  const std::size_t nonce = is_gcm(profile) ? 12 : (is_cbc ? 16 : 0);
  return {profile,
          *CmkId::parse("11111111-2222-4333-8444-555555555555"),
          7,
          Bytes(nonce, std::byte{1}),
          Bytes(64, std::byte{2}),
          Bytes(is_gcm(profile) ? 16 : 32, std::byte{3})};
}

CmkRecord some_record() {
  CmkRecord record{.id = *CmkId::parse("11111111-2222-4333-8444-555555555555")};
  record.revision = 5;
  record.root_id = "kcv-0011223344556677";
  record.alias = "default";
  record.description = "Für alle Platten";
  record.created = wall_from_usec(1'700'000'000'000'000);
  record.changed = wall_from_usec(1'700'000'100'000'000);
  record.versions.push_back({.number = 1,
                             .state = VersionState::kDecryptOnly,
                             .created = record.created,
                             .material = Bytes(40, std::byte{9}),
                             .wraps_leased = 65536});
  record.versions.push_back({.number = 2,
                             .profile = KekProfile::kAesKeyWrapHmac,
                             .created = record.changed,
                             .material = Bytes(60, std::byte{8})});
  return record;
}

SealedRecord with_seal(const CmkRecord& record) {
  SealedRecord sealed = record.encode();
  sealed.resize(sealed.size() + CmkRecord::kSealBytes);
  return sealed;
}

// An imported key that is to be deleted, while its owner was about to bring the material again.
CmkRecord waiting_record() {
  CmkRecord record = some_record();
  record.origin = KeyOrigin::kImported;
  record.state = KeyState::kPendingDelete;
  record.delete_at = record.changed;
  record.material_digest = Bytes(32, std::byte{4});
  record.offer = ImportOffer{.nonce = Bytes(16, std::byte{5}),
                             .wrapping = ImportWrapping::kRsaAesSha256,
                             .valid_to = record.changed,
                             .private_key = Bytes(1300, std::byte{6}),
                             .public_key = Bytes(294, std::byte{7})};
  record.versions.resize(1);
  record.versions[0].state = VersionState::kCurrent;
  record.versions[0].material.clear();
  return record;
}

void expect_one_encoding(const SealedRecord& good) {
  for (std::size_t i = 0; i < good.size() - CmkRecord::kSealBytes; ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      SealedRecord edited = good;
      edited[i] ^= static_cast<std::byte>(1U << bit);
      const auto read = CmkRecord::decode(edited);
      if (read) {
        EXPECT_EQ(with_seal(*read), edited) << i;
      }
    }
  }
}

TEST(KeyContextFormat, IsTheOneThatTheFormatPageShows) {
  KeyContext context;
  context.volume = *VolumeId::parse("00112233-4455-4677-8899-aabbccddeeff");
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.generation = 1;
  EXPECT_EQ(to_hex(context.encode()),
            "43464b4302"                          // "CFKC", version 2
            "00000000"                            // tenant ""
            "01"                                  // purpose: volume key
            "0100112233445546778899aabbccddeeff"  // a volume
            "00000000"
            "00000000"                                // host scope, device binding ""
            "0000000f6165732d7874732d706c61696e3634"  // "aes-xts-plain64"
            "00000040"                                // 64 bytes
            "0000000000000000000000000000000000000000000000000000000000000000"
            "0000000000000001"  // generation 1
            "00000000"          // no flags
            "00000000");        // no context of a caller's own
}

TEST(KeyContextFormat, ReadsBackWhatItWrote) {
  EXPECT_EQ(*KeyContext::decode(some_context().encode()), some_context());
  KeyContext data;
  data.purpose = Purpose::kAuditSeal;
  data.key_bytes = 32;
  EXPECT_EQ(*KeyContext::decode(data.encode()), data);
  data.purpose = Purpose::kData;
  data.key_bytes = 1;
  data.application = R"({"app":"billing"})";
  EXPECT_EQ(*KeyContext::decode(data.encode()), data);
}

TEST(KeyContextFormat, WhateverIsAcceptedHasOneEncoding) {
  const Bytes good = some_context().encode();
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      Bytes edited = good;
      edited[i] ^= static_cast<std::byte>(1U << bit);
      const auto read = KeyContext::decode(edited);
      if (read) {
        EXPECT_EQ(read->encode(), edited) << i;
      }
    }
  }
  for (std::size_t size = 0; size < good.size(); ++size) {
    EXPECT_THAT(KeyContext::decode(ByteView(good).first(size)), FailsWith(Reason::kTokenInvalid));
  }
}

TEST(KeyContextFormat, ValuesOutsideTheLimitsAreRefusedOnBothSides) {
  const auto refused = [](void (*edit)(KeyContext&)) {
    KeyContext context = some_context();
    edit(context);
    EXPECT_THAT(context.require_valid(), FailsWith(Reason::kInvalidArgs));
    EXPECT_THAT(KeyContext::decode(context.encode()), FailsWith(Reason::kTokenInvalid));
  };
  refused([](KeyContext& c) { c.tenant = std::string(65, 'x'); });
  refused([](KeyContext& c) { c.tenant = "\xFF"; });
  refused([](KeyContext& c) { c.host_scope = std::string(65, 'x'); });
  refused([](KeyContext& c) { c.device_binding = std::string(129, 'x'); });
  refused([](KeyContext& c) { c.cipher = std::string(33, 'x'); });
  refused([](KeyContext& c) { c.key_bytes = 15; });
  refused([](KeyContext& c) { c.key_bytes = 4097; });
  refused([](KeyContext& c) { c.flags = 2; });
  refused([](KeyContext& c) { c.volume.reset(); });
  refused([](KeyContext& c) { c.purpose = Purpose::kEnvelopeData; });
  refused([](KeyContext& c) { c.purpose = static_cast<Purpose>(6); });
  refused([](KeyContext& c) { c.application = "{}"; });
  refused([](KeyContext& c) {
    c.purpose = Purpose::kData;
    c.volume.reset();
    c.application = std::string(1025, 'x');
  });
  EXPECT_THAT(some_context().require_valid(), Succeeds());
}

TEST(KeyContextFormat, TheLargestContextFits) {
  KeyContext context = some_context();
  context.tenant = std::string(64, 't');
  context.host_scope = std::string(64, 'h');
  context.device_binding = std::string(128, 'd');
  context.cipher = std::string(32, 'c');
  context.volume.reset();
  context.purpose = Purpose::kData;
  context.application = std::string(1024, 'a');
  EXPECT_LE(context.encode().size(), KeyContext::kEncodedBytesMax);
  EXPECT_THAT(KeyContext::decode(context.encode()), Succeeds());
}

TEST(RequireSame, NamesTheFieldThatDiffersByItsReason) {
  const auto reason_when = [](void (*edit)(KeyContext&)) {
    KeyContext found = some_context();
    edit(found);
    const auto same = require_same(some_context(), found);
    EXPECT_FALSE(same);
    return same ? Reason::kInternal : same.error().reason();
  };
  EXPECT_THAT(require_same(some_context(), some_context()), Succeeds());
  EXPECT_EQ(reason_when([](KeyContext& c) { c.tenant = "other"; }), Reason::kWrongTenant);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.purpose = Purpose::kHeaderMac; }),
            Reason::kWrongPurpose);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.volume = VolumeId(Uuid()); }), Reason::kWrongVolume);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.volume.reset(); }), Reason::kWrongVolume);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.host_scope = ""; }), Reason::kWrongHost);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.generation = 2; }), Reason::kWrongGeneration);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.profile_digest = {}; }), Reason::kProfileMismatch);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.device_binding = ""; }), Reason::kBlobInvalid);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.cipher = "x"; }), Reason::kBlobInvalid);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.key_bytes = 32; }), Reason::kBlobInvalid);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.flags = 0; }), Reason::kBlobInvalid);
  EXPECT_EQ(reason_when([](KeyContext& c) { c.application = "x"; }), Reason::kBlobInvalid);
}

TEST(WrappedKeyFormat, ReadsBackWhatItWroteInEveryProfile) {
  for (const auto profile :
       {KekProfile::kAesGcm, KekProfile::kAesKeyWrapHmac, KekProfile::kRsaOaepHmac,
        KekProfile::kAesCbcHmac, KekProfile::kSm4Gcm, KekProfile::kSm4CbcHmac}) {
    const auto blob = some_blob(profile);
    EXPECT_EQ(*WrappedKey::decode(blob.encode()), blob) << kek_profile_name(profile);
  }
}

TEST(WrappedKeyFormat, HeaderIsTheOneThatTheFormatPageShows) {
  EXPECT_EQ(to_hex(some_blob(KekProfile::kAesGcm).header()),
            "4346574b"
            "02"
            "01"
            "11111111222243338444555555555555"
            "00000007");
}

TEST(WrappedKeyFormat, WhateverIsAcceptedHasOneEncoding) {
  for (const auto profile : {KekProfile::kAesGcm, KekProfile::kAesCbcHmac}) {
    const Bytes good = some_blob(profile).encode();
    for (std::size_t i = 0; i < good.size(); ++i) {
      for (unsigned bit = 0; bit < 8; ++bit) {
        Bytes edited = good;
        edited[i] ^= static_cast<std::byte>(1U << bit);
        const auto read = WrappedKey::decode(edited);
        if (read) {
          EXPECT_EQ(read->encode(), edited) << i;
        }
      }
      EXPECT_THAT(WrappedKey::decode(ByteView(good).first(i)), FailsWith(Reason::kBlobInvalid));
    }
  }
}

TEST(WrappedKeyFormat, EachProfileHasItsOwnLengths) {
  auto blob = some_blob(KekProfile::kAesGcm);
  blob.profile = KekProfile::kAesCbcHmac;
  EXPECT_THAT(WrappedKey::decode(blob.encode()), FailsWith(Reason::kBlobInvalid));
  blob = some_blob(KekProfile::kAesGcm);
  blob.tag.resize(12);
  EXPECT_THAT(WrappedKey::decode(blob.encode()), FailsWith(Reason::kBlobInvalid));
  blob = some_blob(KekProfile::kAesGcm);
  blob.ciphertext.clear();
  EXPECT_THAT(WrappedKey::decode(blob.encode()), FailsWith(Reason::kBlobInvalid));
  blob.ciphertext.resize(WrappedKey::kEncodedBytesMax);
  EXPECT_THAT(WrappedKey::decode(blob.encode()), FailsWith(Reason::kBlobInvalid));
  blob = some_blob(KekProfile::kAesGcm);
  blob.profile = KekProfile::kNone;
  EXPECT_THAT(WrappedKey::decode(blob.encode()), FailsWith(Reason::kBlobInvalid));
  blob = some_blob(KekProfile::kAesGcm);
  blob.cmk_version = 0;
  EXPECT_THAT(WrappedKey::decode(blob.encode()), FailsWith(Reason::kBlobInvalid));
}

TEST(CmkRecordFormat, ReadsBackWhatItWrote) {
  EXPECT_EQ(*CmkRecord::decode(with_seal(some_record())), some_record());
  EXPECT_EQ(some_record().current().number, 2U);
  EXPECT_EQ(some_record().find_version(1)->wraps_leased, 65536U);
  EXPECT_EQ(some_record().find_version(3), nullptr);
}

TEST(CmkRecordFormat, ReadsBackEveryKindOfKey) {
  CmkRecord signer = some_record();
  signer.algorithm = KeyAlgorithm::kSm2;
  signer.usage = KeyUsage::kSignVerify;
  signer.versions.resize(1);
  signer.versions[0] = {.profile = KekProfile::kNone,
                        .created = signer.created,
                        .material = Bytes(200, std::byte{1}),
                        .public_key = Bytes(91, std::byte{2})};
  EXPECT_EQ(*CmkRecord::decode(with_seal(signer)), signer);

  EXPECT_EQ(*CmkRecord::decode(with_seal(waiting_record())), waiting_record());

  CmkRecord rotating = some_record();
  rotating.rotation_days = 90;
  rotating.next_rotation = rotating.changed;
  EXPECT_EQ(*CmkRecord::decode(with_seal(rotating)), rotating);

  CmkRecord gone = some_record();
  gone.state = KeyState::kDestroyed;
  for (KeyVersion& version : gone.versions) {
    version.state = VersionState::kDestroyed;
    version.material.clear();
  }
  EXPECT_EQ(*CmkRecord::decode(with_seal(gone)), gone);
}

TEST(CmkRecordFormat, WhateverIsAcceptedHasOneEncoding) {
  expect_one_encoding(with_seal(some_record()));
  expect_one_encoding(with_seal(waiting_record()));
}

TEST(CmkRecordFormat, CutRecordsAreRefused) {
  const SealedRecord good = with_seal(some_record());
  for (std::size_t i = 0; i < good.size() - CmkRecord::kSealBytes; ++i) {
    EXPECT_THAT(CmkRecord::decode(ByteView(good).first(i)), FailsWith(Reason::kRecordInvalid));
  }
}

TEST(CmkRecordFormat, RecordsThatContradictThemselvesAreRefused) {
  const auto refused = [](void (*edit)(CmkRecord&)) {
    CmkRecord record = some_record();
    edit(record);
    EXPECT_THAT(CmkRecord::decode(with_seal(record)), FailsWith(Reason::kRecordInvalid));
  };
  refused([](CmkRecord& r) { r.revision = 0; });
  refused([](CmkRecord& r) { r.state = static_cast<KeyState>(7); });
  refused([](CmkRecord& r) { r.state = KeyState::kDestroyed; });
  refused([](CmkRecord& r) { r.state = KeyState::kPendingDelete; });
  refused([](CmkRecord& r) { r.state = KeyState::kPendingImport; });
  refused([](CmkRecord& r) { r.delete_at = r.created; });
  refused([](CmkRecord& r) { r.next_rotation = r.created; });
  refused([](CmkRecord& r) { r.rotation_days = 30; });
  refused([](CmkRecord& r) {
    r.rotation_days = 6;
    r.next_rotation = r.created;
  });
  refused([](CmkRecord& r) { r.material_digest = Bytes(32); });
  refused([](CmkRecord& r) { r.material_valid_to = r.created; });
  refused([](CmkRecord& r) { r.usage = KeyUsage::kSignVerify; });
  refused([](CmkRecord& r) {
    r.origin = KeyOrigin::kImported;
    r.rotation_days = 30;
    r.next_rotation = r.created;
  });
  refused([](CmkRecord& r) {
    r = waiting_record();
    r.material_valid_to = r.created;
  });
  // A private key without its public half.
  refused([](CmkRecord& r) {
    r.algorithm = KeyAlgorithm::kSm2;
    r.usage = KeyUsage::kSignVerify;
    for (auto& version : r.versions) version.profile = KekProfile::kNone;
  });
  refused([](CmkRecord& r) { r.algorithm = KeyAlgorithm::kSm2; });
  refused([](CmkRecord& r) { r.versions[1].profile = KekProfile::kNone; });
  refused([](CmkRecord& r) { r.versions[1].public_key = Bytes(1); });
  refused([](CmkRecord& r) { r.alias = "-up"; });
  refused([](CmkRecord& r) { r.description = std::string(1025, 'x'); });
  refused([](CmkRecord& r) { r.root_id = std::string(65, 'x'); });
  refused([](CmkRecord& r) { r.versions.clear(); });
  refused([](CmkRecord& r) { r.versions[0].number = 2; });
  refused([](CmkRecord& r) { r.versions[0].number = 0; });
  refused([](CmkRecord& r) { r.versions[0].state = VersionState::kCurrent; });
  refused([](CmkRecord& r) { r.versions[1].state = VersionState::kDecryptOnly; });
  refused([](CmkRecord& r) { r.versions[1].material.clear(); });
  refused([](CmkRecord& r) { r.versions[1].material.resize(4097); });
  refused([](CmkRecord& r) { r.versions[1].wraps_leased = (1ULL << 32U) + 1; });
  refused([](CmkRecord& r) { r.created = WallTime(std::chrono::microseconds(-1)); });
  refused([](CmkRecord& r) {
    r.versions[0].material.resize(4096);
    r.versions.resize(CmkRecord::kVersionsMax + 1);
  });
}

TEST(CmkRecordFormat, ADestroyedVersionAndAKeyWaitingForImportHaveNoMaterial) {
  CmkRecord record = some_record();
  record.versions[0].state = VersionState::kDestroyed;
  record.versions[0].material.clear();
  EXPECT_THAT(CmkRecord::decode(with_seal(record)), Succeeds());
  record.state = KeyState::kPendingImport;
  record.origin = KeyOrigin::kImported;
  record.versions[1].material.clear();
  EXPECT_THAT(CmkRecord::decode(with_seal(record)), Succeeds());
}

// Its public half came with the first import, and stays.
TEST(CmkRecordFormat, AnImportedPrivateKeyHasItsPublicHalfOnceItWasBrought) {
  const auto decoded = [](const CmkRecord& record) { return CmkRecord::decode(with_seal(record)); };
  CmkRecord record = some_record();
  record.origin = KeyOrigin::kImported;
  record.state = KeyState::kPendingImport;
  record.algorithm = KeyAlgorithm::kSm2;
  record.usage = KeyUsage::kSignVerify;
  record.versions.resize(1);
  KeyVersion& version = record.versions[0];
  version.state = VersionState::kCurrent;
  version.profile = KekProfile::kNone;
  version.material.clear();
  record.protection = Protection::kWrapped;
  EXPECT_THAT(decoded(record), FailsWith(Reason::kRecordInvalid)) << "it could not be used";
  record.protection = Protection::kRooted;
  ASSERT_THAT(decoded(record), Succeeds());
  EXPECT_EQ(*decoded(record), record);
  version.public_key = Bytes(91, std::byte{3});
  EXPECT_THAT(decoded(record), FailsWith(Reason::kRecordInvalid)) << "nothing was brought yet";
  record.material_digest = Bytes(32, std::byte{4});
  EXPECT_THAT(decoded(record), Succeeds());
  version.material = Bytes(100);
  record.state = KeyState::kEnabled;
  EXPECT_THAT(decoded(record), Succeeds());
  version.public_key.clear();
  EXPECT_THAT(decoded(record), FailsWith(Reason::kRecordInvalid));
  record.material_digest.clear();
  EXPECT_THAT(decoded(record), FailsWith(Reason::kRecordInvalid)) << "material without its digest";
  record.material_digest = Bytes(32, std::byte{4});
  version.public_key = Bytes(91, std::byte{3});
  record.rotation_days = 30;
  record.next_rotation = record.created;
  EXPECT_THAT(decoded(record), FailsWith(Reason::kRecordInvalid)) << "it does not rotate";
}

TEST(Alias, IsOneToSixtyOfItsCharactersStartingWithALetterOrDigit) {
  for (const char* good : {"a", "A-1_b", "1a", "7", "default"})
    EXPECT_THAT(require_alias(good), Succeeds());
  EXPECT_THAT(require_alias(std::string(60, 'a')), Succeeds());
  for (const char* bad : {"", "-a", "_a", "a b", "a/b", "ä", "a.b"}) {
    EXPECT_THAT(require_alias(bad), FailsWith(Reason::kInvalidArgs)) << bad;
  }
  EXPECT_THAT(require_alias(std::string(61, 'a')), FailsWith(Reason::kInvalidArgs));
}

TEST(Names, AreThoseThatCallersSee) {
  EXPECT_EQ(key_state_name(KeyState::kEnabled), "Enabled");
  EXPECT_EQ(key_state_name(KeyState::kPendingDelete), "PendingDelete");
  EXPECT_EQ(protection_name(Protection::kWrapped), "wrapped");
  EXPECT_EQ(token_kind_name(TokenKind::kSoftware), "software");
  EXPECT_EQ(key_algorithm_name(KeyAlgorithm::kAes256), "AES-256");
  EXPECT_EQ(key_origin_name(KeyOrigin::kImported), "imported");
  EXPECT_EQ(vault_state_name(VaultState::kPinRefused), "pin-refused");
  EXPECT_EQ(purpose_name(Purpose::kVolumeKey), "volume-key");
  EXPECT_EQ(kek_profile_name(KekProfile::kAesGcm), "aes-gcm");
}

TEST(Ticket, IsNeverTheSame) {
  std::set<Ticket> seen;
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(seen.insert(*draw_ticket()).second);
}

}  // namespace
}  // namespace coffer::keyring

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
  const bool is_gcm = profile == KekProfile::kAesGcm;
  const std::size_t nonce = is_gcm ? 12 : (profile == KekProfile::kAesCbcHmac ? 16 : 0);
  return {profile,
          *CmkId::parse("11111111-2222-4333-8444-555555555555"),
          7,
          Bytes(nonce, std::byte{1}),
          Bytes(64, std::byte{2}),
          Bytes(is_gcm ? 16 : 32, std::byte{3})};
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

TEST(KeyContextFormat, IsTheOneThatTheFormatPageShows) {
  KeyContext context;
  context.volume = *VolumeId::parse("00112233-4455-4677-8899-aabbccddeeff");
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.generation = 1;
  EXPECT_EQ(to_hex(context.encode()),
            "43464b4301"                          // "CFKC", version 1
            "00000000"                            // tenant ""
            "01"                                  // purpose: volume key
            "0100112233445546778899aabbccddeeff"  // a volume
            "00000000"
            "00000000"                                // host scope, device binding ""
            "0000000f6165732d7874732d706c61696e3634"  // "aes-xts-plain64"
            "00000040"                                // 64 bytes
            "0000000000000000000000000000000000000000000000000000000000000000"
            "0000000000000001"  // generation 1
            "00000000");        // no flags
}

TEST(KeyContextFormat, ReadsBackWhatItWrote) {
  EXPECT_EQ(*KeyContext::decode(some_context().encode()), some_context());
  KeyContext data;
  data.purpose = Purpose::kAuditSeal;
  data.key_bytes = 32;
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
  refused([](KeyContext& c) { c.purpose = static_cast<Purpose>(5); });
  EXPECT_THAT(some_context().require_valid(), Succeeds());
}

TEST(KeyContextFormat, TheLargestContextFits) {
  KeyContext context = some_context();
  context.tenant = std::string(64, 't');
  context.host_scope = std::string(64, 'h');
  context.device_binding = std::string(128, 'd');
  context.cipher = std::string(32, 'c');
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
}

TEST(WrappedKeyFormat, ReadsBackWhatItWroteInEveryProfile) {
  for (const auto profile : {KekProfile::kAesGcm, KekProfile::kAesKeyWrapHmac,
                             KekProfile::kRsaOaepHmac, KekProfile::kAesCbcHmac}) {
    const auto blob = some_blob(profile);
    EXPECT_EQ(*WrappedKey::decode(blob.encode()), blob) << kek_profile_name(profile);
  }
}

TEST(WrappedKeyFormat, HeaderIsTheOneThatTheFormatPageShows) {
  EXPECT_EQ(to_hex(some_blob(KekProfile::kAesGcm).header()),
            "4346574b"
            "01"
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
  blob.cmk_version = 0;
  EXPECT_THAT(WrappedKey::decode(blob.encode()), FailsWith(Reason::kBlobInvalid));
}

TEST(CmkRecordFormat, ReadsBackWhatItWrote) {
  EXPECT_EQ(*CmkRecord::decode(with_seal(some_record())), some_record());
  EXPECT_EQ(some_record().current().number, 2U);
  EXPECT_EQ(some_record().find_version(1)->wraps_leased, 65536U);
  EXPECT_EQ(some_record().find_version(3), nullptr);
}

TEST(CmkRecordFormat, WhateverIsAcceptedHasOneEncoding) {
  const SealedRecord good = with_seal(some_record());
  for (std::size_t i = 0; i < good.size() - CmkRecord::kSealBytes; ++i) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      SealedRecord edited = good;
      edited[i] ^= static_cast<std::byte>(1U << bit);
      const auto read = CmkRecord::decode(edited);
      if (read) {
        EXPECT_EQ(with_seal(*read), edited) << i;
      }
    }
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
  refused([](CmkRecord& r) { r.state = static_cast<KeyState>(6); });
  refused([](CmkRecord& r) { r.alias = "7up"; });
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
  record.versions[1].material.clear();
  EXPECT_THAT(CmkRecord::decode(with_seal(record)), Succeeds());
}

TEST(Alias, IsOneToSixtyOfItsCharactersStartingWithALetter) {
  for (const char* good : {"a", "A-1_b", "default"}) EXPECT_THAT(require_alias(good), Succeeds());
  EXPECT_THAT(require_alias(std::string(60, 'a')), Succeeds());
  for (const char* bad : {"", "1a", "-a", "_a", "a b", "a/b", "ä", "a.b"}) {
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

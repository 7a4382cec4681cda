// SPDX-License-Identifier: Apache-2.0
#include "hsm/vault_rules.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/result_matchers.h"

namespace coffer::hsm {
namespace {

using keyring::CmkChange;
using keyring::CmkRecord;
using keyring::KekProfile;
using keyring::KeyState;
using tests::FailsWith;
using tests::Succeeds;

constexpr WallTime kNow{std::chrono::microseconds(1'000'000)};

CmkRecord record_in(KeyState state) {
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  auto record = *first_record(parameters, *CmkId::random(), "root", keyring::TokenKind::kSoftware,
                              KekProfile::kAesGcm, kNow, {});
  record.state = state;
  record.versions.back().material = Bytes(16);
  return record;
}

Result<CmkRecord> next(const CmkRecord& record, const CmkChange& change, const KeyFloor& floor = {},
                       const UseLimits& limits = {}) {
  return next_record(record, change, KekProfile::kAesKeyWrapHmac, floor, kNow, limits);
}

// Every change from every state: the state it leads to, or the reason why not.
TEST(VaultRules, EveryChangeFromEveryStateEndsAsTheTableSays) {
  struct Row {
    KeyState from;
    Reason refused;  // Of what is not allowed from here.
    bool enable, disable, rotate, lease;
  };
  const std::vector<Row> table{
      {KeyState::kEnabled, Reason::kInternal, true, true, true, true},
      {KeyState::kDisabled, Reason::kKeyDisabled, true, true, false, false},
      {KeyState::kArchived, Reason::kKeyArchived, false, false, false, false},
      {KeyState::kPendingImport, Reason::kKeyPendingImport, false, false, false, false},
      {KeyState::kPendingDelete, Reason::kKeyPendingDeletion, false, false, false, false}};
  for (const auto& row : table) {
    const auto record = record_in(row.from);
    const auto expect = [&](const CmkChange& change, bool allowed, KeyState to) {
      const auto made = next(record, change);
      if (!allowed) {
        EXPECT_THAT(made, FailsWith(row.refused)) << key_state_name(row.from);
        return;
      }
      ASSERT_THAT(made, Succeeds()) << key_state_name(row.from);
      EXPECT_EQ(made->state, to);
      EXPECT_EQ(made->revision, record.revision + 1);
    };
    expect(CmkChange::kEnable, row.enable, KeyState::kEnabled);
    expect(CmkChange::kDisable, row.disable, KeyState::kDisabled);
    expect(CmkChange::kRotate, row.rotate, KeyState::kEnabled);
    expect(CmkChange::kLease, row.lease, KeyState::kEnabled);
    expect(CmkChange::kAdopt, true,
           row.from == KeyState::kPendingDelete ? row.from : KeyState::kDisabled);
  }
}

TEST(VaultRules, OnlyAnEnabledKeyWrapsAndAnArchivedOneStillUnwraps) {
  EXPECT_THAT(require_may_wrap(record_in(KeyState::kEnabled), kNow), Succeeds());
  EXPECT_THAT(require_may_unwrap(record_in(KeyState::kEnabled), kNow), Succeeds());
  EXPECT_THAT(require_may_wrap(record_in(KeyState::kArchived), kNow),
              FailsWith(Reason::kKeyArchived));
  EXPECT_THAT(require_may_unwrap(record_in(KeyState::kArchived), kNow), Succeeds());
  EXPECT_THAT(require_may_unwrap(record_in(KeyState::kDisabled), kNow),
              FailsWith(Reason::kKeyDisabled));
  EXPECT_THAT(require_may_unwrap(record_in(KeyState::kPendingDelete), kNow),
              FailsWith(Reason::kKeyPendingDeletion));
  EXPECT_THAT(require_may_unwrap(record_in(KeyState::kPendingImport), kNow),
              FailsWith(Reason::kKeyPendingImport));
}

TEST(VaultRules, MaterialThatHasExpiredIsNotUsedEvenIfTheRecordStillHasIt) {
  CmkRecord record = record_in(KeyState::kEnabled);
  record.origin = keyring::KeyOrigin::kImported;
  record.material_valid_to = kNow + std::chrono::seconds(1);
  EXPECT_THAT(require_may_wrap(record, kNow), Succeeds());
  EXPECT_THAT(require_may_unwrap(record, kNow), Succeeds());
  const WallTime end = *record.material_valid_to;
  EXPECT_THAT(require_may_wrap(record, end), FailsWith(Reason::kKeyPendingImport));
  EXPECT_THAT(require_may_unwrap(record, end), FailsWith(Reason::kKeyPendingImport));
}

TEST(VaultRules, AnAsymmetricKeyServesWhileItIsEnabledAndHasItsMaterial) {
  CmkRecord record = record_in(KeyState::kEnabled);
  record.algorithm = keyring::KeyAlgorithm::kEcP256;
  record.usage = keyring::KeyUsage::kSignVerify;
  const auto may = [&](WallTime now) { return require_may_use(record, record.usage, now); };
  EXPECT_THAT(may(kNow), Succeeds());
  EXPECT_THAT(require_may_use(record, keyring::KeyUsage::kAsymmetricDecrypt, kNow),
              FailsWith(Reason::kKeyUsage));
  record.origin = keyring::KeyOrigin::kImported;
  record.material_valid_to = kNow + std::chrono::seconds(1);
  EXPECT_THAT(may(kNow), Succeeds());
  EXPECT_THAT(may(*record.material_valid_to), FailsWith(Reason::kKeyPendingImport));
  for (const auto& [state, reason] :
       {std::pair(KeyState::kDisabled, Reason::kKeyDisabled),
        std::pair(KeyState::kArchived, Reason::kKeyArchived),
        std::pair(KeyState::kPendingImport, Reason::kKeyPendingImport),
        std::pair(KeyState::kPendingDelete, Reason::kKeyPendingDeletion)}) {
    record.state = state;
    EXPECT_THAT(may(kNow), FailsWith(reason)) << key_state_name(state);
  }
}

TEST(VaultRules, HowLongToKeepMaterialIsSetOnlyWhereThereIsSomeToKeep) {
  const auto ends = [](const CmkRecord& record, std::optional<WallTime> time) {
    CmkChange change = CmkChange::kSetValidTo;
    change.time = time;
    return next(record, change);
  };
  CmkRecord record = record_in(KeyState::kEnabled);
  EXPECT_THAT(ends(record, {}), FailsWith(Reason::kKeyNotImported));
  record.origin = keyring::KeyOrigin::kImported;
  EXPECT_THAT(ends(record, kNow), FailsWith(Reason::kInvalidArgs));
  const WallTime last{std::chrono::seconds(2'147'443'200)};
  EXPECT_THAT(ends(record, last), Succeeds());
  EXPECT_THAT(ends(record, last + std::chrono::microseconds(1)), FailsWith(Reason::kInvalidArgs));
  const auto set = ends(record, kNow + std::chrono::hours(1));
  ASSERT_THAT(set, Succeeds());
  EXPECT_EQ(set->material_valid_to, kNow + std::chrono::hours(1));
  EXPECT_EQ(ends(*set, {})->material_valid_to, std::nullopt);
  CmkRecord services = record;
  services.owner = keyring::KeyOwner::kService;
  EXPECT_THAT(ends(services, {}), FailsWith(Reason::kServiceKey));
  record.state = KeyState::kPendingDelete;
  EXPECT_THAT(ends(record, {}), FailsWith(Reason::kKeyPendingDeletion));
  record.state = KeyState::kPendingImport;
  record.versions.back().material.clear();
  EXPECT_THAT(ends(record, {}), FailsWith(Reason::kKeyPendingImport));
}

TEST(VaultRules, AnOfferIsNotAdopted) {
  CmkRecord record = record_in(KeyState::kPendingImport);
  record.origin = keyring::KeyOrigin::kImported;
  record.versions.back().material.clear();
  record.offer.emplace();
  const auto adopted = next(record, CmkChange::kAdopt);
  ASSERT_THAT(adopted, Succeeds());
  EXPECT_EQ(adopted->state, KeyState::kPendingImport);
  EXPECT_FALSE(adopted->offer.has_value());
}

TEST(VaultRules, PrivateKeysLeaseNothing) {
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  parameters.algorithm = keyring::KeyAlgorithm::kEcP256;
  parameters.usage = keyring::KeyUsage::kSignVerify;
  const auto record = *first_record(parameters, *CmkId::random(), "root",
                                    keyring::TokenKind::kSoftware, KekProfile::kNone, kNow, {});
  EXPECT_EQ(record.current().wraps_leased, 0U);
  EXPECT_THAT(next(record, CmkChange::kLease), FailsWith(Reason::kKeyUsage));
}

TEST(VaultRules, ARotationTakesTheTokensProfileAndLeavesTheOldVersionToDecrypt) {
  const auto rotated = *next(record_in(KeyState::kEnabled), CmkChange::kRotate);
  ASSERT_EQ(rotated.versions.size(), 2U);
  EXPECT_EQ(rotated.versions[0].state, keyring::VersionState::kDecryptOnly);
  EXPECT_EQ(rotated.versions[1].profile, KekProfile::kAesKeyWrapHmac);
  EXPECT_EQ(rotated.versions[1].number, 2U);
}

TEST(VaultRules, AKeyWithAllItsVersionsIsNotRotated) {
  auto record = record_in(KeyState::kEnabled);
  record.versions.resize(CmkRecord::kVersionsMax, record.versions.back());
  EXPECT_THAT(next(record, CmkChange::kRotate), FailsWith(Reason::kLimitsExceeded));
}

TEST(VaultRules, AnAdoptedRecordLiesAboveTheFloor) {
  EXPECT_EQ(next(record_in(KeyState::kEnabled), CmkChange::kAdopt, {41, 1})->revision, 42U);
}

TEST(VaultRules, ANumberOfAVersionIsNotGivenTwice) {
  const auto record = record_in(KeyState::kEnabled);
  const auto rotated = next(record, CmkChange::kRotate, {41, 7});
  ASSERT_THAT(rotated, Succeeds());
  EXPECT_EQ(rotated->current().number, 8U);
}

// Every revision that an adopted record has not seen may have been a lease.
TEST(VaultRules, AnAdoptedRecordCountsWhatMayHaveBeenUsedSince) {
  const UseLimits limits{.lease_block = 3, .wraps_max = 20};
  auto record = record_in(KeyState::kEnabled);
  record.versions.back().wraps_leased = 3;
  const auto leased = [&](std::uint64_t floor) {
    return next(record, CmkChange::kAdopt, {floor, 1}, limits)->current().wraps_leased;
  };
  EXPECT_EQ(leased(0), 3U) << "another vault's";
  EXPECT_EQ(leased(record.revision), 3U);
  EXPECT_EQ(leased(record.revision + 2), 9U);
  EXPECT_EQ(leased(record.revision + 5), 18U);
  EXPECT_EQ(leased(record.revision + 6), 20U);
  EXPECT_EQ(leased(std::uint64_t{1} << 63U), 20U);
}

// Three versions, as an older copy has them.
CmkRecord record_of_three() {
  CmkRecord record = record_in(KeyState::kEnabled);
  for (std::uint32_t number = 2; number <= 3; ++number) {
    record.versions.back().state = keyring::VersionState::kDecryptOnly;
    record.versions.push_back(record.versions.back());
    record.versions.back().number = number;
    record.versions.back().state = keyring::VersionState::kCurrent;
  }
  return record;
}

TEST(VaultRules, ACopyOfADestroyedKeyIsNotAdopted) {
  KeyFloor floor{.revision = 9, .version = 1};
  floor.destroyed = true;
  EXPECT_THAT(next(record_in(KeyState::kEnabled), CmkChange::kAdopt, floor),
              FailsWith(Reason::kNoSuchKey));
}

TEST(VaultRules, AnAdoptedRecordLeavesOutWhatIsGone) {
  KeyFloor floor{.revision = 9, .version = 5};
  floor.gone = {2};
  auto adopted = next(record_of_three(), CmkChange::kAdopt, floor);
  ASSERT_THAT(adopted, Succeeds());
  ASSERT_EQ(adopted->versions.size(), 3U);
  EXPECT_EQ(adopted->versions[1].state, keyring::VersionState::kDestroyed);
  EXPECT_TRUE(adopted->versions[1].material.empty());
  EXPECT_EQ(adopted->current().number, 3U);

  floor.gone = {2, 3};  // The copy's current one was destroyed since, as an older one.
  adopted = next(record_of_three(), CmkChange::kAdopt, floor);
  ASSERT_THAT(adopted, Succeeds());
  ASSERT_EQ(adopted->versions.size(), 1U);
  EXPECT_EQ(adopted->current().state, keyring::VersionState::kCurrent);

  floor.gone = {};
  floor.first = 4;
  EXPECT_THAT(next(record_of_three(), CmkChange::kAdopt, floor), FailsWith(Reason::kNoSuchKey));
}

TEST(VaultRules, ImportedMaterialThatWasDroppedIsNotAdopted) {
  CmkRecord record = record_in(KeyState::kEnabled);
  record.origin = keyring::KeyOrigin::kImported;
  record.material_valid_to = kNow + std::chrono::hours(1);
  KeyFloor floor{.revision = 9, .version = 1};
  floor.gone = {1};
  const auto adopted = next(record, CmkChange::kAdopt, floor);
  ASSERT_THAT(adopted, Succeeds());
  EXPECT_EQ(adopted->state, KeyState::kPendingImport);
  EXPECT_FALSE(adopted->has_material());
  EXPECT_EQ(adopted->material_valid_to, std::nullopt);
}

TEST(VaultRules, AKeyThatIsToBeDeletedIsNotRescuedByAdoption) {
  CmkRecord record = record_in(KeyState::kPendingDelete);
  record.delete_at = kNow + std::chrono::seconds(1);
  const auto adopted = next(record, CmkChange::kAdopt, {41, 1});
  ASSERT_THAT(adopted, Succeeds());
  EXPECT_EQ(adopted->state, KeyState::kPendingDelete);
  EXPECT_EQ(adopted->delete_at, record.delete_at);
  record.delete_at = kNow;
  EXPECT_THAT(next(record, CmkChange::kAdopt, {41, 1}), FailsWith(Reason::kKeyPendingDeletion));
}

TEST(VaultRules, AnAdoptedKeyPlansItsRotationAnew) {
  CmkRecord record = record_in(KeyState::kEnabled);
  record.rotation_days = 30;
  record.next_rotation = kNow - std::chrono::hours(1);
  EXPECT_EQ(next(record, CmkChange::kAdopt, {41, 1})->next_rotation, kNow + std::chrono::days(30));
}

TEST(VaultRules, ARotationDropsDestroyedVersionsAtTheFront) {
  CmkRecord record = record_of_three();
  for (const std::size_t i : {0U, 1U}) {
    record.versions[i].state = keyring::VersionState::kDestroyed;
    record.versions[i].material.clear();
  }
  const auto rotated = next(record, CmkChange::kRotate);
  ASSERT_THAT(rotated, Succeeds());
  ASSERT_EQ(rotated->versions.size(), 2U);
  EXPECT_EQ(rotated->versions[0].number, 3U);
  EXPECT_EQ(rotated->versions[1].number, 4U);
}

TEST(VaultRules, UsesAreLeasedUpToTheLimitAndNotBeyond) {
  const UseLimits limits{.lease_block = 3, .wraps_max = 5};
  auto record = record_in(KeyState::kEnabled);
  record.versions.back().wraps_leased = 3;
  record = *next(record, CmkChange::kLease, {}, limits);
  EXPECT_EQ(record.current().wraps_leased, 5U);
  const auto refused = next(record, CmkChange::kLease, {}, limits);
  ASSERT_THAT(refused, FailsWith(Reason::kKeyExhausted));
  EXPECT_THAT(refused.error().message(), testing::EndsWith("; rotate it"));
  record.origin = keyring::KeyOrigin::kImported;
  const auto imported = next(record, CmkChange::kLease, {}, limits);
  ASSERT_THAT(imported, FailsWith(Reason::kKeyExhausted));
  EXPECT_THAT(imported.error().message(), testing::EndsWith("make another one"));
}

TEST(VaultRules, TheMacMessageKeepsItsPartsApart) {
  const Bytes ab(2), abc(3);
  EXPECT_NE(wrap_mac_message(ab, abc, ab), wrap_mac_message(abc, ab, ab));
  EXPECT_NE(wrap_mac_message(ab, {}, abc), wrap_mac_message(ab, abc, {}));
}

TEST(VaultRules, HalvesOfAnXtsKeyAreCompared) {
  Bytes key(64, std::byte{1});
  EXPECT_FALSE(xts_halves_differ(key));
  key[63] = std::byte{2};
  EXPECT_TRUE(xts_halves_differ(key));
}

}  // namespace
}  // namespace coffer::hsm

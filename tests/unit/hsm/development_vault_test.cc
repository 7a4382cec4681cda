// SPDX-License-Identifier: Apache-2.0
#include "hsm/development_vault.h"

#include <gtest/gtest.h>

#include "core/base/files.h"
#include "tests/contract/key_vault_contract.h"
#include "tests/fakes/hand_clock.h"
#include "tests/support/result_matchers.h"
#include "tests/support/temp_dir.h"

namespace coffer::tests {
namespace {

using hsm::DevelopmentVaultOptions;
using keyring::CmkChange;
using keyring::KekProfile;

struct Parts {
  TempDir dir;
  FakeDekSink sink;
};

Result<VaultUnderTest> open_at(const std::shared_ptr<Parts>& parts, KekProfile profile) {
  DevelopmentVaultOptions options;
  options.token = {(parts->dir.path() / "token").string(), profile};
  options.floors_path = (parts->dir.path() / "floors.db").string();
  auto vault = hsm::open_development_vault(options, parts->sink);
  if (!vault) return tl::unexpected(vault.error());
  return VaultUnderTest{parts, std::shared_ptr<keyring::KeyVault>(std::move(*vault)), &parts->sink};
}

VaultMaker maker(std::string name, KekProfile profile) {
  return {std::move(name), [profile] { return open_at(std::make_shared<Parts>(), profile); },
          [profile](VaultUnderTest& before) {
            before.vault.reset();
            return open_at(std::static_pointer_cast<Parts>(before.parts), profile);
          },
          true, ""};
}

INSTANTIATE_TEST_SUITE_P(Development, KeyVaultContract,
                         testing::Values(maker("AesGcm", KekProfile::kAesGcm),
                                         maker("AesKeyWrapHmac", KekProfile::kAesKeyWrapHmac)),
                         maker_name);

// A worker that takes a second for each key.
class SlowSink final : public keyring::DekSink {
 public:
  explicit SlowSink(HandClock& clock) : clock_(clock) {}
  Result<void> deliver(const keyring::Ticket&, std::uint32_t index, const keyring::DekLabel&,
                       const SecretBytes&, Deadline until) override {
    left.push_back(until.left(clock_));
    clock_.now += std::chrono::seconds(1);
    taken.push_back(index);
    return {};
  }

  std::vector<std::uint32_t> taken;
  std::vector<std::chrono::milliseconds> left;  // Of the time for each.

 private:
  HandClock& clock_;
};

class DevelopmentVaultTest : public testing::Test {
 protected:
  std::unique_ptr<keyring::KeyVault> open(const hsm::UseLimits& limits = {}) {
    DevelopmentVaultOptions options;
    options.limits = limits;
    return std::move(*hsm::open_development_vault(options, sink_));
  }

  static Deadline soon() { return Deadline::after(std::chrono::seconds(60)); }

  static std::vector<keyring::KeyVault::Plain> keys(std::size_t count) {
    std::vector<keyring::KeyVault::Plain> all(count);
    for (auto& one : all) {
      one.key = *SecretBytes::random(32);
      one.context.purpose = keyring::Purpose::kEnvelopeData;
      one.context.key_bytes = 32;
    }
    return all;
  }

  FakeDekSink sink_;
  TempDir dir_;
};

TEST_F(DevelopmentVaultTest, ItSaysWhatItIsInHealthAndOnStandardError) {
  testing::internal::CaptureStderr();
  const auto vault = open();
  const auto said = testing::internal::GetCapturedStderr();
  EXPECT_NE(said.find("DEVELOPMENT VAULT - KEYS ARE NOT PROTECTED"), std::string::npos) << said;
  EXPECT_EQ(vault->health().token_label, "DEVELOPMENT VAULT - KEYS ARE NOT PROTECTED");
  EXPECT_EQ(vault->health().kind, keyring::TokenKind::kSoftware);
  EXPECT_EQ(vault->health().maker, keyring::VaultMaker::kDevelopment);
}

TEST_F(DevelopmentVaultTest, ItDoesNotClaimAProtectionItCannotGive) {
  const auto vault = open();
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  parameters.protection = keyring::Protection::kResident;
  EXPECT_THAT(vault->create_cmk(parameters), FailsWith(Reason::kUnsupported));
  parameters.protection = keyring::Protection::kWrapped;
  parameters.algorithm = keyring::KeyAlgorithm::kSm4;
  EXPECT_THAT(vault->create_cmk(parameters), FailsWith(Reason::kUnsupported));
}

TEST_F(DevelopmentVaultTest, AKeyRefusesExactlyAtItsLimitOfUses) {
  const auto vault = open({.lease_block = 3, .wraps_max = 5});
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  const auto first = vault->create_cmk(parameters);
  ASSERT_THAT(first, Succeeds());
  EXPECT_THAT(vault->wrap(*first, keys(2), soon()).at(1), Succeeds());
  EXPECT_THAT(vault->wrap(*first, keys(2), soon()).at(0), FailsWith(Reason::kKeyExhausted));
  EXPECT_THAT(vault->wrap(*first, keys(1), soon()).at(0), Succeeds());

  const auto second = vault->change_cmk(*first, CmkChange::kLease);
  ASSERT_THAT(second, Succeeds());
  EXPECT_THAT(vault->wrap(*second, keys(2), soon()).at(1), Succeeds());
  EXPECT_THAT(vault->wrap(*second, keys(1), soon()).at(0), FailsWith(Reason::kKeyExhausted));
  EXPECT_THAT(vault->change_cmk(*second, CmkChange::kLease), FailsWith(Reason::kKeyExhausted));

  const auto third = vault->change_cmk(*second, CmkChange::kRotate);
  ASSERT_THAT(third, Succeeds());
  EXPECT_THAT(vault->wrap(*third, keys(3), soon()).at(2), Succeeds());
}

TEST_F(DevelopmentVaultTest, OfMoreKeysThanItCountsItKeepsTheMostUsed) {
  const auto vault = open({.lease_block = 2, .counted_max = 2});
  std::vector<keyring::SealedRecord> records;
  for (const auto* alias : {"a", "b", "c"}) {
    keyring::CmkParameters parameters;
    parameters.alias = alias;
    records.push_back(*vault->create_cmk(parameters));
  }
  const auto wrap = [&](std::size_t at, std::size_t count) {
    return vault->wrap(records[at], keys(count), soon()).at(0);
  };
  EXPECT_THAT(wrap(0, 2), Succeeds());
  EXPECT_THAT(wrap(1, 1), Succeeds());
  EXPECT_THAT(wrap(1, 2), FailsWith(Reason::kKeyExhausted)) << "two are counted";
  EXPECT_THAT(wrap(2, 1), Succeeds()) << "the third is not refused";
  EXPECT_THAT(wrap(0, 1), FailsWith(Reason::kKeyExhausted)) << "still counted";
  EXPECT_THAT(wrap(1, 2), Succeeds()) << "anew";
  EXPECT_THAT(wrap(0, 1), FailsWith(Reason::kKeyExhausted)) << "still counted";
}

TEST_F(DevelopmentVaultTest, ItStopsWhenTheTimeIsOverAndWhatIsDoneByThenCounts) {
  HandClock clock;
  SlowSink sink(clock);
  DevelopmentVaultOptions options;
  options.limits = {.lease_block = 5, .wraps_max = 5};
  const auto vault = std::move(*hsm::open_development_vault(options, sink, clock));
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  const auto record = vault->create_cmk(parameters);
  ASSERT_THAT(record, Succeeds());
  keyring::KeyContext context;
  context.volume = *VolumeId::random();
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.generation = 1;
  const std::vector<keyring::KeyContext> contexts(5, context);
  const auto in = [&](int milliseconds) {
    return Deadline::after(std::chrono::milliseconds(milliseconds), clock);
  };

  auto made = vault->make_deks(*record, contexts, {}, 0, in(2500));
  ASSERT_EQ(made.size(), 5U);
  // A third would have ended half a second after the deadline.
  for (std::size_t i = 0; i < 2; ++i) EXPECT_THAT(made[i], Succeeds());
  for (std::size_t i = 2; i < 5; ++i) EXPECT_THAT(made[i], FailsWith(Reason::kHsmTimeout));
  EXPECT_EQ(sink.taken, (std::vector<std::uint32_t>{0, 1}));
  // Those that were not made used none of the five that are leased.
  made = vault->make_deks(*record, {contexts.data(), 3}, {}, 3, in(3000));
  for (const auto& one : made) EXPECT_THAT(one, Succeeds());
  made = vault->make_deks(*record, {contexts.data(), 1}, {}, 5, in(2500));
  EXPECT_THAT(made.at(0), FailsWith(Reason::kKeyExhausted));
}

TEST_F(DevelopmentVaultTest, ItBeginsNoKeyThatWouldEndAfterTheDeadline) {
  HandClock clock;
  SlowSink sink(clock);
  const auto vault = std::move(*hsm::open_development_vault({}, sink, clock));
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  const auto record = vault->create_cmk(parameters);
  ASSERT_THAT(record, Succeeds());
  keyring::KeyContext context;
  context.volume = *VolumeId::random();
  context.cipher = "aes-xts-plain64";
  context.key_bytes = 64;
  context.generation = 1;
  const auto made = vault->make_deks(*record, {&context, 1}, {}, 9,
                                     Deadline::after(std::chrono::milliseconds(100), clock));
  ASSERT_THAT(made.at(0), Succeeds());
  EXPECT_EQ(sink.left, (std::vector{std::chrono::milliseconds(300)}))
      << "what is ready is handed over, though the time ends just now";
  sink.taken.clear();

  const std::vector<keyring::Presented> presented(4, {*made[0], context});
  const std::vector<std::uint32_t> indexes{0, 1, 2, 3};
  const auto results = vault->deliver(*record, presented, {}, indexes,
                                      Deadline::after(std::chrono::milliseconds(1500), clock));
  // The first key of a call is begun whatever it takes, and a second one that fits into the time.
  EXPECT_EQ(sink.taken, (std::vector<std::uint32_t>{0}));
  EXPECT_THAT(results.at(0), Succeeds());
  EXPECT_THAT(results.at(1), FailsWith(Reason::kHsmTimeout));
  EXPECT_THAT(results.at(2), FailsWith(Reason::kHsmTimeout));
  EXPECT_THAT(results.at(3), FailsWith(Reason::kHsmTimeout));
}

TEST_F(DevelopmentVaultTest, AFileThatIsNoTokenIsRefused) {
  const auto path = (dir_.path() / "token").string();
  ASSERT_THAT(write_file_durably(path, as_bytes("something else")), Succeeds());
  EXPECT_THAT(hsm::open_software_token({path}), FailsWith(Reason::kRecordInvalid));
}

TEST_F(DevelopmentVaultTest, AProfileItDoesNotHaveIsRefused) {
  EXPECT_THAT(hsm::open_software_token({"", KekProfile::kRsaOaepHmac}),
              FailsWith(Reason::kUnsupported));
}

}  // namespace
}  // namespace coffer::tests

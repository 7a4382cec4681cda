// SPDX-License-Identifier: Apache-2.0
#include "agent/provider_monitor.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "agent/reopening_log.h"
#include "core/audit/journal.h"
#include "tests/fakes/fake_audit.h"
#include "tests/fakes/fake_journal_files.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using agent::ProviderMonitor;
using agent::ReopeningLog;
using keyring::VaultState;
using std::chrono::milliseconds;
using std::chrono::seconds;

class TurnedClock final : public Clock {
 public:
  WallTime wall() const override { return {}; }
  SteadyTime steady() const override { return now; }
  std::chrono::microseconds since_boot() const override { return {}; }
  SteadyTime now{};
};

class ProviderMonitorTest : public ::testing::Test {
 protected:
  static keyring::VaultHealth health(VaultState state) {
    keyring::VaultHealth made;
    made.state = state;
    return made;
  }
  // How long until the next probe is due.
  milliseconds wait() {
    milliseconds passed{0};
    while (!monitor.begin_probe()) {
      clock.now += milliseconds(100);
      passed += milliseconds(100);
    }
    return passed;
  }

  TurnedClock clock;
  ProviderMonitor monitor{{.name = "local",
                           .retry_min = milliseconds(2000),
                           .retry_max = milliseconds(10'000),
                           .idle = milliseconds(60'000),
                           .draw = [] { return 1.0; }},
                          clock};
};

TEST_F(ProviderMonitorTest, SaysWhatItIsAndWhichKeysItMakes) {
  EXPECT_EQ(monitor.info().kind, "unknown");
  monitor.take(health(VaultState::kAbsent));
  EXPECT_EQ(monitor.info().kind, "unknown");
  using keyring::VaultMaker;
  for (const auto& [maker, name] :
       std::vector<std::pair<VaultMaker, std::string>>{{VaultMaker::kPkcs11, "pkcs11"},
                                                       {VaultMaker::kTpm2, "tpm2"},
                                                       {VaultMaker::kSdf, "sdf"},
                                                       {VaultMaker::kDevelopment, "development"}}) {
    auto up = health(VaultState::kUp);
    up.maker = maker;
    monitor.take(up);
    EXPECT_EQ(monitor.info().kind, name);
  }
  auto up = health(VaultState::kUp);
  up.supports = {
      {},
      {keyring::KeyAlgorithm::kSm2, keyring::KeyUsage::kAsymmetricDecrypt,
       keyring::Protection::kRooted},
      {keyring::KeyAlgorithm::kSm2, keyring::KeyUsage::kSignVerify, keyring::Protection::kRooted}};
  monitor.take(up);
  const std::vector<std::string> both{"AES-256", "SM2"};
  EXPECT_EQ(monitor.info().algorithms, both);
  monitor.take(health(VaultState::kAbsent));
  EXPECT_EQ(monitor.info().algorithms, both) << "as it was";
  EXPECT_EQ(monitor.info().kind, "development");
}

TEST_F(ProviderMonitorTest, BacksOffWhileTheTokenIsAwayAndSaysWhenItIsBack) {
  EXPECT_EQ(wait(), milliseconds(0));
  EXPECT_FALSE(monitor.begin_probe()) << "one at a time";
  EXPECT_FALSE(monitor.take(health(VaultState::kAbsent)));
  EXPECT_EQ(monitor.info().last_error->reason(), Reason::kHsmAbsent);
  EXPECT_EQ(wait(), milliseconds(4000));
  monitor.take(health(VaultState::kAbsent));
  EXPECT_EQ(wait(), milliseconds(8000));
  monitor.take(health(VaultState::kAbsent));
  EXPECT_EQ(wait(), milliseconds(10'000));
  EXPECT_TRUE(monitor.take(health(VaultState::kUp)));
  EXPECT_FALSE(monitor.info().last_error);
  EXPECT_EQ(wait(), milliseconds(60'000));
  EXPECT_FALSE(monitor.take(health(VaultState::kUp))) << "it was there already";
}

TEST_F(ProviderMonitorTest, AProbeThatWasNotMadeSaysNothingOfTheToken) {
  wait();
  monitor.take(health(VaultState::kUp));
  wait();
  monitor.put_off_probe();
  EXPECT_EQ(monitor.info().state, "up");
  EXPECT_FALSE(monitor.info().last_error);
  EXPECT_EQ(wait(), milliseconds(2000)) << "and is made soon";
}

TEST_F(ProviderMonitorTest, EachStateOfTheTokenHasItsReason) {
  const std::vector<std::pair<VaultState, Reason>> all = {
      {VaultState::kLoginNeeded, Reason::kHsmLoginNeeded},
      {VaultState::kPinRefused, Reason::kHsmPinIncorrect},
      {VaultState::kPinLocked, Reason::kHsmPinLocked},
      {VaultState::kFailed, Reason::kHsmFailed}};
  for (const auto& [state, reason] : all) {
    monitor.take(health(state));
    EXPECT_EQ(monitor.info().last_error->reason(), reason);
    EXPECT_FALSE(monitor.up());
  }
}

TEST_F(ProviderMonitorTest, AFailedUseBringsTheNextProbeForward) {
  wait();
  monitor.take(health(VaultState::kUp));
  monitor.note_failure(Error(Reason::kHsmAbsent, "gone"));
  EXPECT_FALSE(monitor.up());
  EXPECT_EQ(wait(), milliseconds(2000));
}

TEST(RetryTest, OnlyWhatMayPassIsTriedAgain) {
  EXPECT_TRUE(agent::may_pass(Reason::kHsmPinLocked));
  EXPECT_TRUE(agent::may_pass(Reason::kWorkerLost));
  EXPECT_FALSE(agent::may_pass(Reason::kProfileMismatch));
  EXPECT_FALSE(agent::may_pass(Reason::kHeaderRolledBack));
  EXPECT_FALSE(agent::may_pass(Reason::kWrongKey));
  EXPECT_TRUE(agent::passes_soon(Reason::kHsmTimeout));
  EXPECT_FALSE(agent::passes_soon(Reason::kHsmAbsent));
}

TEST(ReopeningLogTest, RefusesWithoutAJournalAndRecordsWhatWasDeferredWhenThereIsOne) {
  TurnedClock clock;
  FakeAudit* opened = nullptr;
  int attempts = 0;
  bool broken = true;
  ReopeningLog log(
      [&]() -> Result<std::unique_ptr<audit::AuditLog>> {
        ++attempts;
        if (broken) return fail(Reason::kAuditBroken, "damaged");
        auto made = std::make_unique<FakeAudit>();
        opened = made.get();
        return std::unique_ptr<audit::AuditLog>(std::move(made));
      },
      clock);
  EXPECT_THAT(log.try_open(), FailsWith(Reason::kAuditUnavailable));
  EXPECT_THAT(log.append_one({}), FailsWith(Reason::kAuditUnavailable));
  EXPECT_EQ(attempts, 1) << "not with every call";
  audit::Event lock;
  lock.operation = "volume.lock";
  log.append_deferred(lock);
  EXPECT_FALSE(log.available());

  broken = false;
  clock.now += seconds(5);
  EXPECT_THAT(log.append_one({}), Succeeds());
  EXPECT_TRUE(log.available());
  ASSERT_EQ(opened->events().size(), 2U);
  EXPECT_EQ(opened->events().front().operation, "volume.lock");
}

TEST(ReopeningLogTest, ACountStandsForWhatCouldNotBeKept) {
  TurnedClock clock;
  FakeDisk disk;
  bool broken = true;
  ReopeningLog log(
      [&]() -> Result<std::unique_ptr<audit::AuditLog>> {
        if (broken) return fail(Reason::kAuditBroken, "damaged");
        return audit::Journal::open(disk.open(), {.node = HostId(Uuid())});
      },
      clock);
  EXPECT_THAT(log.try_open(), FailsWith(Reason::kAuditUnavailable));
  audit::Event lock;
  lock.operation = "volume.lock";
  for (int i = 0; i < 4097; ++i) log.append_deferred(lock);

  broken = false;
  clock.now += seconds(5);
  EXPECT_THAT(log.append_one(lock), Succeeds());
  audit::Filter filter;
  filter.operation = "volume.lock";
  EXPECT_EQ(log.query(filter, 10'000)->records.size(), 4095U + 1U);
  filter.operation = "audit.dropped";
  const auto notes = log.query(filter, 10)->records;
  ASSERT_EQ(notes.size(), 1U);
  EXPECT_EQ(notes.front().event.text, "2 more events were not kept");
}

TEST(ReopeningLogTest, WhatIsDeferredDoesNotWaitForTheJournalToBeRead) {
  const TurnedClock clock;
  FakeAudit* opened = nullptr;
  std::promise<void> begun;
  std::promise<void> may_end;
  ReopeningLog log(
      [&]() -> Result<std::unique_ptr<audit::AuditLog>> {
        begun.set_value();
        may_end.get_future().wait();
        auto made = std::make_unique<FakeAudit>();
        opened = made.get();
        return std::unique_ptr<audit::AuditLog>(std::move(made));
      },
      clock);
  std::thread recording([&] { EXPECT_THAT(log.append_one({}), Succeeds()); });
  begun.get_future().wait();
  audit::Event lock;
  lock.operation = "volume.lock";
  log.append_deferred(lock);
  EXPECT_FALSE(log.available());
  EXPECT_FALSE(log.head_found().has_value());
  EXPECT_EQ(log.head().sequence, 0U);

  may_end.set_value();
  EXPECT_THAT(log.append_one({}), Succeeds()) << "waits for the one attempt";
  recording.join();
  ASSERT_EQ(opened->events().size(), 3U);
  EXPECT_EQ(opened->events().front().operation, "volume.lock");
}

}  // namespace
}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
// Two vault processes on two tokens with one root key, of which the active one is lost under load.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <iostream>
#include <mutex>
#include <thread>

#include "hsm/standby_vault.h"
#include "hsm/token_setup.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/result_matchers.h"
#include "tests/support/vault_process.h"

namespace coffer::tests {
namespace {

using hsm::StandbyVault;
using keyring::VaultState;
using std::chrono::milliseconds;

SoftHsmFolder& folder() {
  static SoftHsmFolder folder;
  return folder;
}

// One unwrap of the load.
struct Use {
  SteadyTime begun;
  SteadyTime ended;
  std::optional<Error> error;
  bool right = false;
};

// Unwraps of one key each, 100 per second, begun at their times whether earlier ones have ended or
// not.
class Load {
 public:
  static constexpr milliseconds kInterval{10};
  static constexpr std::size_t kCallers = 160;  // More than are ever under way.

  Load(keyring::KeyVault& vault, Bytes record, std::vector<keyring::Presented> key,
       const SecretBytes& plain, milliseconds time_max)
      : vault_(vault),
        record_(std::move(record)),
        key_(std::move(key)),
        plain_(plain),
        time_max_(time_max),
        start_(std::chrono::steady_clock::now()) {
    for (std::size_t i = 0; i < kCallers; ++i) callers_.emplace_back([this] { call(); });
  }
  ~Load() {
    if (!stopping_) stop();
  }
  Load(const Load&) = delete;
  Load& operator=(const Load&) = delete;

  SteadyTime start() const { return start_; }
  std::size_t done() const {
    const std::scoped_lock lock(mutex_);
    return uses_.size();
  }
  // In the order of their begin.
  std::vector<Use> stop() {
    stopping_ = true;
    for (auto& caller : callers_) caller.join();
    std::ranges::sort(uses_, {}, &Use::begun);
    return uses_;
  }

 private:
  void call() {
    while (!stopping_) {
      std::this_thread::sleep_until(start_ + kInterval * next_++);
      Use use;
      use.begun = std::chrono::steady_clock::now();
      const auto keys = vault_.unwrap(record_, key_, Deadline::after(time_max_));
      const auto& key = keys.at(0);
      use.ended = std::chrono::steady_clock::now();
      if (!key) use.error = key.error();
      use.right = key && std::ranges::equal(key->reveal(), plain_.reveal());
      const std::scoped_lock lock(mutex_);
      uses_.push_back(std::move(use));
    }
  }

  keyring::KeyVault& vault_;
  const Bytes record_;
  const std::vector<keyring::Presented> key_;  // One.
  const SecretBytes& plain_;
  const milliseconds time_max_;
  const SteadyTime start_;
  std::atomic<int> next_{0};
  std::atomic<bool> stopping_{false};
  mutable std::mutex mutex_;
  std::vector<Use> uses_;
  std::vector<std::thread> callers_;
};

double in_ms(SteadyTime::duration time) {
  return std::chrono::duration<double, std::milli>(time).count();
}

class StandbyTest : public testing::Test {
 protected:
  static constexpr milliseconds kTimeMax{3000};

  void SetUp() override {
    if (softhsm_module_path().empty()) GTEST_SKIP() << "SoftHSM is not installed";
    static int count = 0;
    ++count;
    const auto seed = SecretBytes::random(hsm::kSeedBytes);
    worker_ = std::make_unique<DeliverySocket>(folder().path(), sink_);
    active_ = start("active-" + std::to_string(count), *seed);
    standby_ = start("standby-" + std::to_string(count), *seed);
    ASSERT_TRUE(active_ && standby_);
    vault_ = std::make_unique<StandbyVault>(
        StandbyVault::Options{.active = {"active", &active_->client()},
                              .standby = {"standby", &standby_->client()},
                              .fail_back_after = milliseconds(300),
                              .on_switch = [this](const std::string& text) { note(text); }});
    const auto health = vault_->health();
    ASSERT_EQ(health.state, VaultState::kUp) << health.detail;
    keyring::CmkParameters parameters;
    parameters.alias = "default";
    const auto record = vault_->create_cmk(parameters);
    ASSERT_THAT(record, Succeeds());
    record_ = *record;
    ASSERT_THAT(vault_->present(record_), Succeeds());
    std::vector<keyring::KeyVault::Plain> plain(1);
    plain[0].key = *SecretBytes::copy_of(plain_.reveal());
    plain[0].context.purpose = keyring::Purpose::kEnvelopeData;
    plain[0].context.key_bytes = 32;
    const auto wrapped = vault_->wrap(record_, plain, Deadline::after(kTimeMax)).at(0);
    ASSERT_THAT(wrapped, Succeeds());
    key_.push_back({*wrapped, plain[0].context});
  }

  std::unique_ptr<VaultProcess> start(const std::string& label, const SecretBytes& seed) {
    const auto made = folder().make_token(softhsm_module_path(), label, &seed);
    EXPECT_THAT(made, Succeeds());
    VaultProcess::Options options;
    options.folder = &folder();
    options.label = label;
    options.deliver_socket = worker_->path();
    auto started = VaultProcess::start(options);
    EXPECT_THAT(started, Succeeds());
    return started ? std::move(*started) : nullptr;
  }

  void note(const std::string& text) {
    const std::scoped_lock lock(mutex_);
    switches_.push_back(text);
  }
  std::size_t switches() {
    const std::scoped_lock lock(mutex_);
    return switches_.size();
  }

  void await_uses(const Load& load, std::size_t count) {
    const auto limit = Deadline::after(std::chrono::seconds(30));
    while (load.done() < count && !limit.passed()) std::this_thread::sleep_for(milliseconds(5));
    ASSERT_GE(load.done(), count);
  }
  // As cofferd's monitor does, until the places have been changed `count` times.
  void look_until_switched(std::size_t count) {
    const auto limit = Deadline::after(std::chrono::seconds(30));
    while (switches() < count && !limit.passed()) {
      EXPECT_EQ(vault_->health().state, VaultState::kUp);
      std::this_thread::sleep_for(milliseconds(50));
    }
    ASSERT_EQ(switches(), count);
  }

  // What became of the load around the loss: no use failed, and none took longer than `longest`.
  static void judge(const std::vector<Use>& uses, SteadyTime lost, milliseconds longest,
                    const std::string& how, std::size_t in_flight_min = 0) {
    std::size_t failed = 0;
    std::size_t in_flight = 0;
    SteadyTime::duration slowest{0};
    SteadyTime first_after = SteadyTime::max();
    SteadyTime last_before{};
    for (const auto& use : uses) {
      failed += use.right ? 0 : 1;
      EXPECT_TRUE(use.right) << (use.error ? use.error->str() : "another key") << ", begun "
                             << in_ms(use.begun - lost) << " ms after the loss";
      const bool during = use.begun < lost && use.ended >= lost;
      in_flight += during ? 1 : 0;
      slowest = std::max(slowest, use.ended - use.begun);
      if (use.ended < lost) last_before = std::max(last_before, use.ended);
      if (use.begun >= lost) first_after = std::min(first_after, use.ended);
    }
    EXPECT_EQ(failed, 0U);
    EXPECT_GE(in_flight, in_flight_min);
    EXPECT_LT(slowest, longest);
    const double seconds = in_ms(uses.back().begun - uses.front().begun) / 1000;
    const double rate = static_cast<double>(uses.size()) / seconds;
    // Else it is not the load that is claimed.
    EXPECT_GT(rate, 80) << uses.size() << " in " << seconds << " s";
    std::cout << how << ": " << uses.size() << " unwraps at " << static_cast<int>(rate) << "/s, "
              << failed << " failed, " << in_flight << " in flight; gap "
              << in_ms(first_after - last_before) << " ms, slowest " << in_ms(slowest) << " ms\n";
  }

  FakeDekSink sink_;
  std::unique_ptr<DeliverySocket> worker_;
  std::unique_ptr<VaultProcess> active_;
  std::unique_ptr<VaultProcess> standby_;
  std::unique_ptr<StandbyVault> vault_;
  const SecretBytes plain_ = *SecretBytes::random(32);
  Bytes record_;
  std::vector<keyring::Presented> key_;  // One.
  std::mutex mutex_;
  std::vector<std::string> switches_;
};

TEST_F(StandbyTest, NoUnwrapFailsWhenTheActiveVaultIsKilledUnderLoad) {
  Load load(*vault_, record_, key_, plain_, kTimeMax);
  await_uses(load, 100);
  const auto lost = std::chrono::steady_clock::now();
  active_->send_signal(SIGKILL);
  active_->wait();
  await_uses(load, 250);
  EXPECT_EQ(switches(), 1U);
  // It comes back, and takes over again under load.
  ASSERT_THAT(active_->start_again(), Succeeds());
  look_until_switched(2);
  await_uses(load, load.done() + 50);
  judge(load.stop(), lost, kTimeMax, "killed");
  EXPECT_EQ(switches(), 2U);
}

TEST_F(StandbyTest, UnwrapsInFlightWhenTheActiveVaultDiesAreServedByTheStandby) {
  Load load(*vault_, record_, key_, plain_, kTimeMax);
  await_uses(load, 100);
  // Held, it answers nothing while uses go on being begun.
  active_->send_signal(SIGSTOP);
  std::this_thread::sleep_until(load.start() + Load::kInterval * (load.done() + 20));
  const auto lost = std::chrono::steady_clock::now();
  active_->send_signal(SIGKILL);
  active_->wait();
  await_uses(load, 200);
  judge(load.stop(), lost, kTimeMax, "held, then killed", 10);
  EXPECT_EQ(switches(), 1U);
}

TEST_F(StandbyTest, NoUnwrapFailsWhenTheActiveVaultHangsUnderLoad) {
  Load load(*vault_, record_, key_, plain_, kTimeMax);
  await_uses(load, 100);
  const auto lost = std::chrono::steady_clock::now();
  active_->send_signal(SIGSTOP);
  await_uses(load, 350);
  EXPECT_EQ(switches(), 1U);
  active_->send_signal(SIGCONT);
  look_until_switched(2);
  await_uses(load, load.done() + 50);
  // Half of the time is the active one's.
  judge(load.stop(), lost, kTimeMax, "hanging");
}

TEST_F(StandbyTest, BothGoneIsAnErrorInTimeAndTheFirstThatIsBackServes) {
  active_->send_signal(SIGKILL);
  active_->wait();
  standby_->send_signal(SIGKILL);
  standby_->wait();
  const auto until = Deadline::after(kTimeMax);
  EXPECT_THAT(vault_->unwrap(record_, key_, until).at(0), FailsWith(Reason::kHsmAbsent));
  EXPECT_FALSE(until.passed());
  ASSERT_THAT(standby_->start_again(), Succeeds());
  EXPECT_THAT(vault_->unwrap(record_, key_, Deadline::after(kTimeMax)).front(), Succeeds());
}

}  // namespace
}  // namespace coffer::tests

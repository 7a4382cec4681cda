// SPDX-License-Identifier: Apache-2.0
// Groups of keys go to a token in turn, and one that hangs there holds up nobody.
#include <gtest/gtest.h>

#include <algorithm>
#include <condition_variable>
#include <future>
#include <mutex>
#include <utility>

#include "hsm/ruled_vault.h"
#include "hsm/software_token.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/fakes/hand_clock.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {
namespace {

using hsm::EncryptJob;
using hsm::TokenKey;
using keyring::KeyVault;

// A software token in which the next group of keys stays until it is let go.
class HangingToken final : public hsm::VaultToken {
 public:
  HangingToken() : token_(std::move(*hsm::open_software_token({}))) {}

  void hang_next() {
    const std::scoped_lock lock(mutex_);
    hang_ = true;
  }
  void await_hanging() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [this] { return hangs_; });
  }
  void let_go() {
    const std::scoped_lock lock(mutex_);
    let_go_ = true;
    changed_.notify_all();
  }

  Result<Identity> identity() override { return token_->identity(); }
  Result<std::vector<keyring::KeySupport>> supports() override { return token_->supports(); }
  Result<hsm::Mac> mac(hsm::MacKey key, ByteView message) override {
    return token_->mac(key, message);
  }
  Result<hsm::NewKey> generate(const CmkId& cmk, std::uint32_t number,
                               const keyring::KeySupport& kind) override {
    return token_->generate(cmk, number, kind);
  }
  std::vector<Result<hsm::Ciphertext>> encrypt(const TokenKey& key,
                                               std::span<const EncryptJob> jobs) override {
    {
      std::unique_lock lock(mutex_);
      if (jobs.size() > 1 && std::exchange(hang_, false)) {
        hangs_ = true;
        changed_.notify_all();
        changed_.wait(lock, [this] { return let_go_; });
      }
    }
    return token_->encrypt(key, jobs);
  }
  std::vector<Result<SecretBytes>> decrypt(const TokenKey& key,
                                           std::span<const hsm::DecryptJob> jobs) override {
    return token_->decrypt(key, jobs);
  }
  Result<SecretBytes> random(std::size_t size_bytes) override { return token_->random(size_bytes); }
  keyring::VaultHealth health() override { return token_->health(); }

 private:
  std::unique_ptr<VaultToken> token_;
  std::mutex mutex_;  // Guards what follows.
  std::condition_variable changed_;
  bool hang_ = false;
  bool hangs_ = false;
  bool let_go_ = false;
};

std::vector<KeyVault::Plain> keys(std::size_t count) {
  std::vector<KeyVault::Plain> all(count);
  for (auto& one : all) {
    one.key = *SecretBytes::random(32);
    one.context.purpose = keyring::Purpose::kEnvelopeData;
    one.context.key_bytes = 32;
  }
  return all;
}

TEST(RuledVaultTurnsTest, AGroupThatHangsInTheTokenHoldsUpNobody) {
  HangingToken token;
  const HandClock clock;  // It stands: the token is quick, whatever the machine is busy with.
  FakeDekSink sink;
  const auto floors = hsm::make_memory_floors();
  hsm::RuledVault vault({token, *floors, sink, clock});
  keyring::CmkParameters parameters;
  parameters.alias = "a";
  const auto record = vault.create_cmk(parameters);
  ASSERT_THAT(record, Succeeds());
  const auto wrap_all_of = [&](std::size_t count) {
    const auto made =
        vault.wrap(*record, keys(count), Deadline::after(std::chrono::seconds(60), clock));
    return made.size() == count &&
           std::ranges::all_of(made, [](const auto& one) { return one.has_value(); });
  };
  // The first group of a vault is of one key, as its token's pace is not known yet.
  ASSERT_TRUE(wrap_all_of(64));

  token.hang_next();
  auto held = std::async(std::launch::async, [&] { return wrap_all_of(64); });
  token.await_hanging();
  EXPECT_TRUE(wrap_all_of(1)) << "one key waits for no turn";
  EXPECT_TRUE(wrap_all_of(64)) << "a group waits no longer than one takes";
  EXPECT_TRUE(wrap_all_of(64)) << "nor the one after it";
  EXPECT_EQ(held.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  token.let_go();
  EXPECT_TRUE(held.get()) << "and that one is served";
  EXPECT_TRUE(wrap_all_of(64));
}

}  // namespace
}  // namespace coffer::tests

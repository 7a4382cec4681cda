// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/keyring/due_work.h"
#include "core/keyring/keyring.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_audit.h"
#include "tests/fakes/fake_clock.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/fakes/fake_key_store.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {

// A keyring over a development vault, with a clock that a test turns.
class KeyFixture : public testing::Test {
 protected:
  KeyFixture() {
    testing::internal::CaptureStderr();  // The development vault's warning.
    vault_ = std::move(*hsm::open_development_vault({}, sink_, clock_));
    testing::internal::GetCapturedStderr();
    keyring_.emplace(keyring::Keyring::Parts{*vault_, store_, log_, clock_});
  }

  // An alias is given to those without one.
  keyring::CmkRecord create(keyring::CmkParameters parameters) {
    if (parameters.alias.empty()) parameters.alias = "key-" + std::to_string(++created_);
    auto made = keyring_->create(parameters, actor_);
    EXPECT_THAT(made, Succeeds());
    return made ? *made : keyring::CmkRecord{.id = CmkId(Uuid())};
  }

  // A data key, and the same to be opened again.
  static std::vector<keyring::KeyVault::Plain> one_plain() {
    std::vector<keyring::KeyVault::Plain> keys(1);
    keys[0].key = *SecretBytes::random(32);
    keys[0].context.purpose = keyring::Purpose::kEnvelopeData;
    keys[0].context.key_bytes = 32;
    return keys;
  }
  Result<keyring::WrappedKey> wrap(const CmkId& id) {
    return keyring_->wrap(id, one_plain(), actor_).at(0);
  }
  Result<void> unwrap(const keyring::WrappedKey& blob) {
    const keyring::Presented presented{blob, one_plain()[0].context};
    const auto opened = keyring_->unwrap({&presented, 1}, actor_);
    if (!opened.at(0)) return tl::unexpected(opened.at(0).error());
    return {};
  }

  // As run_due(), after the hour in which what cannot be taken back waits.
  Result<keyring::DueReport> run_due_for_sure() {
    const auto first = keyring_->run_due(actor_);
    if (!first) return first;
    clock_.advance(keyring::DueWork::kSureAfter);
    return keyring_->run_due(actor_);
  }

  FakeClock clock_;
  FakeDekSink sink_;
  FakeKeyStore store_;
  FakeAudit log_;
  std::unique_ptr<keyring::KeyVault> vault_;
  std::optional<keyring::Keyring> keyring_;
  audit::Actor actor_{
      .origin = audit::Origin::kDbus, .uid = 0, .bus_name = {}, .polkit_action = {}};
  int created_ = 0;
};

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/keyring/keyring.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_audit.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/fakes/fake_key_store.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {

// A keyring over the development vault, with a store and an audit log in memory.
class KeyringTest : public testing::Test {
 protected:
  using Kind = audit::Kind;
  using CmkParameters = keyring::CmkParameters;
  using CmkRecord = keyring::CmkRecord;
  using DekDelivery = keyring::DekDelivery;
  using DekRequest = keyring::DekRequest;
  using KeyContext = keyring::KeyContext;
  using Keyring = keyring::Keyring;
  using KeyState = keyring::KeyState;
  using KeyVault = keyring::KeyVault;
  using SealedRecord = keyring::SealedRecord;

  static Deadline soon() { return Deadline::after(std::chrono::seconds(30)); }

  KeyringTest() {
    testing::internal::CaptureStderr();  // The development vault's warning.
    vault_ = std::move(*hsm::open_development_vault(
        {.token = {}, .floors_path = "", .limits = {.lease_block = 8, .wraps_max = 20}}, sink_));
    testing::internal::GetCapturedStderr();
    restart();
    ticket_ = *keyring::draw_ticket();
  }

  // As cofferd starts anew with what is on disk.
  void restart() {
    keyring_.emplace(Keyring::Parts{*vault_, store_, log_, system_clock()});
    keyring_->set_observer(
        [this](const CmkRecord& now, bool is_new) { seen_.emplace_back(now, is_new); });
  }

  CmkRecord create(const std::string& alias = "default") {
    CmkParameters parameters;
    parameters.alias = alias;
    auto made = keyring_->create(parameters, actor_);
    EXPECT_THAT(made, Succeeds());
    return made ? *made : CmkRecord{.id = CmkId(Uuid())};
  }

  static KeyContext volume_context(std::uint64_t generation = 1) {
    KeyContext context;
    context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
    context.cipher = "aes-xts-plain64";
    context.key_bytes = 64;
    context.generation = generation;
    return context;
  }
  static std::vector<KeyVault::Plain> data_keys(std::size_t count) {
    std::vector<KeyVault::Plain> keys(count);
    for (auto& one : keys) {
      one.key = *SecretBytes::random(32);
      one.context.purpose = keyring::Purpose::kEnvelopeData;
      one.context.key_bytes = 32;
    }
    return keys;
  }
  keyring::WrappedKey make_dek(const CmkId& id, std::uint32_t index = 0) {
    const DekRequest request{volume_context(), 77};
    auto made = keyring_->make_deks(id, {&request, 1}, ticket_, index, actor_, soon());
    EXPECT_THAT(made.at(0), Succeeds());
    return *made.at(0);
  }
  Result<void> deliver(const keyring::WrappedKey& blob, std::uint64_t intent = 77) {
    const DekDelivery delivery{{blob, volume_context()}, 0, intent};
    return keyring_->deliver({&delivery, 1}, ticket_, soon()).at(0);
  }

  std::vector<std::string> audit_lines() const {
    std::vector<std::string> lines;
    for (const auto& event : log_.events()) {
      lines.push_back((event.kind == Kind::kIntent ? "intent " : "result ") + event.operation +
                      (event.outcome.empty() ? "" : " " + event.outcome));
    }
    return lines;
  }

  FakeDekSink sink_;
  FakeKeyStore store_;
  FakeAudit log_;
  std::unique_ptr<KeyVault> vault_;
  std::optional<Keyring> keyring_;
  audit::Actor actor_{
      .origin = audit::Origin::kDbus, .uid = 0, .bus_name = {}, .polkit_action = {}};
  keyring::Ticket ticket_{};
  std::vector<std::pair<CmkRecord, bool>> seen_;
};

}  // namespace coffer::tests

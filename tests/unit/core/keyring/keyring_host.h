// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "core/audit/journal.h"
#include "core/keyring/keyring.h"
#include "hsm/development_vault.h"
#include "tests/fakes/fake_dek_sink.h"
#include "tests/support/result_matchers.h"

namespace coffer::tests {

// Everything that cofferd and its vault have on disk, opened in `folder`.
struct KeyringHost {
  explicit KeyringHost(std::string where, const Clock& clock = system_clock())
      : folder(std::move(where)) {
    auto store_opened = keyring::open_sqlite_key_store(folder + "/keyring.db");
    EXPECT_THAT(store_opened, Succeeds());
    store = std::move(*store_opened);
    auto vault_opened = hsm::open_development_vault(
        {.token = {folder + "/token"}, .floors_path = folder + "/floors.db", .limits = {}}, sink,
        clock);
    EXPECT_THAT(vault_opened, Succeeds());
    vault = std::move(*vault_opened);
    auto log_opened = audit::Journal::open(
        folder + "/audit",
        {.node = *HostId::parse("7a1d0b9c-0000-4000-8000-aabbccddeeff"), .segment_bytes = 65536});
    EXPECT_THAT(log_opened, Succeeds());
    log = std::move(*log_opened);
    ring.emplace(keyring::Keyring::Parts{*vault, *store, *log, clock});
    ticket = *keyring::draw_ticket();
  }

  static Deadline soon() { return Deadline::after(std::chrono::seconds(30)); }
  static keyring::KeyContext volume_context() {
    keyring::KeyContext context;
    context.volume = *VolumeId::parse("3f2b8c1e-5d34-4f6a-9b0e-112233445566");
    context.cipher = "aes-xts-plain64";
    context.key_bytes = 64;
    return context;
  }

  Result<keyring::CmkRecord> create(const std::string& alias,
                                    keyring::KeyOrigin origin = keyring::KeyOrigin::kGenerated) {
    keyring::CmkParameters parameters;
    parameters.alias = alias;
    parameters.origin = origin;
    return ring->create(parameters, actor);
  }
  Result<keyring::WrappedKey> make_dek(const CmkId& id) {
    const keyring::DekRequest request{volume_context(), 1};
    return std::move(ring->make_deks(id, {&request, 1}, ticket, 0, actor, soon()).front());
  }
  Result<void> deliver(const keyring::WrappedKey& blob) {
    const keyring::DekDelivery delivery{{blob, volume_context()}, 0, 1};
    return std::move(ring->deliver({&delivery, 1}, ticket, soon()).front());
  }

  // The journal holds together, and every intent in it has its result.
  void expect_everything_recorded() const {
    std::set<std::uint64_t> open;
    audit::Filter filter;
    filter.operation = "key.*";
    do {
      const auto page = log->query(filter, 10'000);
      ASSERT_THAT(page, Succeeds());
      for (const auto& one : page->records) {
        if (one.event.kind == audit::Kind::kIntent) open.insert(one.sequence);
        if (one.event.kind == audit::Kind::kResult) open.erase(one.event.intent_sequence);
      }
      filter.from_sequence = page->next_sequence;
    } while (filter.from_sequence != 0);
    EXPECT_TRUE(open.empty());
    EXPECT_TRUE(log->verify(0, 0)->intact);
  }

  const std::string folder;
  FakeDekSink sink;
  std::unique_ptr<keyring::KeyStore> store;
  std::unique_ptr<keyring::KeyVault> vault;
  std::unique_ptr<audit::Journal> log;
  std::optional<keyring::Keyring> ring;
  audit::Actor actor{};
  keyring::Ticket ticket{};
};

}  // namespace coffer::tests

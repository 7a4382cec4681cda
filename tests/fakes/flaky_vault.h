// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

#include "core/keyring/key_vault.h"

namespace coffer::tests {

// FlakyVault is a KeyVault that is away when a test says so. Thread-safe.
class FlakyVault final : public keyring::KeyVault {
 public:
  explicit FlakyVault(keyring::KeyVault& vault) : vault_(vault) {}

  void go_away(Reason reason = Reason::kHsmAbsent) {
    reason_ = reason;
    away_ = true;
  }
  void come_back() { away_ = false; }
  // Keys are wrapped, and none is unwrapped again: a token that lost its root key.
  void refuse_unwraps(Reason reason) {
    reason_ = reason;
    unwraps_refused_ = true;
  }
  // It serves, and takes no record in: its floors cannot be written.
  void refuse_records(Reason reason) {
    reason_ = reason;
    records_refused_ = true;
  }
  void take_records() { records_refused_ = false; }
  // Records that it is presented wait, each counted among calls(), until take_held_records().
  void hold_records() {
    const std::scoped_lock lock(records_mutex_);
    records_held_ = true;
  }
  void take_held_records() {
    const std::scoped_lock lock(records_mutex_);
    records_held_ = false;
    records_freed_.notify_all();
  }
  // One of them goes on, the others wait.
  void take_one_held_record() {
    const std::scoped_lock lock(records_mutex_);
    ++records_let_;
    records_freed_.notify_all();
  }
  int calls() const { return calls_; }
  int probes() const { return probes_; }
  // Wraps of callers' data hang from now on until let_go().
  void hold_wraps() { held_ = true; }
  void let_go() {
    held_ = false;
    held_.notify_all();
  }
  // The next making, delivery, rewrapping or signing takes its first key by itself, as a call that
  // is split into messages does; `hook` comes before the rest. A shared DEK is one message: it
  // comes before that.
  void between_messages(std::function<void()> hook) { between_ = std::move(hook); }
  // What the next making of a shared DEK answers is changed on its way.
  void change_answer(std::function<void(keyring::SharedDek&)> change) {
    change_ = std::move(change);
  }
  // The next delivery is not done; `hook` comes before it is told.
  void fail_delivery(Reason reason, std::function<void()> hook = nullptr) {
    reason_ = reason;
    before_refusal_ = std::move(hook);
    fail_delivery_ = true;
  }
  // The next delivery is done, and its answer gets lost.
  void lose_answer(Reason reason) {
    reason_ = reason;
    lose_answer_ = true;
  }

  Result<keyring::SealedRecord> create_cmk(const keyring::CmkParameters& parameters) override {
    if (const auto gone = away()) return tl::unexpected(*gone);
    return vault_.create_cmk(parameters);
  }
  Result<keyring::SealedRecord> change_cmk(ByteView current,
                                           const keyring::CmkChange& change) override {
    if (const auto gone = away()) return tl::unexpected(*gone);
    return vault_.change_cmk(current, change);
  }
  Result<void> present(ByteView record) override {
    if (const auto gone = away()) return tl::unexpected(*gone);
    wait_for_record();
    if (records_refused_) return fail(reason_, "not taken as the test asked");
    return vault_.present(record);
  }
  std::vector<Result<keyring::WrappedKey>> wrap(ByteView record, std::span<const Plain> keys,
                                                Deadline deadline) override {
    held_.wait(true);
    return all_or(keys.size(), [&] { return vault_.wrap(record, keys, deadline); });
  }
  std::vector<Result<SecretBytes>> unwrap(ByteView record, std::span<const keyring::Presented> keys,
                                          Deadline deadline) override {
    if (unwraps_refused_) {
      std::vector<Result<SecretBytes>> refused;
      refused.reserve(keys.size());
      for (std::size_t i = 0; i < keys.size(); ++i) {
        refused.emplace_back(fail(reason_, "not unwrapped as the test asked"));
      }
      return refused;
    }
    return all_or(keys.size(), [&] { return vault_.unwrap(record, keys, deadline); });
  }
  std::vector<Result<keyring::WrappedKey>> make_deks(ByteView record,
                                                     std::span<const keyring::KeyContext> contexts,
                                                     const keyring::Ticket& ticket,
                                                     std::uint32_t first_index,
                                                     Deadline deadline) override {
    return all_or(contexts.size(), [&] {
      return split<keyring::WrappedKey>(contexts.size(), [&](std::size_t at, std::size_t count) {
        return vault_.make_deks(record, contexts.subspan(at, count), ticket,
                                first_index + static_cast<std::uint32_t>(at), deadline);
      });
    });
  }
  Result<keyring::SharedDek> make_shared_dek(const keyring::SharedDekRequest& request,
                                             Deadline deadline) override {
    if (const auto gone = away()) return tl::unexpected(*gone);
    if (const auto hook = std::exchange(between_, nullptr)) hook();
    auto made = vault_.make_shared_dek(request, deadline);
    const auto change = std::exchange(change_, nullptr);
    if (made && change) change(*made);
    return made;
  }
  std::vector<Result<void>> deliver(ByteView record, std::span<const keyring::Presented> keys,
                                    const keyring::Ticket& ticket,
                                    std::span<const std::uint32_t> indexes,
                                    Deadline deadline) override {
    if (fail_delivery_.exchange(false)) {
      if (const auto hook = std::exchange(before_refusal_, nullptr)) hook();
      return {keys.size(), fail(reason_, "not delivered as the test asked")};
    }
    auto results = all_or(keys.size(), [&] {
      return split<void>(keys.size(), [&](std::size_t at, std::size_t count) {
        return vault_.deliver(record, keys.subspan(at, count), ticket, indexes.subspan(at, count),
                              deadline);
      });
    });
    if (!lose_answer_.exchange(false)) return results;
    for (auto& result : results) result = fail(reason_, "its answer got lost as the test asked");
    return results;
  }
  std::vector<Result<keyring::WrappedKey>> rewrap(ByteView from, ByteView to,
                                                  std::span<const keyring::Rewrapped> keys,
                                                  Deadline deadline) override {
    return all_or(keys.size(), [&] {
      return split<keyring::WrappedKey>(keys.size(), [&](std::size_t at, std::size_t count) {
        return vault_.rewrap(from, to, keys.subspan(at, count), deadline);
      });
    });
  }
  std::vector<Result<Bytes>> sign(ByteView record, keyring::SignScheme scheme,
                                  std::span<const Bytes> digests, Deadline deadline) override {
    return all_or(digests.size(), [&] {
      return split<Bytes>(digests.size(), [&](std::size_t at, std::size_t count) {
        return vault_.sign(record, scheme, digests.subspan(at, count), deadline);
      });
    });
  }
  std::vector<Result<SecretBytes>> decrypt(ByteView record, keyring::DecryptScheme scheme,
                                           std::span<const Bytes> ciphertexts,
                                           Deadline deadline) override {
    return all_or(ciphertexts.size(),
                  [&] { return vault_.decrypt(record, scheme, ciphertexts, deadline); });
  }
  Result<keyring::ImportParameters> prepare_import(ByteView current,
                                                   keyring::ImportWrapping wrapping) override {
    if (const auto gone = away()) return tl::unexpected(*gone);
    return vault_.prepare_import(current, wrapping);
  }
  Result<keyring::SealedRecord> import_material(ByteView current,
                                                const keyring::ImportMaterial& material) override {
    if (const auto gone = away()) return tl::unexpected(*gone);
    return vault_.import_material(current, material);
  }
  Result<SecretBytes> random(std::size_t size_bytes) override {
    if (away_) return fail(reason_, "away as the test asked");  // Not counted: it is of no key.
    return vault_.random(size_bytes);
  }
  keyring::VaultHealth health() override {
    ++probes_;
    keyring::VaultHealth health = vault_.health();
    if (!away_) return health;
    health.state = keyring::VaultState::kAbsent;
    health.detail = "away as the test asked";
    return health;
  }

 private:
  std::optional<Error> away() {
    ++calls_;
    if (!away_) return std::nullopt;
    return Error(reason_, "away as the test asked");
  }
  void wait_for_record() {
    std::unique_lock lock(records_mutex_);
    records_freed_.wait(lock, [this] { return !records_held_ || records_let_ > 0; });
    if (records_held_) --records_let_;
  }
  template <class Call>
  auto all_or(std::size_t count, Call call) -> decltype(call()) {
    const auto gone = away();
    if (!gone) return call();
    decltype(call()) failed;
    for (std::size_t i = 0; i < count; ++i) failed.emplace_back(tl::unexpected(*gone));
    return failed;
  }

  // `call(at, count)` for all keys, or in two messages with what between_messages() gave.
  template <class T, class Call>
  std::vector<Result<T>> split(std::size_t count, Call call) {
    const auto hook = count > 1 ? std::exchange(between_, nullptr) : nullptr;
    if (!hook) return call(0, count);
    auto results = call(0, 1);
    hook();
    for (auto& more : call(1, count - 1)) results.push_back(std::move(more));
    return results;
  }

  keyring::KeyVault& vault_;
  std::function<void()> between_;
  std::function<void(keyring::SharedDek&)> change_;
  std::atomic<bool> away_{false};
  std::atomic<Reason> reason_{Reason::kHsmAbsent};
  std::atomic<int> calls_{0};
  std::atomic<bool> fail_delivery_{false};
  std::atomic<int> probes_{0};
  std::atomic<bool> held_{false};
  std::atomic<bool> lose_answer_{false};
  std::atomic<bool> unwraps_refused_{false};
  std::atomic<bool> records_refused_{false};
  std::function<void()> before_refusal_;
  std::condition_variable records_freed_;
  std::mutex records_mutex_;  // Guards what follows.
  bool records_held_ = false;
  int records_let_ = 0;  // May go on while the others are held.
};

}  // namespace coffer::tests

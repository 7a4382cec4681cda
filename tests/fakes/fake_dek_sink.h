// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <map>
#include <mutex>
#include <ranges>
#include <set>
#include <vector>

#include "core/base/bytes.h"
#include "core/keyring/key_vault.h"

namespace coffer::tests {

// Takes delivered DEKs and keeps copies, so that a test can look at them. Takes any ticket unless
// told which one it expects.
class FakeDekSink final : public keyring::DekSink {
 public:
  struct Taken {
    keyring::Ticket ticket{};
    std::uint32_t index = 0;
    keyring::DekLabel label;
    Bytes dek;
  };

  Result<void> deliver(const keyring::Ticket& ticket, std::uint32_t index,
                       const keyring::DekLabel& label, const SecretBytes& dek, Deadline) override {
    const std::lock_guard lock(mutex_);
    if (failing_.contains(index))
      return fail(Reason::kWorkerLost, "the fake sink was told to fail");
    if (expected_ && *expected_ != ticket) {
      return fail(Reason::kTicketUnknown, "the fake sink does not expect this ticket");
    }
    const bool again = std::ranges::any_of(taken_, [&](const Taken& taken) {
      return taken.ticket == ticket && taken.index == index && taken.label == label;
    });
    if (once_ && again) return fail(Reason::kTicketUnknown, "the fake sink has taken this key");
    taken_.push_back({ticket, index, label, Bytes(dek.reveal().begin(), dek.reveal().end())});
    return {};
  }

  void expect_only(const keyring::Ticket& ticket) {
    const std::lock_guard lock(mutex_);
    expected_ = ticket;
  }
  // As the worker: an index of a ticket is taken once.
  void take_once() {
    const std::lock_guard lock(mutex_);
    once_ = true;
  }
  void fail_index(std::uint32_t index) {
    const std::lock_guard lock(mutex_);
    failing_.insert(index);
  }
  void heal() {
    const std::lock_guard lock(mutex_);
    failing_.clear();
  }

  // In the order in which they came.
  std::vector<Taken> taken() const {
    const std::lock_guard lock(mutex_);
    return taken_;
  }
  // The last DEK delivered with `index`; empty when none was.
  Bytes dek(std::uint32_t index) const {
    const std::lock_guard lock(mutex_);
    for (const auto& one : std::views::reverse(taken_)) {
      if (one.index == index) return one.dek;
    }
    return {};
  }
  void forget() {
    const std::lock_guard lock(mutex_);
    taken_.clear();
  }

 private:
  mutable std::mutex mutex_;  // Guards all.
  std::vector<Taken> taken_;
  std::set<std::uint32_t> failing_;
  std::optional<keyring::Ticket> expected_;
  bool once_ = false;
};

}  // namespace coffer::tests

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>

#include "core/audit/audit_log.h"
#include "core/base/clock.h"

namespace coffer::agent {

// ReopeningLog is an AuditLog whose journal may not be there yet, or may be damaged: the agent runs
// without it, refuses everything that uses a key, and goes on showing and withdrawing. It tries to
// open the journal again now and then, when something is to be recorded.
//
// Thread-safe. append_deferred(), head(), head_found() and available() wait for nothing.
class ReopeningLog final : public audit::AuditLog {
 public:
  using Open = std::function<Result<std::unique_ptr<audit::AuditLog>>()>;

  ReopeningLog(Open open, const Clock& clock) : open_(std::move(open)), clock_(clock) {}

  // Opens it now. The error of the attempt, which later calls repeat until one succeeds.
  Result<void> try_open();

  // As the journal; kAuditUnavailable while there is none, with the reason in the message.
  Result<std::vector<std::uint64_t>> append(std::span<const audit::Event> events) override;
  Result<std::vector<std::uint64_t>> append_kept(std::span<const audit::Event> events) override;
  void append_deferred(audit::Event event) override;
  Result<audit::Page> query(const audit::Filter& filter, std::size_t records_max) override;
  Result<audit::VerifyReport> verify(std::uint64_t from, std::uint64_t to) override;
  audit::Head head() const override;
  std::optional<audit::Head> head_found() const override;
  bool available() const override;

 private:
  Result<audit::AuditLog*> log(bool may_open);

  const Open open_;
  const Clock& clock_;
  // Guards all below, and is never held while the journal is opened: reading it whole takes its
  // time. The journal itself needs no guard.
  mutable std::mutex mutex_;
  std::condition_variable opened_;
  bool opening_ = false;  // On one thread; whoever wants to record waits for it.
  std::unique_ptr<audit::AuditLog> log_;
  audit::Head head_found_;            // Of log_, before anything was recorded through this.
  std::deque<audit::Event> waiting_;  // Deferred before there was a journal; one below the limit,
  std::uint64_t dropped_ = 0;         // as a note tells the journal of those beyond.
  std::optional<Error> error_;
  SteadyTime next_{};
};

}  // namespace coffer::agent

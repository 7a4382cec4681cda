// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <functional>
#include <mutex>
#include <optional>
#include <vector>

#include "core/audit/audit_log.h"

namespace coffer::tests {

// FakeAudit keeps records in memory, without a chain, and fails on demand. Thread-safe.
class FakeAudit final : public audit::AuditLog {
 public:
  // The next append() fails with `reason` and records nothing; or all until succeed_again().
  void fail_next(Reason reason = Reason::kAuditUnavailable) {
    const std::scoped_lock lock(mutex_);
    failure_ = reason;
    failing_always_ = false;
  }
  void fail_always(Reason reason = Reason::kAuditUnavailable) {
    const std::scoped_lock lock(mutex_);
    failure_ = reason;
    failing_always_ = true;
  }
  // An append() with an event that `which` says true of fails, until succeed_again().
  void fail_when(std::function<bool(const audit::Event&)> which) {
    const std::scoped_lock lock(mutex_);
    fail_when_ = std::move(which);
  }
  // So many queries fail.
  void fail_queries(int count) {
    const std::scoped_lock lock(mutex_);
    queries_to_fail_ = count;
  }
  void succeed_again() {
    const std::scoped_lock lock(mutex_);
    failure_.reset();
    failing_always_ = false;
    fail_when_ = nullptr;
  }

  // What was recorded so far, in order.
  std::vector<audit::Event> events() const {
    const std::scoped_lock lock(mutex_);
    std::vector<audit::Event> all;
    all.reserve(records_.size());
    for (const auto& record : records_) all.push_back(record.event);
    return all;
  }
  std::size_t count(audit::Kind kind, std::string_view operation = {}) const {
    const std::scoped_lock lock(mutex_);
    return static_cast<std::size_t>(
        std::count_if(records_.begin(), records_.end(), [&](const audit::Record& record) {
          return record.event.kind == kind &&
                 (operation.empty() || record.event.operation == operation);
        }));
  }

  Result<std::vector<std::uint64_t>> append(std::span<const audit::Event> events) override {
    const std::scoped_lock lock(mutex_);
    if (events.empty() || events.size() > kEventsMax) {
      return fail(Reason::kInvalidArgs, "append to the audit log");
    }
    if (failure_) {
      const Reason reason = *failure_;
      if (!failing_always_) failure_.reset();
      return fail(reason, "append to the audit log");
    }
    if (fail_when_ && std::ranges::any_of(events, fail_when_)) {
      return fail(Reason::kAuditUnavailable, "append to the audit log as the test asked");
    }
    for (auto& event : std::exchange(deferred_, {})) keep(std::move(event));
    std::vector<std::uint64_t> sequences;
    for (const auto& event : events) sequences.push_back(keep(event));
    return sequences;
  }

  void append_deferred(audit::Event event) override {
    const std::scoped_lock lock(mutex_);
    if (failure_) {
      deferred_.push_back(std::move(event));
    } else {
      keep(std::move(event));
    }
  }

  Result<audit::Page> query(const audit::Filter& filter, std::size_t records_max) override {
    const std::scoped_lock lock(mutex_);
    if (queries_to_fail_ > 0) {
      --queries_to_fail_;
      return fail(Reason::kAuditUnavailable, "query the audit log");
    }
    audit::Page page;
    for (const auto& record : records_) {
      if (!matches(filter, record)) continue;
      if (page.records.size() == records_max) {
        page.next_sequence = record.sequence;
        break;
      }
      page.records.push_back(record);
    }
    return page;
  }

  Result<audit::VerifyReport> verify(std::uint64_t from, std::uint64_t to) override {
    const std::scoped_lock lock(mutex_);
    audit::VerifyReport report;
    report.intact = true;
    report.first_sequence = std::max<std::uint64_t>(from, 1);
    report.last_sequence = to == 0 ? records_.size() : to;
    if (report.first_sequence > report.last_sequence + 1 ||
        report.last_sequence > records_.size()) {
      return fail(Reason::kInvalidArgs, "verify the audit log");
    }
    report.records = report.last_sequence + 1 - report.first_sequence;
    report.head.sequence = report.last_sequence;
    return report;
  }

  audit::Head head() const override {
    const std::scoped_lock lock(mutex_);
    return {records_.size(), {}};
  }

  bool available() const override {
    const std::scoped_lock lock(mutex_);
    return !failure_;
  }

 private:
  std::uint64_t keep(audit::Event event) {
    audit::Record record{.node = HostId(Uuid()),
                         .sequence = records_.size() + 1,
                         .wall = system_clock().wall(),
                         .since_boot = system_clock().since_boot(),
                         .boot = Uuid(),
                         .event = std::move(event),
                         .previous = {},
                         .hash = {}};
    records_.push_back(std::move(record));
    return records_.back().sequence;
  }

  mutable std::mutex mutex_;  // Guards all below.
  std::vector<audit::Record> records_;
  std::vector<audit::Event> deferred_;
  std::optional<Reason> failure_;
  std::function<bool(const audit::Event&)> fail_when_;
  bool failing_always_ = false;
  int queries_to_fail_ = 0;
};

}  // namespace coffer::tests

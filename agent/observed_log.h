// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <mutex>
#include <optional>

#include "core/audit/audit_log.h"

namespace coffer::agent {

// ObservedLog is an AuditLog that tells somebody of each durable record. Thread-safe, as the log
// behind it; the observer is called on the thread that appended.
class ObservedLog final : public audit::AuditLog {
 public:
  using Observer = std::function<void(std::uint64_t sequence, const audit::Event& event)>;

  explicit ObservedLog(audit::AuditLog& log) : log_(log) {}

  void set_observer(Observer observer) {
    const std::scoped_lock lock(mutex_);
    observer_ = std::move(observer);
  }

  Result<std::vector<std::uint64_t>> append(std::span<const audit::Event> events) override {
    return tell(log_.append(events), events);
  }
  Result<std::vector<std::uint64_t>> append_kept(std::span<const audit::Event> events) override {
    return tell(log_.append_kept(events), events);
  }
  void append_deferred(audit::Event event) override { log_.append_deferred(std::move(event)); }
  Result<audit::Page> query(const audit::Filter& filter, std::size_t records_max) override {
    return log_.query(filter, records_max);
  }
  Result<audit::VerifyReport> verify(std::uint64_t from, std::uint64_t to) override {
    return log_.verify(from, to);
  }
  audit::Head head() const override { return log_.head(); }
  std::optional<audit::Head> head_found() const override { return log_.head_found(); }
  bool available() const override { return log_.available(); }

 private:
  Result<std::vector<std::uint64_t>> tell(Result<std::vector<std::uint64_t>> sequences,
                                          std::span<const audit::Event> events) {
    if (!sequences) return sequences;
    Observer observer;
    {
      const std::scoped_lock lock(mutex_);
      observer = observer_;
    }
    for (std::size_t i = 0; observer && i < sequences->size() && i < events.size(); ++i) {
      observer((*sequences)[i], events[i]);
    }
    return sequences;
  }

  audit::AuditLog& log_;
  std::mutex mutex_;  // Guards observer_.
  Observer observer_;
};

}  // namespace coffer::agent

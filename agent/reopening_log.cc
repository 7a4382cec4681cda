// SPDX-License-Identifier: Apache-2.0
#include "agent/reopening_log.h"

#include <utility>

namespace coffer::agent {
namespace {

constexpr std::chrono::seconds kBetweenAttempts{5};

}  // namespace

Result<void> ReopeningLog::try_open() {
  const auto opened = log(true);
  if (!opened) return tl::unexpected(opened.error());
  return {};
}

Result<audit::AuditLog*> ReopeningLog::log(bool may_open) {
  std::unique_lock lock(mutex_);
  if (may_open) opened_.wait(lock, [&] { return !opening_; });
  if (log_) return log_.get();
  if (may_open && (!error_ || clock_.steady() >= next_)) {
    opening_ = true;
    lock.unlock();
    auto opened = open_();
    lock.lock();
    opening_ = false;
    next_ = clock_.steady() + kBetweenAttempts;
    opened_.notify_all();
    if (opened) {
      log_ = std::move(*opened);
      head_found_ = log_->head();
      error_.reset();
      for (audit::Event& event : std::exchange(waiting_, {})) {
        log_->append_deferred(std::move(event));
      }
      if (dropped_ > 0) log_->append_deferred(audit::dropped_note(std::exchange(dropped_, 0)));
      return log_.get();
    }
    error_ = opened.error();
  }
  return fail(Reason::kAuditUnavailable,
              error_ ? error_->str() : std::string("the journal is not open"));
}

Result<std::vector<std::uint64_t>> ReopeningLog::append(std::span<const audit::Event> events) {
  const auto found = log(true);
  if (!found) return tl::unexpected(found.error());
  return (*found)->append(events);
}

Result<std::vector<std::uint64_t>> ReopeningLog::append_kept(std::span<const audit::Event> events) {
  const auto found = log(true);
  if (found) return (*found)->append_kept(events);
  for (const audit::Event& event : events) append_deferred(event);
  return tl::unexpected(found.error());
}

void ReopeningLog::append_deferred(audit::Event event) {
  const std::scoped_lock lock(mutex_);
  if (log_) return log_->append_deferred(std::move(event));
  if (waiting_.size() + 1 < kDeferredMax) {
    waiting_.push_back(std::move(event));
  } else {
    ++dropped_;
  }
}

Result<audit::Page> ReopeningLog::query(const audit::Filter& filter, std::size_t records_max) {
  const auto found = log(true);
  if (!found) return tl::unexpected(found.error());
  return (*found)->query(filter, records_max);
}

Result<audit::VerifyReport> ReopeningLog::verify(std::uint64_t from, std::uint64_t to) {
  const auto found = log(true);
  if (!found) return tl::unexpected(found.error());
  return (*found)->verify(from, to);
}

audit::Head ReopeningLog::head() const {
  const std::scoped_lock lock(mutex_);
  return log_ ? log_->head() : audit::Head{};
}

std::optional<audit::Head> ReopeningLog::head_found() const {
  const std::scoped_lock lock(mutex_);
  return log_ ? std::optional(head_found_) : std::nullopt;
}

bool ReopeningLog::available() const {
  const std::scoped_lock lock(mutex_);
  return log_ && log_->available();
}

}  // namespace coffer::agent

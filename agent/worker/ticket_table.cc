// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/ticket_table.h"

#include <algorithm>

namespace coffer::agent {
namespace {
// A finished ticket stays so long for a wait() that comes late.
constexpr std::chrono::seconds kKeptAfterDeadline{30};
}  // namespace

TicketTable::Entry* TicketTable::find(const keyring::Ticket& ticket, std::uint32_t index) {
  const auto state = tickets_.find(ticket);
  if (state == tickets_.end()) return nullptr;
  const auto entry = state->second.keys.find(index);
  return entry == state->second.keys.end() ? nullptr : &entry->second;
}

void TicketTable::forget(Entry& entry) {
  entry.key.reset();
  entry.header.reset();
  entry.shares.clear();
  if (entry.state == State::kEnded) entry.job.device.reset();
}

void TicketTable::end_locked(TicketState& state, Entry& entry, Result<Activated> result) {
  if (entry.state == State::kEnded) return;
  entry.state = State::kEnded;
  entry.shares.clear();
  if (!entry.key) entry.job.device.reset();
  state.outcomes.push_back({entry.job.spec.index, std::move(result)});
  changed_.notify_all();
}

Result<void> TicketTable::add(const keyring::Ticket& ticket, std::uint64_t connection,
                              Deadline deadline, std::vector<KeyJob> jobs) {
  const std::lock_guard lock(mutex_);
  if (tickets_.size() >= kTicketsMax)
    return fail(Reason::kLimitsExceeded, "too many tickets are open");
  if (tickets_.contains(ticket)) return fail(Reason::kInvalidArgs, "the ticket exists already");
  TicketState state;
  state.connection = connection;
  state.deadline = deadline;
  for (auto& job : jobs) {
    const auto index = job.spec.index;
    job.deadline = deadline;
    if (!state.keys.emplace(index, Entry{std::move(job), State::kExpected, false, {}, {}, {}})
             .second)
      return fail(Reason::kInvalidArgs, "two keys of a ticket have one index");
  }
  tickets_.emplace(ticket, std::move(state));
  return {};
}

Result<TicketTable::Entry*> TicketTable::expected_locked(const keyring::Ticket& ticket,
                                                         std::uint32_t index,
                                                         const keyring::Digest& profile_digest) {
  auto* entry = find(ticket, index);
  if (entry == nullptr || entry->state != State::kExpected ||
      tickets_.at(ticket).deadline.passed(clock_))
    return fail(Reason::kTicketUnknown, "nobody expects this key (any more)");
  if (luks2::profile_digest(entry->job.spec.profile) != profile_digest) {
    const Error mismatch(Reason::kProfileMismatch,
                         "the key was wrapped for another profile than the one to be activated");
    end_locked(tickets_.at(ticket), *entry, tl::unexpected(mismatch));
    return tl::unexpected(mismatch);
  }
  return entry;
}

Result<KeyJob> TicketTable::take(const keyring::Ticket& ticket, std::uint32_t index,
                                 const keyring::Digest& profile_digest) {
  const std::lock_guard lock(mutex_);
  const auto entry = expected_locked(ticket, index, profile_digest);
  if (!entry) return tl::unexpected(entry.error());
  (*entry)->state = State::kBegun;
  (*entry)->shares.clear();
  return (*entry)->job;
}

Result<std::optional<SecretBytes>> TicketTable::collect(const keyring::Ticket& ticket,
                                                        std::uint32_t index,
                                                        const keyring::DekLabel& label,
                                                        SecretBytes share) {
  const std::lock_guard lock(mutex_);
  const auto entry = expected_locked(ticket, index, label.profile_digest);
  if (!entry) return tl::unexpected(entry.error());
  auto key = (*entry)->shares.add(*label.share, label.profile_digest, std::move(share));
  if (!key && key.error().reason() == Reason::kWrongKey)
    end_locked(tickets_.at(ticket), **entry, tl::unexpected(key.error()));
  return key;
}

bool TicketTable::wanted(const keyring::Ticket& ticket, std::uint32_t index) const {
  const std::lock_guard lock(mutex_);
  const auto state = tickets_.find(ticket);
  if (state == tickets_.end() || stopping_) return false;
  const auto entry = state->second.keys.find(index);
  return entry != state->second.keys.end() && !entry->second.cancelled;
}

void TicketTable::end(const keyring::Ticket& ticket, std::uint32_t index,
                      Result<Activated> result) {
  const std::lock_guard lock(mutex_);
  if (auto* entry = find(ticket, index)) end_locked(tickets_.at(ticket), *entry, std::move(result));
}

void TicketTable::keep(const keyring::Ticket& ticket, std::uint32_t index, SecretBytes key) {
  const std::lock_guard lock(mutex_);
  auto* entry = find(ticket, index);
  if (entry == nullptr || entry->state != State::kBegun) return;
  auto& state = tickets_.at(ticket);
  // Whoever gives up between take() and here has passed by a key that was not there yet to forget.
  if (entry->cancelled || stopping_)
    return end_locked(state, *entry, fail(Reason::kCancelled, "given up before its key was kept"));
  if (state.deadline.passed(clock_))
    return end_locked(state, *entry, fail(Reason::kTimedOut, "its key was not kept in time"));
  entry->key = std::make_shared<const SecretBytes>(std::move(key));
  end_locked(state, *entry, Activated{});
}

Result<KeptKey> TicketTable::kept(const keyring::Ticket& ticket, std::uint32_t index,
                                  std::uint64_t connection) const {
  const std::lock_guard lock(mutex_);
  const auto state = tickets_.find(ticket);
  if (state != tickets_.end() && state->second.connection == connection) {
    const auto entry = state->second.keys.find(index);
    if (entry != state->second.keys.end() && entry->second.key)
      return KeptKey{entry->second.job, entry->second.key, entry->second.header};
  }
  return fail(Reason::kTicketUnknown, "no key is kept under this ticket");
}

void TicketTable::keep_header(const keyring::Ticket& ticket, std::uint32_t index, Bytes header) {
  const std::lock_guard lock(mutex_);
  if (auto* entry = find(ticket, index))
    entry->header = std::make_shared<const Bytes>(std::move(header));
}

void TicketTable::forget_key(const keyring::Ticket& ticket, std::uint32_t index) {
  const std::lock_guard lock(mutex_);
  if (auto* entry = find(ticket, index)) forget(*entry);
}

Result<WaitReply> TicketTable::wait(const keyring::Ticket& ticket, std::uint64_t connection,
                                    std::size_t seen, Deadline deadline) {
  std::unique_lock lock(mutex_);
  for (;;) {
    const auto found = tickets_.find(ticket);
    if (found == tickets_.end() || found->second.connection != connection)
      return fail(Reason::kTicketUnknown, "there is no such ticket");
    auto& state = found->second;
    if (state.deadline.passed(clock_)) expire_locked(state);
    const bool all_ended = state.outcomes.size() == state.keys.size();
    if (state.outcomes.size() > seen || all_ended || stopping_ || deadline.passed()) {
      WaitReply reply;
      const auto first = std::min(seen, state.outcomes.size());
      const auto count = std::min(kOutcomesPerReply, state.outcomes.size() - first);
      const auto from = state.outcomes.begin() + static_cast<std::ptrdiff_t>(first);
      reply.outcomes.assign(from, from + static_cast<std::ptrdiff_t>(count));
      reply.finished = all_ended && first + count == state.outcomes.size();
      return reply;
    }
    const bool alive = !state.deadline.passed(clock_);
    changed_.wait_until(lock, alive ? std::min(deadline.at(), state.deadline.at()) : deadline.at());
  }
}

void TicketTable::cancel(const keyring::Ticket& ticket, std::uint64_t connection) {
  const std::lock_guard lock(mutex_);
  const auto found = tickets_.find(ticket);
  if (found == tickets_.end() || found->second.connection != connection) return;
  for (auto& [index, entry] : found->second.keys) {
    entry.cancelled = true;
    forget(entry);
    if (entry.state == State::kExpected)
      end_locked(found->second, entry, fail(Reason::kCancelled, "given up before its key came"));
  }
}

void TicketTable::drop_connection(std::uint64_t connection) {
  const std::lock_guard lock(mutex_);
  std::erase_if(tickets_, [&](const auto& t) { return t.second.connection == connection; });
  changed_.notify_all();
}

void TicketTable::expire_locked(TicketState& state) {
  for (auto& [index, entry] : state.keys) {
    forget(entry);
    if (entry.state == State::kExpected)
      end_locked(state, entry, fail(Reason::kTimedOut, "its key did not come in time"));
  }
}

void TicketTable::expire() {
  const std::lock_guard lock(mutex_);
  const auto now = clock_.steady();
  for (auto& [ticket, state] : tickets_)
    if (state.deadline.at() <= now) expire_locked(state);
  std::erase_if(tickets_, [&](const auto& t) {
    return t.second.deadline.at() + kKeptAfterDeadline < now &&
           t.second.outcomes.size() == t.second.keys.size();
  });
}

void TicketTable::stop() {
  const std::lock_guard lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "agent/provider_monitor.h"

#include <algorithm>
#include <random>

namespace coffer::agent {
namespace {

double draw_number() {
  static thread_local std::minstd_rand generator{std::random_device{}()};
  return std::uniform_real_distribution<double>(0.0, 1.0)(generator);
}

std::string_view state_of(keyring::VaultState state) {
  switch (state) {
    case keyring::VaultState::kUp:
      return "up";
    case keyring::VaultState::kLoginNeeded:
    case keyring::VaultState::kPinRefused:
    case keyring::VaultState::kPinLocked:
      return "login-needed";
    case keyring::VaultState::kAbsent:
    case keyring::VaultState::kFailed:
      break;
  }
  return "down";
}

Reason reason_of(keyring::VaultState state) {
  switch (state) {
    case keyring::VaultState::kLoginNeeded:
      return Reason::kHsmLoginNeeded;
    case keyring::VaultState::kPinRefused:
      return Reason::kHsmPinIncorrect;
    case keyring::VaultState::kPinLocked:
      return Reason::kHsmPinLocked;
    case keyring::VaultState::kAbsent:
      return Reason::kHsmAbsent;
    case keyring::VaultState::kUp:
    case keyring::VaultState::kFailed:
      break;
  }
  return Reason::kHsmFailed;
}

// Their names, each once: a key of one may be for several uses.
std::vector<std::string> algorithms_of(const std::vector<keyring::KeySupport>& supports) {
  std::vector<std::string> names;
  for (const auto& kind : supports) {
    std::string name(keyring::key_algorithm_name(kind.algorithm));
    if (std::ranges::find(names, name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

}  // namespace

ProviderMonitor::ProviderMonitor(Options options, const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      backoff_(options_.retry_min),
      next_(clock.steady()) {
  info_.name = options_.name;
  info_.kind = "unknown";
  info_.state = "down";
  info_.detail = "not asked yet";
}

bool ProviderMonitor::begin_probe() {
  if (probing_ || clock_.steady() < next_) return false;
  probing_ = true;
  return true;
}

bool ProviderMonitor::take(const keyring::VaultHealth& health) {
  probing_ = false;
  const bool was_up = up();
  info_.state = std::string(state_of(health.state));
  info_.detail = health.detail;
  info_.latency = health.latency;
  info_.failures = health.failures;
  // Of one that is away, what it was known to be.
  if (health.maker) info_.kind = std::string(keyring::vault_maker_name(*health.maker));
  if (up()) {
    info_.token_kind = std::string(keyring::token_kind_name(health.kind));
    info_.algorithms = algorithms_of(health.supports);
  }
  if (up()) {
    info_.last_error.reset();
    backoff_ = options_.retry_min;
  } else {
    info_.last_error = Error(reason_of(health.state), health.detail);
    backoff_ = std::min(backoff_ * 2, options_.retry_max);
  }
  plan_next();
  return up() && !was_up;
}

void ProviderMonitor::put_off_probe() {
  probing_ = false;
  next_ = clock_.steady() + options_.retry_min;
}

void ProviderMonitor::note_failure(const Error& error) {
  const bool is_token = error.name().starts_with("Hsm");
  if (is_token) {
    info_.last_error = error;
    info_.state = "down";
  }
  const SteadyTime soon = clock_.steady() + options_.retry_min;
  if (soon < next_) next_ = soon;
}

void ProviderMonitor::plan_next() {
  const auto wait = up() ? options_.idle : backoff_;
  const double jitter = options_.draw ? options_.draw() : draw_number();
  // From three quarters of the wait to all of it.
  next_ = clock_.steady() + std::chrono::milliseconds(static_cast<std::int64_t>(
                                static_cast<double>(wait.count()) * (0.75 + 0.25 * jitter)));
}

bool may_pass(Reason reason) noexcept {
  const ReasonInfo& info = reason_info(reason);
  return info.retryable == Retryable::kYes || info.name.starts_with("Hsm") ||
         reason == Reason::kDeviceAbsent;
}

bool passes_soon(Reason reason) noexcept {
  switch (reason) {
    case Reason::kHsmTimeout:
    case Reason::kHsmBusy:
    case Reason::kWorkerLost:
    case Reason::kReaderLost:
    case Reason::kTicketUnknown:
    case Reason::kTimedOut:
    case Reason::kActivationFailed:
    case Reason::kAuditUnavailable:
    case Reason::kLimitsExceeded:
      return true;
    default:
      return false;
  }
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "dbus/message.h"

namespace coffer::dbus {

// What polkit is told of one object: volume.uuid, volume.name, device, cmk, operation. A rule may
// allow one group one volume by them.
using AuthorizationDetails = std::vector<std::pair<std::string, std::string>>;

struct AuthorizationQuestion {
  std::string bus_name;  // The caller's unique name: never a pid, which may be another's by now.
  std::string action;
  std::vector<AuthorizationDetails> objects;  // One question each; all must be allowed.
  bool interactive = false;                   // The caller may be asked for a password.
};

// How long polkit may take; a person typing a password gets longer.
struct AuthorizationTimeouts {
  std::chrono::microseconds silent = std::chrono::seconds(5);
  std::chrono::microseconds interactive = std::chrono::minutes(2);
};

enum class Verdict : std::uint8_t { kAllowed, kDenied, kNeedsInteraction };
struct AuthorizationAnswer {
  Verdict verdict = Verdict::kDenied;
  std::string why;  // For the audit trail and the caller.
};

// One authorization in progress. Destroying it withdraws the questions from polkit, and `done` is
// not called.
class Authorization;

// Asks polkit without blocking the loop. An error, a timeout and an answer that cannot be read are
// denials. No answer is kept: each call is decided anew.
class Authorizer {
 public:
  using Done = std::function<void(const AuthorizationAnswer&)>;

  Authorizer(sd_bus* bus, const AuthorizationTimeouts& timeouts) : bus_(bus), timeouts_(timeouts) {}

  // `done` is called later, once, never from inside ask(). Null: polkit cannot be asked, which is a
  // denial too.
  std::shared_ptr<Authorization> ask(AuthorizationQuestion question, Done done);

 private:
  sd_bus* bus_;
  const AuthorizationTimeouts timeouts_;
  std::uint64_t last_serial_ = 0;
};

}  // namespace coffer::dbus

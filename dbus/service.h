// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/engine.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "core/ipc/event_loop.h"
#include "dbus/authorizer.h"
#include "dbus/callers.h"

namespace coffer::dbus {

struct ServiceOptions {
  std::string address;  // "": the system bus.
  CallerLimits limits;
  AuthorizationTimeouts authorization;
  std::chrono::milliseconds reconnect_min{100};  // Doubled after each failure up to …
  std::chrono::milliseconds reconnect_max{5000};
  // Hears, in words for the log, what becomes of the connection.
  std::function<void(const std::string&)> on_event;
};

// Service is org.coffer.Agent1 on the bus: it connects, exports the engine's objects, owns the
// name, and does it all again whenever the bus went away. It works before the bus exists: the
// connection is made when its socket appears, and nothing waits for that.
//
// Bound to the event loop; nothing blocks. The engine outlives it. It is the engine's observer
// while it is connected.
class Service {
 public:
  static Result<std::unique_ptr<Service>> start(ipc::EventLoop& loop, agent::Engine& engine,
                                                ServiceOptions options);
  ~Service();
  Service(const Service&) = delete;
  Service& operator=(const Service&) = delete;

  bool owns_name() const noexcept;
  std::uint32_t connections() const noexcept;  // How often the name was had.

 private:
  struct Impl;
  explicit Service(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace coffer::dbus

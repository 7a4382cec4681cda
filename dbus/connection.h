// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "dbus/change_signals.h"
#include "dbus/dispatcher.h"
#include "dbus/service.h"

namespace coffer::dbus {

// Connection is one life of the bus: from opening its socket until that closes. All that belongs to
// callers of that life (their uids, their waiting calls, polkit's questions) ends with it.
//
// Bound to the event loop.
class Connection {
 public:
  struct Events {
    std::function<void()> named;                   // The bus gave us the name.
    std::function<void(const std::string&)> lost;  // Over, and why. Destroy the connection later,
                                                   // not from inside this.
  };

  // kIoError: the address cannot be opened.
  static Result<std::unique_ptr<Connection>> open(ipc::EventLoop& loop, agent::Engine& engine,
                                                  const ServiceOptions& options, Events events);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

 private:
  Connection(ipc::EventLoop& loop, agent::Engine& engine, const ServiceOptions& options,
             Events events);
  Result<void> begin();
  int export_objects();
  int watch_bus();
  void lose(const std::string& why);

  static int on_connected(sd_bus_message*, void* userdata, sd_bus_error*) noexcept;
  static int on_disconnected(sd_bus_message*, void* userdata, sd_bus_error*) noexcept;
  static int on_named(sd_bus_message*, void* userdata, sd_bus_error*) noexcept;
  static int on_name_lost(sd_bus_message*, void* userdata, sd_bus_error*) noexcept;
  static int on_vanished(sd_bus_message*, void* userdata, sd_bus_error*) noexcept;

  ipc::EventLoop& loop_;
  const ServiceOptions& options_;
  Events events_;
  bool named_ = false;
  BusPtr bus_;
  Context context_;
  std::unique_ptr<Callers> callers_;
  std::unique_ptr<Authorizer> authorizer_;
  std::unique_ptr<Dispatcher> dispatcher_;
  std::unique_ptr<ChangeSignals> signals_;
};

}  // namespace coffer::dbus

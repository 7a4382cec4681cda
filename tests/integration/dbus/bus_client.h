// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <chrono>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "core/ipc/event_loop.h"
#include "dbus/message.h"
#include "dbus/names.h"

namespace coffer::tests {

// An answer to one call: the message, or the error's name and text.
struct Answer {
  std::shared_ptr<sd_bus_message> message;
  std::string error;
  std::string text;

  bool ok() const { return message && error.empty(); }
  std::string path() const;  // The "o" of a good answer, "" otherwise.
};

// Runs the loop until `done` says so; false after `wait`. Nothing here sleeps: the loop wakes for
// what happens on it.
bool run_until(ipc::EventLoop& loop, const std::function<bool()>& done,
               std::chrono::seconds wait = std::chrono::seconds(20));

// BusClient is a caller: a connection of its own to the private bus, served by the loop of the
// test, so that the service and its callers take turns in one thread.
class BusClient {
 public:
  using Fill = std::function<int(sd_bus_message*)>;

  // `uid` other than our own needs root.
  BusClient(ipc::EventLoop& loop, const std::string& address, uid_t uid);
  BusClient(ipc::EventLoop& loop, const std::string& address);
  ~BusClient();
  BusClient(const BusClient&) = delete;
  BusClient& operator=(const BusClient&) = delete;

  sd_bus* bus() const noexcept { return bus_.get(); }
  bool connected() const noexcept { return bus_ != nullptr; }
  std::string unique_name() const;
  void leave();  // Closes the connection at once, whatever it waits for.

  // Calls and waits for the answer.
  Answer call(const std::string& path, const char* interface, const char* member,
              const Fill& fill = {}, bool interactive = false);
  // Calls; the answer goes to `into`, later.
  void start(const std::string& path, const char* interface, const char* member, const Fill& fill,
             const std::shared_ptr<Answer>& into, bool interactive = false);

  Answer manager(const char* member, const Fill& fill = {}) {
    return call(dbus::kRootPath, dbus::kManagerInterface, member, fill);
  }
  // "" when it cannot be read.
  std::string text_property(const std::string& path, const char* interface, const char* name);
  std::uint32_t number_property(const std::string& path, const char* interface, const char* name);

  // Signals of `interface` from our bus name, as "Member path", in the order they came.
  void listen(const char* interface);
  const std::vector<std::string>& heard() const noexcept { return heard_; }
  // The names in all PropertiesChanged that were heard.
  const std::set<std::string>& changed_properties() const noexcept { return changed_properties_; }

 private:
  static int on_signal(sd_bus_message* signal, void* userdata, sd_bus_error*) noexcept;

  ipc::EventLoop& loop_;
  dbus::BusPtr bus_;
  std::vector<std::string> heard_;
  std::set<std::string> changed_properties_;
};

// Fills for calls.
inline int no_options(sd_bus_message* m) {
  return ::sd_bus_message_append(m, "a{sv}", 0);
}
BusClient::Fill specs(const std::vector<std::string>& names);  // as, and no options.

// A program with its output, run beside the loop. `on_err` hears of what it has written to its
// standard error so far, each time there is more.
struct CommandResult {
  int status = -1;
  std::string out;
  std::string err;
};
using OnErr = std::function<void(pid_t program, const std::string& err)>;
CommandResult run_command(ipc::EventLoop& loop, const std::vector<std::string>& words,
                          std::chrono::seconds wait = std::chrono::seconds(30),
                          const OnErr& on_err = {});

}  // namespace coffer::tests

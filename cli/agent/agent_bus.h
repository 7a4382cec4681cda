// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <systemd/sd-bus.h>

#include <boost/json.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace coffer::cli {

inline constexpr const char* kAgentName = "org.coffer.Agent1";
inline constexpr const char* kAgentRoot = "/org/coffer/Agent1";

// AgentBus is the command line's way to cofferd: calls that wait for their answer, with D-Bus
// errors turned back into the reasons they were made from.
class AgentBus {
 public:
  using Fill = std::function<int(sd_bus_message*)>;
  using Message = CHandle<sd_bus_message, ::sd_bus_message_unref>;
  using Bus = CHandle<sd_bus, ::sd_bus_unref>;

  // The system bus, or the one at `address`. `may_ask`: polkit may ask for a password.
  // kAgentUnreachable: there is no bus.
  static Result<AgentBus> connect(const std::string& address, bool may_ask);

  // Calls interface org.coffer.Agent1.`interface`; the answer's arguments.
  //   kAgentUnreachable  cofferd is not on the bus, or left; kTimedOut; kAccessDenied; whatever the
  //                      agent says.
  Result<boost::json::array> call(const std::string& path, const std::string& interface,
                                  const std::string& member, const Fill& fill = {});

  // The same for an answer with what JSON does not hold: descriptors, and bytes that are many.
  // `read` takes its arguments, in order; negative errno or not negative.
  using Read = std::function<int(sd_bus_message*)>;
  Result<void> call_raw(const std::string& path, const std::string& interface,
                        const std::string& member, const Fill& fill, const Read& read);

  // All properties of one object, or of all objects that have the interface, by path.
  Result<boost::json::object> properties(const std::string& path, const std::string& interface);
  Result<std::map<std::string, boost::json::object>> objects(const std::string& interface);

  // Calls `on_signal` for each signal of the interface, from wait() alone.
  using OnSignal = std::function<void(const std::string& path, const std::string& member,
                                      const boost::json::array& arguments)>;
  Result<void> listen(const std::string& interface, OnSignal on_signal);
  // Handles what comes within `time`; returns early once something came, or a signal was caught.
  // Whether there may be more that has come. kAgentUnreachable: the bus is gone.
  Result<bool> wait(std::chrono::milliseconds time);

 private:
  explicit AgentBus(Bus bus, bool may_ask) : bus_(std::move(bus)), may_ask_(may_ask) {}
  Result<Message> make_call(const std::string& path, const std::string& interface,
                            const std::string& member, const Fill& fill);
  Result<Message> send_for(const Message& message);
  Result<boost::json::array> send(const Message& message);
  static int on_signal(sd_bus_message* signal, void* userdata, sd_bus_error*) noexcept;

  Bus bus_;
  bool may_ask_ = false;
  std::vector<std::unique_ptr<OnSignal>> listeners_;
};

// The reason behind a D-Bus error's name, also the bus's own; kInternal when it has no row.
Reason reason_of_error_name(const std::string& name);

}  // namespace coffer::cli

// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/agent_bus.h"

#include <array>
#include <cerrno>

#include "cli/agent/bus_json.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

// Longer than polkit gives a person to type a password; what takes longer is a job.
constexpr std::uint64_t kCallTimeoutUsec = 150'000'000;

constexpr const char* kProperties = "org.freedesktop.DBus.Properties";

struct BusError {
  std::string_view name;
  Reason reason;
};
constexpr auto kBusErrors = std::to_array<BusError>({
    {"ServiceUnknown", Reason::kAgentUnreachable},
    {"NameHasNoOwner", Reason::kAgentUnreachable},
    {"Disconnected", Reason::kAgentUnreachable},
    {"NoServer", Reason::kAgentUnreachable},
    {"FileNotFound", Reason::kAgentUnreachable},
    {"Spawn.ExecFailed", Reason::kAgentUnreachable},
    {"Spawn.ChildExited", Reason::kAgentUnreachable},
    {"Spawn.ServiceNotFound", Reason::kAgentUnreachable},
    {"NoReply", Reason::kTimedOut},
    {"Timeout", Reason::kTimedOut},
    {"TimedOut", Reason::kTimedOut},
    {"InteractiveAuthorizationRequired", Reason::kAccessDenied},
    {"NotSupported", Reason::kUnsupported},
    {"UnknownMethod", Reason::kUnsupported},
    {"UnknownInterface", Reason::kUnsupported},
    {"UnknownObject", Reason::kNoSuchJob},
    {"NoMemory", Reason::kNoMemory},
});

tl::unexpected<Error> unreachable(int error_number) {
  return fail(Reason::kAgentUnreachable,
              std::string("the bus cannot be reached: ") + std::strerror(error_number));
}

}  // namespace

Reason reason_of_error_name(const std::string& name) {
  if (const auto reason = reason_by_name(name)) return *reason;
  for (const auto& known : kBusErrors) {
    if (name.starts_with(kDbusStandardPrefix) &&
        std::string_view(name).substr(kDbusStandardPrefix.size()) == known.name)
      return known.reason;
  }
  return Reason::kInternal;
}

Result<AgentBus> AgentBus::connect(const std::string& address, bool may_ask) {
  sd_bus* bus = nullptr;
  int r = 0;
  if (address.empty()) {
    r = ::sd_bus_open_system(&bus);
  } else {
    r = ::sd_bus_new(&bus);
    if (r >= 0) r = ::sd_bus_set_address(bus, address.c_str());
    if (r >= 0) r = ::sd_bus_set_bus_client(bus, 1);
    if (r >= 0) r = ::sd_bus_start(bus);
  }
  Bus owned(bus);
  if (r < 0) return unreachable(-r);
  return AgentBus(std::move(owned), may_ask);
}

Result<AgentBus::Message> AgentBus::send_for(const Message& message) {
  sd_bus_error error{};
  sd_bus_message* answer = nullptr;
  const int r = ::sd_bus_call(bus_.get(), message.get(), kCallTimeoutUsec, &error, &answer);
  Message owned(answer);
  if (r >= 0) return owned;
  const std::string name = error.name != nullptr ? error.name : "";
  const std::string text = error.message != nullptr ? error.message : "";
  ::sd_bus_error_free(&error);
  if (r == -ENOTCONN || r == -ECONNRESET || name.empty()) return unreachable(-r);
  return fail(reason_of_error_name(name), text.empty() ? name : text);
}

Result<json::array> AgentBus::send(const Message& message) {
  const auto answer = send_for(message);
  if (!answer) return tl::unexpected(answer.error());
  return arguments_as_json(answer->get());
}

Result<json::array> AgentBus::call(const std::string& path, const std::string& interface,
                                   const std::string& member, const Fill& fill) {
  const auto message = make_call(path, interface, member, fill);
  if (!message) return tl::unexpected(message.error());
  return send(*message);
}

Result<void> AgentBus::call_raw(const std::string& path, const std::string& interface,
                                const std::string& member, const Fill& fill, const Read& read) {
  const auto message = make_call(path, interface, member, fill);
  if (!message) return tl::unexpected(message.error());
  const auto answer = send_for(*message);
  if (!answer) return tl::unexpected(answer.error());
  if (read(answer->get()) < 0) {
    return fail(Reason::kMessageInvalid, "the agent's answer cannot be read");
  }
  return {};
}

Result<AgentBus::Message> AgentBus::make_call(const std::string& path, const std::string& interface,
                                              const std::string& member, const Fill& fill) {
  sd_bus_message* message = nullptr;
  const std::string full = std::string(kAgentName).append(".").append(interface);
  int r = ::sd_bus_message_new_method_call(bus_.get(), &message, kAgentName, path.c_str(),
                                           full.c_str(), member.c_str());
  Message owned(message);
  if (r >= 0 && fill) r = fill(message);
  if (r >= 0) r = ::sd_bus_message_set_allow_interactive_authorization(message, may_ask_ ? 1 : 0);
  if (r < 0)
    return fail(Reason::kInvalidArgs, std::string("the call cannot be made: ") + std::strerror(-r));
  return owned;
}

Result<json::object> AgentBus::properties(const std::string& path, const std::string& interface) {
  sd_bus_message* message = nullptr;
  const std::string full = std::string(kAgentName).append(".").append(interface);
  int r = ::sd_bus_message_new_method_call(bus_.get(), &message, kAgentName, path.c_str(),
                                           kProperties, "GetAll");
  const Message owned(message);
  if (r >= 0) r = ::sd_bus_message_append(message, "s", full.c_str());
  if (r < 0)
    return fail(Reason::kInvalidArgs, std::string("the call cannot be made: ") + std::strerror(-r));
  auto answer = send(owned);
  if (!answer) return tl::unexpected(answer.error());
  return std::move(answer->at(0).as_object());
}

Result<std::map<std::string, json::object>> AgentBus::objects(const std::string& interface) {
  sd_bus_message* message = nullptr;
  const int r =
      ::sd_bus_message_new_method_call(bus_.get(), &message, kAgentName, kAgentRoot,
                                       "org.freedesktop.DBus.ObjectManager", "GetManagedObjects");
  const Message owned(message);
  if (r < 0) return unreachable(-r);
  auto answer = send(owned);
  if (!answer) return tl::unexpected(answer.error());
  std::map<std::string, json::object> found;
  const std::string full = std::string(kAgentName).append(".").append(interface);
  for (auto& [path, interfaces] : answer->at(0).as_object()) {
    if (auto* properties = interfaces.as_object().if_contains(full))
      found.emplace(path, std::move(properties->as_object()));
  }
  return found;
}

int AgentBus::on_signal(sd_bus_message* signal, void* userdata, sd_bus_error*) noexcept try {
  const auto arguments = arguments_as_json(signal);
  if (arguments)
    (*static_cast<OnSignal*>(userdata))(::sd_bus_message_get_path(signal),
                                        ::sd_bus_message_get_member(signal), *arguments);
  return 0;
} catch (const std::exception&) {
  return 0;  // A signal we cannot hold: properties are asked for anyway.
}

Result<void> AgentBus::listen(const std::string& interface, OnSignal on_signal) {
  auto listener = std::make_unique<OnSignal>(std::move(on_signal));
  std::string match = "type='signal',interface='";
  match.append(interface).append("',sender='").append(kAgentName).append("'");
  const int r =
      ::sd_bus_add_match(bus_.get(), nullptr, match.c_str(), &AgentBus::on_signal, listener.get());
  if (r < 0) return unreachable(-r);
  listeners_.push_back(std::move(listener));
  return {};
}

Result<bool> AgentBus::wait(std::chrono::milliseconds time) {
  int r = ::sd_bus_process(bus_.get(), nullptr);
  if (r > 0) return true;
  if (r == 0)
    r = ::sd_bus_wait(bus_.get(),
                      static_cast<std::uint64_t>(std::chrono::microseconds(time).count()));
  if (r >= 0 || r == -EINTR) return r > 0;
  return unreachable(-r);
}

}  // namespace coffer::cli

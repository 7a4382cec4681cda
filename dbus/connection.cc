// SPDX-License-Identifier: Apache-2.0
#include "dbus/connection.h"

#include "dbus/audit_object.h"
#include "dbus/errors.h"
#include "dbus/job_object.h"
#include "dbus/key_object.h"
#include "dbus/manager_object.h"
#include "dbus/names.h"
#include "dbus/provider_object.h"
#include "dbus/volume_object.h"

namespace coffer::dbus {
namespace {

constexpr const char* kSystemBusAddress = "unix:path=/run/dbus/system_bus_socket";
constexpr const char* kLocalPath = "/org/freedesktop/DBus/Local";
constexpr const char* kLocalInterface = "org.freedesktop.DBus.Local";

std::string address_of(const ServiceOptions& options) {
  if (!options.address.empty()) return options.address;
  const char* given = std::getenv("DBUS_SYSTEM_BUS_ADDRESS");
  return given != nullptr ? given : kSystemBusAddress;
}

}  // namespace

Connection::Connection(ipc::EventLoop& loop, agent::Engine& engine, const ServiceOptions& options,
                       Events events)
    : loop_(loop), options_(options), events_(std::move(events)), context_{engine, nullptr, {},
                                                                           {},     {},      {}} {}

Connection::~Connection() {
  // First what sends on the bus or waits for it, then the bus with the vtables that see context_.
  signals_.reset();
  dispatcher_.reset();
  callers_.reset();
  if (bus_) {
    ::sd_bus_detach_event(bus_.get());
    ::sd_bus_close(bus_.get());
  }
}

Result<std::unique_ptr<Connection>> Connection::open(ipc::EventLoop& loop, agent::Engine& engine,
                                                     const ServiceOptions& options, Events events) {
  register_errors();
  std::unique_ptr<Connection> connection(new Connection(loop, engine, options, std::move(events)));
  if (const auto begun = connection->begin(); !begun) return tl::unexpected(begun.error());
  return connection;
}

Result<void> Connection::begin() {
  sd_bus* bus = nullptr;
  int r = ::sd_bus_new(&bus);
  if (r < 0) return fail_errno(-r, "make a bus connection");
  bus_.reset(bus);
  if (r >= 0) r = ::sd_bus_set_description(bus, "coffer");
  if (r >= 0) r = ::sd_bus_set_address(bus, address_of(options_).c_str());
  if (r >= 0) r = ::sd_bus_set_bus_client(bus, 1);
  if (r >= 0) r = ::sd_bus_set_trusted(bus, 0);
  // Callers' own data come and go by them. The bus's policy lets no other call bring one.
  if (r >= 0) r = ::sd_bus_negotiate_fds(bus, 1);
  if (r >= 0) r = ::sd_bus_set_watch_bind(bus, 1);
  if (r >= 0) r = ::sd_bus_set_connected_signal(bus, 1);
  if (r >= 0) r = export_objects();
  if (r >= 0) r = ::sd_bus_start(bus);
  if (r >= 0) r = watch_bus();
  if (r >= 0) r = ::sd_bus_attach_event(bus, loop_.handle(), SD_EVENT_PRIORITY_NORMAL);
  if (r < 0) return fail_errno(-r, "open the bus at " + address_of(options_));
  return {};
}

int Connection::export_objects() {
  auto* bus = bus_.get();
  callers_ = std::make_unique<Callers>(bus, options_.limits, system_clock());
  authorizer_ = std::make_unique<Authorizer>(bus, options_.authorization);
  dispatcher_ = std::make_unique<Dispatcher>(context_, *callers_, *authorizer_);
  context_.dispatcher = dispatcher_.get();

  int r = ::sd_bus_add_object_manager(bus, nullptr, kRootPath);
  for (const auto export_them : {&export_manager, &export_audit, &export_keyring, &export_volumes,
                                 &export_jobs, &export_keys, &export_providers}) {
    if (r >= 0) r = export_them(bus, context_);
  }
  return r;
}

int Connection::watch_bus() {
  auto* bus = bus_.get();
  int r = ::sd_bus_match_signal(bus, nullptr, kLocalInterface, kLocalPath, kLocalInterface,
                                "Connected", &Connection::on_connected, this);
  if (r >= 0)
    r = ::sd_bus_match_signal(bus, nullptr, kLocalInterface, kLocalPath, kLocalInterface,
                              "Disconnected", &Connection::on_disconnected, this);
  if (r >= 0)
    r = ::sd_bus_match_signal_async(bus, nullptr, "org.freedesktop.DBus", "/org/freedesktop/DBus",
                                    "org.freedesktop.DBus", "NameLost", &Connection::on_name_lost,
                                    nullptr, this);
  // Every unique name that leaves the bus; there is one such message per client that ends.
  if (r >= 0)
    r = ::sd_bus_add_match_async(
        bus, nullptr,
        "type='signal',sender='org.freedesktop.DBus',path='/org/freedesktop/DBus',"
        "interface='org.freedesktop.DBus',member='NameOwnerChanged',arg2=''",
        &Connection::on_vanished, nullptr, this);
  return r;
}

void Connection::lose(const std::string& why) {
  if (const auto lost = std::exchange(events_.lost, nullptr)) lost(why);
}

int Connection::on_connected(sd_bus_message*, void* userdata, sd_bus_error*) noexcept try {
  auto& self = *static_cast<Connection*>(userdata);
  self.signals_ =
      std::make_unique<ChangeSignals>(self.bus_.get(), self.context_.engine, self.loop_);
  const int r = ::sd_bus_request_name_async(self.bus_.get(), nullptr, kBusName, 0,
                                            &Connection::on_named, &self);
  if (r < 0) self.lose("the name could not be asked for");
  return 0;
} catch (const std::exception&) {
  return -ENOMEM;
}

int Connection::on_named(sd_bus_message* answer, void* userdata, sd_bus_error*) noexcept try {
  auto& self = *static_cast<Connection*>(userdata);
  constexpr std::uint32_t kPrimaryOwner = 1;
  std::uint32_t code = 0;
  if (const auto* error = ::sd_bus_message_get_error(answer); error != nullptr) {
    self.lose(std::string("the bus refuses the name: ") + error->name);
  } else if (::sd_bus_message_read(answer, "u", &code) < 0 || code != kPrimaryOwner) {
    self.lose("another process has the name");
  } else {
    self.named_ = true;
    if (self.events_.named) self.events_.named();
  }
  return 1;
} catch (const std::exception&) {
  return -ENOMEM;
}

int Connection::on_disconnected(sd_bus_message*, void* userdata, sd_bus_error*) noexcept try {
  static_cast<Connection*>(userdata)->lose("the bus closed the connection");
  return 0;
} catch (const std::exception&) {
  return -ENOMEM;
}

int Connection::on_name_lost(sd_bus_message* signal, void* userdata, sd_bus_error*) noexcept try {
  auto& self = *static_cast<Connection*>(userdata);
  const char* name = nullptr;
  if (::sd_bus_message_read(signal, "s", &name) >= 0 && std::string_view(name) == kBusName)
    self.lose("the bus took the name away");
  return 0;
} catch (const std::exception&) {
  return -ENOMEM;
}

int Connection::on_vanished(sd_bus_message* signal, void* userdata, sd_bus_error*) noexcept try {
  auto& self = *static_cast<Connection*>(userdata);
  const char* name = nullptr;
  if (::sd_bus_message_read(signal, "s", &name) < 0 || name[0] != ':') return 0;
  self.dispatcher_->on_vanished(name);
  self.callers_->forget(name);
  return 0;
} catch (const std::exception&) {
  return -ENOMEM;
}

}  // namespace coffer::dbus

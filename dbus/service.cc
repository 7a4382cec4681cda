// SPDX-License-Identifier: Apache-2.0
#include "dbus/service.h"

#include <algorithm>

#include "dbus/connection.h"

namespace coffer::dbus {

struct Service::Impl {
  ipc::EventLoop& loop;
  agent::Engine& engine;
  const ServiceOptions options;
  std::chrono::milliseconds wait;
  bool named = false;
  std::uint32_t names = 0;
  std::unique_ptr<Connection> connection;
  ipc::EventSource timer;

  Impl(ipc::EventLoop& the_loop, agent::Engine& the_engine, ServiceOptions the_options)
      : loop(the_loop),
        engine(the_engine),
        options(std::move(the_options)),
        wait(options.reconnect_min) {}

  void tell(const std::string& text) const {
    if (options.on_event) options.on_event(text);
  }

  Result<void> connect() {
    auto opened = Connection::open(loop, engine, options,
                                   {.named = [this] { on_named(); },
                                    .lost = [this](const std::string& why) { on_lost(why); }});
    if (!opened) return tl::unexpected(opened.error());
    connection = std::move(*opened);
    return {};
  }

  void on_named() {
    named = true;
    ++names;
    wait = options.reconnect_min;
    tell("on the bus as org.coffer.Agent1");
  }

  void on_lost(const std::string& why) {
    named = false;
    tell("off the bus: " + why);
    connect_later();
  }

  // Also when the connection just ended: it must not be destroyed from inside its own callback.
  void connect_later() {
    auto next = loop.after(wait, [this] {
      connection.reset();
      if (const auto connected = connect(); !connected) {
        tell(connected.error().str());
        connect_later();
      }
    });
    wait = std::min(wait * 2, options.reconnect_max);
    if (next) {
      timer = std::move(*next);
    } else {
      tell(next.error().str());
    }
  }
};

Service::Service(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Service::~Service() = default;

Result<std::unique_ptr<Service>> Service::start(ipc::EventLoop& loop, agent::Engine& engine,
                                                ServiceOptions options) {
  auto impl = std::make_unique<Impl>(loop, engine, std::move(options));
  // A bus that is not there yet is not an error: sd-bus waits for its socket to appear, and where
  // it cannot, we try again.
  if (const auto connected = impl->connect(); !connected) {
    impl->tell(connected.error().str());
    impl->connect_later();
  }
  return std::unique_ptr<Service>(new Service(std::move(impl)));
}

bool Service::owns_name() const noexcept {
  return impl_->named;
}

std::uint32_t Service::connections() const noexcept {
  return impl_->names;
}

}  // namespace coffer::dbus

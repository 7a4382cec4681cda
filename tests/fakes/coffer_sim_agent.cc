// SPDX-License-Identifier: Apache-2.0
// coffer-sim-agent: the D-Bus service over the simulated engine, for busctl and other clients.
//
//   coffer-sim-agent --bus ADDRESS [--volumes NAME,NAME…|N] [--item-ms N] [--fail NAME=Reason]…
//
// Prints "ready" once it owns the name, and what becomes of the connection on standard error. Ends
// on SIGTERM.
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include "dbus/service.h"
#include "tests/fakes/sim_engine.h"

namespace {

using coffer::Error;
using coffer::tests::SimEngine;

struct Arguments {
  std::string bus;
  std::vector<std::string> volumes{"vol-a", "vol-b", "vol-c"};
  SimEngine::Options engine;
  std::vector<std::pair<std::string, Error>> failures;
};

std::vector<std::string> volume_names(const std::string& text) {
  std::vector<std::string> names;
  if (text.find_first_not_of("0123456789") == std::string::npos) {
    for (int i = 0; i < std::atoi(text.c_str()); ++i) names.push_back("vol-" + std::to_string(i));
    return names;
  }
  for (std::size_t at = 0; at <= text.size();) {
    const auto comma = std::min(text.find(',', at), text.size());
    names.push_back(text.substr(at, comma - at));
    at = comma + 1;
  }
  return names;
}

bool parse(const std::vector<std::string>& words, Arguments& arguments) {
  for (std::size_t i = 0; i + 1 < words.size(); i += 2) {
    const auto& name = words[i];
    const auto& value = words[i + 1];
    if (name == "--bus") {
      arguments.bus = value;
    } else if (name == "--volumes") {
      arguments.volumes = volume_names(value);
    } else if (name == "--item-ms") {
      arguments.engine.item_time = std::chrono::milliseconds(std::atoi(value.c_str()));
    } else if (name == "--fail") {
      const auto equals = value.find('=');
      const auto reason = coffer::reason_by_name(value.substr(equals + 1));
      if (equals == std::string::npos || !reason) return false;
      arguments.failures.emplace_back(value.substr(0, equals),
                                      Error(*reason, "simulated: " + value));
    } else {
      return false;
    }
  }
  return words.size() % 2 == 0;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  if (!parse({argv + 1, argv + argc}, arguments)) {
    std::fputs(
        "usage: coffer-sim-agent --bus ADDRESS [--volumes N|NAMES] [--item-ms N]"
        " [--fail NAME=Reason]\n",
        stderr);
    return 2;
  }
  const auto blocked = coffer::ipc::EventLoop::block_signals({SIGTERM, SIGINT});
  auto loop = coffer::ipc::EventLoop::make();
  if (!blocked || !loop) return 1;
  const auto stop = (*loop)->on_signal(SIGTERM, [&] { (*loop)->exit(0); });

  SimEngine engine(**loop, arguments.engine);
  engine.add_key("default");
  for (const auto& name : arguments.volumes) engine.add_volume(name);
  for (auto& [name, error] : arguments.failures) engine.fail_volume(name, error);

  const auto tell = [](const std::string& text) {
    std::fprintf(stderr, "%s\n", text.c_str());
    if (text.starts_with("on the bus")) {
      std::puts("ready");
      std::fflush(stdout);
    }
  };
  coffer::dbus::ServiceOptions options;
  options.address = arguments.bus;
  options.on_event = tell;
  const auto service = coffer::dbus::Service::start(**loop, engine, options);
  if (!service) return 1;
  const auto code = (*loop)->run();
  return code ? *code : 1;
}

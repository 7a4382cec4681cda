// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/provider_wait.h"

#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/agent/agent_bus.h"
#include "cli/agent/report.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr std::chrono::milliseconds kBetweenLooks{200};

// The words of a provider that is up, or why it is not.
Result<std::string> judge(const json::object& provider) {
  const auto detail = text_of(provider, "Detail");
  if (text_of(provider, "State") == "up") return detail;
  const auto& error = provider.at("LastError").as_array();
  const std::string reason(error.at(0).as_string());
  if (reason.empty()) return fail(Reason::kHsmAbsent, detail);
  return fail(reason_of_error_name(reason), std::string(error.at(1).as_string()));
}

Result<std::string> look(const std::string& address, const std::string& name) {
  auto bus = AgentBus::connect(address, false);
  if (!bus) return tl::unexpected(bus.error());
  const auto providers = bus->objects("KeyProvider");
  if (!providers) return tl::unexpected(providers.error());
  for (const auto& [path, provider] : *providers) {
    if (name.empty() || text_of(provider, "Name") == name) return judge(provider);
  }
  return fail(Reason::kInvalidArgs, "no provider is called \"" + name + "\"");
}

}  // namespace

Result<std::string> wait_provider_up(const std::string& address, const std::string& name,
                                     Deadline deadline) {
  for (;;) {
    auto found = look(address, name);
    // The agent names its provider from its start: another will not come.
    const bool final = found || found.error().reason() == Reason::kInvalidArgs;
    if (final || deadline.passed()) return found;
    std::this_thread::sleep_for(std::min(kBetweenLooks, deadline.left()));
  }
}

}  // namespace coffer::cli

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <boost/json.hpp>
#include <string>
#include <string_view>

#include "cli/command.h"
#include "core/base/result.h"

namespace CLI {
class App;
}

namespace coffer::cli {

// The options that every command on the agent takes.
struct AgentOptions {
  std::string bus;     // --bus: another bus than the system's, for tests.
  bool json = false;   // --json: one JSON document on standard output, nothing else there.
  std::string reason;  // --reason: for the audit trail.
  bool no_wait = false;
  std::string timeout;
};
void add_agent_options(CLI::App& command, AgentOptions& options);

// What an operator can do about an error, one sentence; "" when the text says it all.
std::string_view what_to_do(Reason reason);

// Prints the error (with --json as {"error": …} on standard output) and gives its exit status.
int report_error(const Error& error, const AgentOptions& options, Invocation& invocation);

// Prints one JSON document, and gives kExitOk.
int print_json(const boost::json::value& value, Invocation& invocation);

// The name without its D-Bus prefix: "KeyDisabled".
std::string short_error_name(std::string_view name);

// Reading properties: a missing one is "", 0 or false.
std::string text_of(const boost::json::object& object, std::string_view name);
std::uint64_t number_of(const boost::json::object& object, std::string_view name);
bool flag_of(const boost::json::object& object, std::string_view name);

// The object with its path beside the properties, as --json shows it.
boost::json::object with_path(boost::json::object object, const std::string& path);

}  // namespace coffer::cli

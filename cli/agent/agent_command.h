// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "cli/agent/agent_bus.h"
#include "cli/agent/report.h"
#include "cli/command.h"

namespace coffer::cli {

// What a command does once it has the agent; its result is the exit status.
using AgentWork = std::function<int(AgentBus&, const AgentOptions&, Invocation&)>;

// kJobCommand also takes --no-wait and --reason, kChangeCommand --reason.
enum AgentCommandKind : std::uint8_t { kPlainCommand, kChangeCommand, kJobCommand };

// Declares a command on the agent with the options all of them take (--bus, --json). Further
// options are added to what it returns.
CLI::App* add_agent_command(CLI::App& parent, Invocation& invocation, const std::string& name,
                            const std::string& help, AgentCommandKind kind, AgentWork work);

// Does the work on the agent; its exit status, or that of the error when there is no bus.
int run_on_agent(const AgentWork& work, const AgentOptions& options, Invocation& invocation);

// The a{sv} at the end of a call: what was chosen, and the options of every command.
class OptionList {
 public:
  void text(const char* name, const std::string& value);  // Left out when "".
  void any_text(const char* name, const std::string& value);
  void texts(const char* name, const std::vector<std::string>& values);  // Left out when empty.
  void flag(const char* name, bool given, bool value = true);
  void seconds(const char* name, double seconds);        // As microseconds; left out when 0.
  void number(const char* name, std::uint64_t value);    // t
  void number32(const char* name, std::uint32_t value);  // u
  // Like all sd-bus calls: negative errno or not negative.
  int append(sd_bus_message* message, const AgentOptions& options) const;
  int append_alone(sd_bus_message* message) const;  // Filters: without the common options.

 private:
  using Value =
      std::variant<std::string, bool, std::uint64_t, std::uint32_t, std::vector<std::string>>;
  std::vector<std::pair<const char*, Value>> values_;
};

int append_strings(sd_bus_message* message, const std::vector<std::string>& texts);

// For calls that answer nothing: the error, or "done" in a word (with --json {"done": true}).
int report_done(const Result<boost::json::array>& answer, const char* word,
                const AgentOptions& options, Invocation& invocation);

}  // namespace coffer::cli

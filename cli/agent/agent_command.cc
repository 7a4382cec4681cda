// SPDX-License-Identifier: Apache-2.0
#include "cli/agent/agent_command.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <ostream>

namespace coffer::cli {

int run_on_agent(const AgentWork& work, const AgentOptions& options, Invocation& invocation) {
  // Without a terminal nobody could type a password, and polkit would wait for one.
  const bool may_ask = ::isatty(STDIN_FILENO) != 0;
  auto bus = AgentBus::connect(options.bus, may_ask);
  if (!bus) return report_error(bus.error(), options, invocation);
  return work(*bus, options, invocation);
}

CLI::App* add_agent_command(CLI::App& parent, Invocation& invocation, const std::string& name,
                            const std::string& help, AgentCommandKind kind, AgentWork work) {
  auto* command = parent.add_subcommand(name, help);
  const auto options = std::make_shared<AgentOptions>();
  add_agent_options(*command, *options);
  if (kind != kPlainCommand)
    command->add_option("--reason", options->reason, "Why, for the audit trail");
  if (kind == kJobCommand)
    command->add_flag("--no-wait", options->no_wait, "Start the job and return");
  command->callback([&invocation, options, work = std::move(work)] {
    invocation.action = [&invocation, options, work] {
      return run_on_agent(work, *options, invocation);
    };
  });
  return command;
}

namespace {

// {name: variant of as}.
int append_texts_entry(sd_bus_message* message, const char* name,
                       const std::vector<std::string>& texts) {
  int r = ::sd_bus_message_open_container(message, 'e', "sv");
  if (r >= 0) r = ::sd_bus_message_append(message, "s", name);
  if (r >= 0) r = ::sd_bus_message_open_container(message, 'v', "as");
  if (r >= 0) r = append_strings(message, texts);
  if (r >= 0) r = ::sd_bus_message_close_container(message);
  return r < 0 ? r : ::sd_bus_message_close_container(message);
}

}  // namespace

void OptionList::text(const char* name, const std::string& value) {
  if (!value.empty()) values_.emplace_back(name, value);
}
void OptionList::any_text(const char* name, const std::string& value) {
  values_.emplace_back(name, value);
}
void OptionList::texts(const char* name, const std::vector<std::string>& values) {
  if (!values.empty()) values_.emplace_back(name, values);
}
void OptionList::flag(const char* name, bool given, bool value) {
  if (given) values_.emplace_back(name, value);
}
void OptionList::seconds(const char* name, double seconds) {
  if (seconds > 0) values_.emplace_back(name, static_cast<std::uint64_t>(seconds * 1e6));
}
void OptionList::number(const char* name, std::uint64_t value) {
  values_.emplace_back(name, value);
}

void OptionList::number32(const char* name, std::uint32_t value) {
  values_.emplace_back(name, value);
}

int OptionList::append(sd_bus_message* message, const AgentOptions& options) const {
  auto all = *this;
  all.text("reason", options.reason);
  return all.append_alone(message);
}

int OptionList::append_alone(sd_bus_message* message) const {
  int r = ::sd_bus_message_open_container(message, 'a', "{sv}");
  for (const auto& [name, value] : values_) {
    if (r < 0) return r;
    if (const auto* text = std::get_if<std::string>(&value)) {
      r = ::sd_bus_message_append(message, "{sv}", name, "s", text->c_str());
    } else if (const auto* flag = std::get_if<bool>(&value)) {
      r = ::sd_bus_message_append(message, "{sv}", name, "b", static_cast<int>(*flag));
    } else if (const auto* number = std::get_if<std::uint32_t>(&value)) {
      r = ::sd_bus_message_append(message, "{sv}", name, "u", *number);
    } else if (const auto* texts = std::get_if<std::vector<std::string>>(&value)) {
      r = append_texts_entry(message, name, *texts);
    } else {
      r = ::sd_bus_message_append(message, "{sv}", name, "t", std::get<std::uint64_t>(value));
    }
  }
  return r < 0 ? r : ::sd_bus_message_close_container(message);
}

int append_strings(sd_bus_message* message, const std::vector<std::string>& texts) {
  int r = ::sd_bus_message_open_container(message, 'a', "s");
  for (const auto& text : texts) {
    if (r >= 0) r = ::sd_bus_message_append(message, "s", text.c_str());
  }
  return r < 0 ? r : ::sd_bus_message_close_container(message);
}

int report_done(const Result<boost::json::array>& answer, const char* word,
                const AgentOptions& options, Invocation& invocation) {
  if (!answer) return report_error(answer.error(), options, invocation);
  if (options.json) return print_json(boost::json::object{{"done", true}}, invocation);
  invocation.out << word << "\n";
  return kExitOk;
}

}  // namespace coffer::cli

// SPDX-License-Identifier: Apache-2.0
// `coffer key …`: the customer master keys of this host.
#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/table.h"
#include "cli/commands.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

int list(AgentBus& bus, const AgentOptions& options, Invocation& invocation) {
  const auto keys = bus.objects("Key");
  if (!keys) return report_error(keys.error(), options, invocation);
  std::map<std::string, json::object> by_alias;
  for (const auto& [path, key] : *keys)
    by_alias.emplace(text_of(key, "Alias") + " " + path, with_path(key, path));
  if (options.json) {
    json::array all;
    for (auto& [alias, key] : by_alias) all.emplace_back(std::move(key));
    return print_json(all, invocation);
  }
  Table table({"ALIAS", "STATE", "VERSION", "VOLUMES", "PROTECTION", "ID"});
  for (const auto& [alias, key] : by_alias) {
    table.add({text_of(key, "Alias"), text_of(key, "State"),
               std::to_string(number_of(key, "Version")),
               std::to_string(number_of(key, "NVolumes")),
               text_of(key, "Protection") + ", " + text_of(key, "TokenKind"), text_of(key, "Id")});
  }
  if (table.empty()) {
    invocation.err << "no keys; `coffer key create ALIAS` makes one\n";
  } else {
    table.print(invocation.out);
  }
  return kExitOk;
}

Result<std::string> find_key(AgentBus& bus, const std::string& spec) {
  const auto found = bus.call(kAgentRoot, "Keyring", "GetKey", [&](sd_bus_message* m) {
    return ::sd_bus_message_append(m, "s", spec.c_str());
  });
  if (!found) return tl::unexpected(found.error());
  return std::string(found->at(0).as_string());
}

void print_key(const json::object& key, Invocation& invocation) {
  const auto row = [&](const char* label, const std::string& value) {
    if (value.empty()) return;
    invocation.out << std::string(label).append(14 - std::string_view(label).size(), ' ') << value
                   << "\n";
  };
  row("Alias", text_of(key, "Alias"));
  row("Id", text_of(key, "Id"));
  row("Description", text_of(key, "Description"));
  row("State", text_of(key, "State"));
  row("Protection", text_of(key, "Protection") + " by a " + text_of(key, "TokenKind") + " token");
  row("Created", time_text(number_of(key, "CreatedUSec")));
  row("Volumes", std::to_string(number_of(key, "NVolumes")));
  const auto* versions = key.if_contains("Versions");
  if (versions == nullptr || !versions->is_array()) return;
  Table table({"VERSION", "STATE", "CREATED"});
  for (const auto& entry : versions->as_array()) {
    const auto& version = entry.as_array();
    table.add({json::serialize(version.at(0)), std::string(version.at(1).as_string()),
               time_text(version.at(2).to_number<std::uint64_t>())});
  }
  invocation.out << "\n";
  table.print(invocation.out);
}

int show_path(AgentBus& bus, const std::string& path, const AgentOptions& options,
              Invocation& invocation) {
  const auto key = bus.properties(path, "Key");
  if (!key) return report_error(key.error(), options, invocation);
  if (options.json) return print_json(with_path(*key, path), invocation);
  print_key(*key, invocation);
  return kExitOk;
}

void declare_show(CLI::App& parent, Invocation& invocation) {
  const auto spec = std::make_shared<std::string>();
  auto* command =
      add_agent_command(parent, invocation, "show", "One key and its versions", kPlainCommand,
                        [spec](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                          const auto path = find_key(bus, *spec);
                          if (!path) return report_error(path.error(), options, run);
                          return show_path(bus, *path, options, run);
                        });
  command->add_option("KEY", *spec, "Id or alias")->required();
}

void declare_create(CLI::App& parent, Invocation& invocation) {
  struct Create {
    std::string alias;
    std::string description;
  };
  const auto own = std::make_shared<Create>();
  auto* command = add_agent_command(
      parent, invocation, "create", "Make a key in the token", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        OptionList list;
        list.text("description", own->description);
        const auto made = bus.call(kAgentRoot, "Keyring", "CreateKey", [&](sd_bus_message* m) {
          const int r = ::sd_bus_message_append(m, "s", own->alias.c_str());
          return r < 0 ? r : list.append(m, options);
        });
        if (!made) return report_error(made.error(), options, run);
        return show_path(bus, std::string(made->at(0).as_string()), options, run);
      });
  command->add_option("ALIAS", own->alias, "Its name: letters, digits, _ and -")->required();
  command->add_option("--description", own->description, "Free text");
}

void declare_change(CLI::App& parent, Invocation& invocation, const char* name, const char* help,
                    const char* method, const char* word) {
  const auto spec = std::make_shared<std::string>();
  auto* command = add_agent_command(
      parent, invocation, name, help, kChangeCommand,
      [spec, method, word](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        const auto path = find_key(bus, *spec);
        if (!path) return report_error(path.error(), options, run);
        const auto done = bus.call(*path, "Key", method, [&](sd_bus_message* m) {
          return OptionList().append(m, options);
        });
        return report_done(done, word, options, run);
      });
  command->add_option("KEY", *spec, "Id or alias")->required();
}

}  // namespace

void declare_key(CLI::App& parent, Invocation& invocation) {
  auto* group = parent.add_subcommand("key", "The keys that open volumes");
  group->require_subcommand(1);
  add_agent_command(*group, invocation, "list", "All keys", kPlainCommand, &list);
  declare_show(*group, invocation);
  declare_create(*group, invocation);
  declare_change(*group, invocation, "enable", "Let a key be used again", "Enable", "enabled");
  declare_change(*group, invocation, "disable", "Let a key be used no longer", "Disable",
                 "disabled; volumes that are open stay open");
  declare_change(*group, invocation, "rotate", "Make a new version of a key", "Rotate",
                 "rotated; volumes keep the version they have");
}

}  // namespace coffer::cli

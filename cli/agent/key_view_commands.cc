// SPDX-License-Identifier: Apache-2.0
// `coffer key list` and `show`: what people see of keys.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <ostream>
#include <ranges>

#include "cli/agent/agent_command.h"
#include "cli/agent/key_access.h"
#include "cli/agent/table.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

constexpr std::size_t kPage = 1000;  // What the agent answers at most.

// What will happen to the key by itself.
std::string next_of(const json::object& key) {
  const auto at = [&](const char* name, const char* what) {
    const auto usec = number_of(key, name);
    return usec == 0 ? std::string() : what + (" " + time_text(usec));
  };
  if (auto text = at("DeletionUSec", "destroyed"); !text.empty()) return text;
  // One that is not enabled does not rotate before it is.
  auto rotates = text_of(key, "State") == "Enabled" ? at("NextRotationUSec", "rotates") : "";
  auto expires = at("MaterialValidToUSec", "expires");
  return !rotates.empty() ? rotates : expires.empty() ? "-" : expires;
}

struct List {
  std::string state, owner, origin, usage, algorithm, search, order;
  std::vector<std::string> tags;
};

OptionList filter_of(const List& wanted) {
  OptionList filter;
  filter.text("state", wanted.state);
  filter.text("owner", wanted.owner);
  filter.text("origin", wanted.origin);
  filter.text("usage", wanted.usage);
  filter.text("algorithm", wanted.algorithm);
  filter.text("search", wanted.search);
  filter.texts("tags", wanted.tags);
  return filter;
}

// The paths of the keys that match, page after page.
Result<std::vector<std::string>> matching(AgentBus& bus, const List& wanted) {
  std::vector<std::string> paths;
  std::string after;
  for (;;) {
    OptionList filter = filter_of(wanted);
    filter.text("order", wanted.order);
    filter.text("after", after);
    const auto answer = bus.call(kAgentRoot, "Keyring", "ListKeys",
                                 [&](sd_bus_message* m) { return filter.append_alone(m); });
    if (!answer) return tl::unexpected(answer.error());
    const auto& rows = answer->at(0).as_array();
    for (const auto& row : rows) paths.emplace_back(row.as_array().at(4).as_string());
    if (rows.size() < kPage) return paths;
    after = std::string(rows.back().as_array().at(0).as_string());
  }
}

// The names of the volumes that each key opens, by the key's id.
using Users = std::map<std::string, std::vector<std::string>>;

Users users_of(const std::map<std::string, json::object>& volumes) {
  Users users;
  for (const auto& [path, volume] : volumes) {
    const auto* keys = volume.if_contains("Keys");
    if (keys == nullptr || !keys->is_array()) continue;
    for (const auto& entry : keys->as_array()) {
      users[std::string(entry.as_array().at(0).as_string())].push_back(text_of(volume, "Name"));
    }
  }
  return users;
}

// "a, b, c and 5 more"; `coffer key show` names them all.
std::string users_text(const Users& users, const std::string& id) {
  constexpr std::size_t kNamed = 3;
  const auto found = users.find(id);
  if (found == users.end()) return "-";
  auto names = found->second;
  std::ranges::sort(names);
  std::string text;
  for (const auto& name : names | std::views::take(kNamed)) {
    text += (text.empty() ? "" : ", ") + name;
  }
  if (names.size() <= kNamed) return text;
  return text + " and " + std::to_string(names.size() - kNamed) + " more";
}

// How many match, damaged ones too.
Result<std::uint64_t> count_of(AgentBus& bus, const List& wanted) {
  const auto answer = bus.call(kAgentRoot, "Keyring", "CountKeys", [&](sd_bus_message* m) {
    return filter_of(wanted).append_alone(m);
  });
  if (!answer) return tl::unexpected(answer.error());
  return answer->at(0).to_number<std::uint64_t>();
}

std::string keys_text(std::uint64_t count) {
  return std::to_string(count) + (count == 1 ? " key" : " keys");
}

// ", 2 not shown": those that are not in the table.
std::string hidden_text(std::uint64_t total, std::size_t shown) {
  if (total <= shown) return "";
  return ", " + std::to_string(total - shown) + " not shown: the agent's journal tells why";
}

int list(AgentBus& bus, const List& wanted, const AgentOptions& options, Invocation& invocation) {
  const auto paths = matching(bus, wanted);
  if (!paths) return report_error(paths.error(), options, invocation);
  const auto total = count_of(bus, wanted);
  if (!total) return report_error(total.error(), options, invocation);
  if (paths->empty() && *total > 0) {
    const Error damaged(
        Reason::kRecordInvalid,
        keys_text(*total) + ", none of which can be read: the journal of cofferd tells why");
    return report_error(damaged, options, invocation);
  }
  auto keys = bus.objects("Key");
  if (!keys) return report_error(keys.error(), options, invocation);
  std::vector<json::object> found;
  for (const auto& path : *paths) {
    // One that is gone since then is left out.
    if (const auto key = keys->find(path); key != keys->end())
      found.push_back(with_path(std::move(key->second), path));
  }
  if (wanted.order.empty()) {
    std::ranges::sort(found, {}, [](const auto& key) { return text_of(key, "Alias"); });
  }
  const std::string text = keys_text(*total) + hidden_text(*total, found.size());
  if (options.json) {
    if (*total > found.size()) invocation.err << "coffer: " << text << "\n";
    return print_json(json::array(found.begin(), found.end()), invocation);
  }
  const auto volumes = bus.objects("Volume");
  if (!volumes) return report_error(volumes.error(), options, invocation);
  const Users users = users_of(*volumes);
  Table table({"ALIAS", "STATE", "VERSION", "ALGORITHM", "NEXT", "USED BY", "PROTECTION", "ID"});
  for (const auto& key : found) {
    table.add({text_of(key, "Alias"), text_of(key, "State"),
               std::to_string(number_of(key, "Version")), text_of(key, "Algorithm"), next_of(key),
               users_text(users, text_of(key, "Id")),
               text_of(key, "Protection") + ", " + text_of(key, "TokenKind"), text_of(key, "Id")});
  }
  if (table.empty()) {
    invocation.err << "no such keys; `coffer key create ALIAS` makes one\n";
    return kExitOk;
  }
  table.print(invocation.out);
  invocation.out << "\n" << text << "\n";
  return kExitOk;
}

void declare_list(CLI::App& group, Invocation& invocation) {
  const auto own = std::make_shared<List>();
  auto* command =
      add_agent_command(group, invocation, "list", "All keys, or those that match", kPlainCommand,
                        [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                          return list(bus, *own, options, run);
                        });
  command->add_option("--state", own->state,
                      "Enabled, Disabled, Archived, PendingImport or PendingDelete");
  command->add_option("--owner", own->owner, "user or service");
  command->add_option("--origin", own->origin, "generated or imported");
  command->add_option("--usage", own->usage, "encrypt-decrypt, asymmetric-decrypt or sign-verify");
  command->add_option("--algorithm", own->algorithm, "AES-256, SM4, RSA-2048, …");
  command->add_option("--search", own->search, "A part of alias or id");
  command->add_option("--tag", own->tags,
                      "NAME=VALUE; of one name any of its values, of several names each");
  command->add_option("--order", own->order, "id, oldest or newest; else by alias");
}

std::string rotation_text(const json::object& key) {
  const bool never =
      text_of(key, "Origin") == "imported" || text_of(key, "Usage") != "encrypt-decrypt";
  if (never) return "never";
  const auto days = number_of(key, "RotationDays");
  if (days == 0) return "on demand";
  const std::string period = "every " + std::to_string(days) + " days, ";
  if (text_of(key, "State") != "Enabled") return period + "once it is enabled";
  return period + "next " + time_text(number_of(key, "NextRotationUSec"));
}

std::string tags_text(const json::object& key) {
  std::string text;
  const auto* tags = key.if_contains("Tags");
  if (tags == nullptr || !tags->is_object()) return text;
  for (const auto& [name, value] : tags->as_object()) {
    text += (text.empty() ? "" : ", ") + std::string(name) + "=" + std::string(value.as_string());
  }
  return text;
}

void print_versions(const json::object& key, Invocation& invocation) {
  const auto* versions = key.if_contains("Versions");
  if (versions == nullptr || !versions->is_array()) return;
  const auto* counters = key.if_contains("Uses");
  const auto uses_of = [&](const json::value& version) -> std::string {
    if (counters == nullptr || !counters->is_array()) return "-";
    for (const auto& entry : counters->as_array()) {
      if (entry.as_array().at(0) == version) return json::serialize(entry.as_array().at(1));
    }
    return "-";
  };
  Table table({"VERSION", "STATE", "CREATED", "USES"});
  for (const auto& entry : versions->as_array()) {
    const auto& version = entry.as_array();
    table.add({json::serialize(version.at(0)), std::string(version.at(1).as_string()),
               time_text(version.at(2).to_number<std::uint64_t>()), uses_of(version.at(0))});
  }
  invocation.out << "\n";
  table.print(invocation.out);
}

void print_volumes(const json::array& volumes, Invocation& invocation) {
  if (volumes.empty()) return;
  Table table({"VOLUME", "UUID"});
  for (const auto& entry : volumes) {
    const auto& volume = entry.as_object();
    table.add({text_of(volume, "Name"), text_of(volume, "UUID")});
  }
  invocation.out << "\n";
  table.print(invocation.out);
}

// Volumes have a table of their own.
void print_bindings(const json::array& resources, Invocation& invocation) {
  if (resources.empty()) return;
  Table table({"RESOURCE"});
  for (const auto& resource : resources) table.add({std::string(resource.as_string())});
  invocation.out << "\n";
  table.print(invocation.out);
}

void print_key(const json::object& key, const json::array& volumes, Invocation& invocation) {
  const auto row = [&](const char* label, const std::string& value) {
    if (value.empty()) return;
    invocation.out << std::string(label).append(14 - std::string_view(label).size(), ' ') << value
                   << "\n";
  };
  const auto time_row = [&](const char* label, const char* name) {
    if (number_of(key, name) != 0) row(label, time_text(number_of(key, name)));
  };
  row("Alias", text_of(key, "Alias"));
  row("Id", text_of(key, "Id"));
  row("Description", text_of(key, "Description"));
  row("State", text_of(key, "State"));
  time_row("Destroyed", "DeletionUSec");
  row("Algorithm", text_of(key, "Algorithm") + ", " + text_of(key, "Usage"));
  row("Protection", text_of(key, "Protection") + " by a " + text_of(key, "TokenKind") + " token");
  row("Owner", text_of(key, "Owner"));
  row("Origin", text_of(key, "Origin"));
  time_row("Expires", "MaterialValidToUSec");
  row("Created", time_text(number_of(key, "CreatedUSec")));
  row("Rotates", rotation_text(key));
  row("Tags", tags_text(key));
  row("Volumes", std::to_string(number_of(key, "NVolumes")));
  print_versions(key, invocation);
  print_volumes(volumes, invocation);
}

Result<json::array> volumes_of(AgentBus& bus, const std::string& path) {
  const auto answer = bus.call(path, "Key", "ListVolumes");
  if (!answer) return tl::unexpected(answer.error());
  json::array volumes;
  for (const auto& entry : answer->at(0).as_array()) {
    const auto& row = entry.as_array();
    volumes.push_back(json::object{{"UUID", row.at(0)}, {"Name", row.at(1)}, {"Path", row.at(2)}});
  }
  return volumes;
}

// What is bound to the key beside volumes, page after page.
Result<json::array> bindings_of(AgentBus& bus, const std::string& path) {
  json::array resources;
  std::string after;
  for (;;) {
    OptionList page;
    page.text("after", after);
    const auto answer = bus.call(path, "Key", "ListBindings",
                                 [&](sd_bus_message* m) { return page.append_alone(m); });
    if (!answer) return tl::unexpected(answer.error());
    const auto& rows = answer->at(0).as_array();
    for (const auto& row : rows) {
      if (!row.as_string().starts_with("volume:")) resources.push_back(row);
    }
    if (rows.size() < kPage) return resources;
    after = std::string(rows.back().as_string());
  }
}

}  // namespace

int show_key(AgentBus& bus, const std::string& path, const AgentOptions& options,
             Invocation& invocation) {
  auto key = bus.properties(path, "Key");
  if (!key) return report_error(key.error(), options, invocation);
  auto volumes = volumes_of(bus, path);
  if (!volumes) return report_error(volumes.error(), options, invocation);
  auto resources = bindings_of(bus, path);
  if (!resources) return report_error(resources.error(), options, invocation);
  if (options.json) {
    (*key)["Resources"] = std::move(*resources);
    (*key)["Volumes"] = std::move(*volumes);
    return print_json(with_path(*key, path), invocation);
  }
  print_key(*key, *volumes, invocation);
  print_bindings(*resources, invocation);
  return kExitOk;
}

namespace {

void declare_show(CLI::App& parent, Invocation& invocation) {
  const auto spec = std::make_shared<std::string>();
  auto* command = add_agent_command(
      parent, invocation, "show", "One key, its versions, and the volumes it opens", kPlainCommand,
      [spec](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        const auto path = find_key(bus, *spec);
        if (!path) return report_error(path.error(), options, run);
        return show_key(bus, *path, options, run);
      });
  command->add_option("KEY", *spec, "Id or alias")->required();
}

}  // namespace

void declare_key_views(CLI::App& group, Invocation& invocation) {
  declare_list(group, invocation);
  declare_show(group, invocation);
}

}  // namespace coffer::cli

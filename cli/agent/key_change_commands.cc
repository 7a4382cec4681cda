// SPDX-License-Identifier: Apache-2.0
// `coffer key enable`, `disable`, …: what is the same for each key that is named.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <ostream>
#include <span>

#include "cli/agent/agent_command.h"
#include "cli/agent/key_access.h"
#include "cli/commands.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

// A tenth of what the agent takes: a token that is slow with each has time enough for these.
constexpr std::size_t kKeysPerCall = 10;

// A change that is the same for each key that is named, and needs nothing but options.
struct Change {
  const char* name;
  const char* help;
  const char* method;  // For one key.
  const char* many;    // For several: the word of Keyring.ChangeMany.
  const char* word;    // What the key is then.
  bool has_force = false;
  bool has_days = false;
};

constexpr Change kChanges[] = {
    {"enable", "Let a disabled key be used again", "Enable", "enable", "enabled"},
    {"disable", "Let a key be used no longer", "Disable", "disable",
     "disabled; volumes that are open stay open", true},
    {"archive", "Let a key open what it has wrapped, and wrap nothing more", "Archive", "archive",
     "archived", true},
    {"unarchive", "Let an archived key wrap again", "CancelArchive", "cancel-archive", "enabled"},
    {"delete", "Destroy a disabled key, after some days", "ScheduleDeletion", "schedule-deletion",
     "to be destroyed; `coffer key undelete` brings it back until then", true, true},
    {"undelete", "Bring back a key that is to be destroyed", "CancelDeletion", "cancel-deletion",
     "disabled; `coffer key enable` makes it usable"},
    {"rotate", "Make a new version of a key", "Rotate", "rotate",
     "rotated; volumes keep the version they have until `coffer key rewrap`"},
    {"delete-material", "Drop the material of an imported key", "DeleteMaterial", "delete-material",
     "without its material; the same can be imported again", true},
};

struct ChangeOptions {
  std::vector<std::string> keys;
  bool force = false;
  std::uint32_t days = 30;
};

Result<void> change_one(AgentBus& bus, const Change& change, const ChangeOptions& own,
                        const std::string& spec, const AgentOptions& options) {
  const auto path = find_key(bus, spec);
  if (!path) return tl::unexpected(path.error());
  OptionList list;
  list.flag("force", own.force);
  const auto done = bus.call(*path, "Key", change.method, [&](sd_bus_message* m) {
    const int r = change.has_days ? ::sd_bus_message_append(m, "u", own.days) : 0;
    return r < 0 ? r : list.append(m, options);
  });
  if (!done) return tl::unexpected(done.error());
  return {};
}

// What a key that was named came to.
struct Outcome {
  std::string spec;
  std::string path;  // "" when there is no such key.
  std::optional<Error> error;
};

// The keys by their paths. kInvalidArgs: two of the names mean one key.
Result<std::vector<Outcome>> find_keys(AgentBus& bus, const std::vector<std::string>& specs) {
  std::vector<Outcome> keys;
  std::map<std::string, std::string> known;
  for (const auto& spec : specs) {
    const auto path = find_key(bus, spec);
    keys.push_back({spec, path.value_or(""), {}});
    if (!path) {
      keys.back().error = path.error();
      continue;
    }
    const auto [there, is_new] = known.emplace(*path, spec);
    if (!is_new) {
      return fail(Reason::kInvalidArgs, there->second + " and " + spec + " are the same key");
    }
  }
  return keys;
}

Error error_of(const json::array& row) {
  const std::string name(row.at(1).as_string());
  return {reason_by_name(name).value_or(Reason::kInternal), std::string(row.at(2).as_string())};
}

// What the end of a call says of each of its keys.
Error of_each(const Error& error) {
  if (error.reason() != Reason::kTimedOut) return error;
  return {error.reason(),
          "it is not known whether it was done, or still is being done: `coffer key "
          "show KEY` (" +
              error.message() + ")"};
}

// One call for those of `keys` that are there. Its error is each one's.
void change_these(AgentBus& bus, const Change& change, const ChangeOptions& own,
                  std::span<Outcome> keys, const AgentOptions& options) {
  OptionList list;
  list.flag("force", own.force);
  if (change.has_days) list.number32("days", own.days);
  const auto answer = bus.call(kAgentRoot, "Keyring", "ChangeMany", [&](sd_bus_message* m) {
    int r = ::sd_bus_message_append(m, "s", change.many);
    if (r >= 0) r = ::sd_bus_message_open_container(m, 'a', "o");
    for (const auto& key : keys) {
      if (r >= 0 && !key.error) r = ::sd_bus_message_append(m, "o", key.path.c_str());
    }
    if (r >= 0) r = ::sd_bus_message_close_container(m);
    return r < 0 ? r : list.append(m, options);
  });
  std::map<std::string, Error> errors;
  if (answer) {
    for (const auto& row : answer->at(0).as_array()) {
      const auto& fields = row.as_array();
      if (fields.at(1).as_string().empty()) continue;
      errors.emplace(std::string(fields.at(0).as_string()), error_of(fields));
    }
  }
  for (auto& key : keys) {
    if (key.error) continue;
    if (!answer) key.error = of_each(answer.error());
    if (const auto found = errors.find(key.path); found != errors.end()) key.error = found->second;
  }
}

// Each key has its line, and the first error counts.
int tell_outcomes(const std::vector<Outcome>& keys, const Change& change,
                  const AgentOptions& options, Invocation& invocation) {
  int status = kExitOk;
  json::array results;
  for (const auto& [spec, path, error] : keys) {
    if (error && status == kExitOk) status = reason_info(error->reason()).exit_status;
    if (options.json) {
      json::object result{{"key", spec}, {"done", !error}};
      if (error) result["error"] = error->name();
      if (error) result["text"] = error->message();
      results.emplace_back(std::move(result));
    } else if (!error) {
      invocation.out << spec << ": " << change.word << "\n";
    } else {
      invocation.err << "coffer: " << spec << ": " << error->name() << ": " << error->message()
                     << "\n";
    }
  }
  if (options.json) print_json(results, invocation);
  return status;
}

// One key reports as any command does.
int change_keys(AgentBus& bus, const Change& change, const ChangeOptions& own,
                const AgentOptions& options, Invocation& invocation) {
  if (own.keys.size() == 1) {
    const auto done = change_one(bus, change, own, own.keys.front(), options);
    return report_done(done ? Result<json::array>(json::array())
                            : Result<json::array>(tl::unexpected(done.error())),
                       change.word, options, invocation);
  }
  auto keys = find_keys(bus, own.keys);
  if (!keys) return report_error(keys.error(), options, invocation);
  for (std::size_t begin = 0; begin < keys->size(); begin += kKeysPerCall) {
    const auto these =
        std::span(*keys).subspan(begin, std::min(kKeysPerCall, keys->size() - begin));
    const bool any = std::ranges::any_of(these, [](const auto& key) { return !key.error; });
    if (any) change_these(bus, change, own, these, options);
  }
  return tell_outcomes(*keys, change, options, invocation);
}

}  // namespace

void declare_key_changes(CLI::App& group, Invocation& invocation) {
  for (const auto& change : kChanges) {
    const auto own = std::make_shared<ChangeOptions>();
    auto* command = add_agent_command(
        group, invocation, change.name, change.help, kChangeCommand,
        [own, &change](AgentBus& bus, const AgentOptions& options, Invocation& run) {
          return change_keys(bus, change, *own, options, run);
        });
    command->add_option("KEY", own->keys, "Ids or aliases")->required();
    if (change.has_force)
      command->add_flag("--force", own->force, "Also when volumes use it, which then do not open");
    if (change.has_days)
      command->add_option("--days", own->days, "When: 7 to 30 days from now; 30 unless given")
          ->check(CLI::Range(7, 30));
  }
}

}  // namespace coffer::cli

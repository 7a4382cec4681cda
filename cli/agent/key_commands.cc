// SPDX-License-Identifier: Apache-2.0
// `coffer key …`: the customer master keys of this host, and what changes them.
#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/job_follower.h"
#include "cli/agent/key_access.h"
#include "cli/commands.h"

namespace coffer::cli {
namespace {

void declare_create(CLI::App& parent, Invocation& invocation) {
  struct Create {
    std::string alias, description, algorithm, usage, protection;
    bool imported = false;
  };
  const auto own = std::make_shared<Create>();
  auto* command = add_agent_command(
      parent, invocation, "create", "Make a key in the token", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        OptionList list;
        list.text("description", own->description);
        list.text("algorithm", own->algorithm);
        list.text("usage", own->usage);
        list.text("protection", own->protection);
        list.text("origin", own->imported ? "imported" : "");
        const auto made = bus.call(kAgentRoot, "Keyring", "CreateKey", [&](sd_bus_message* m) {
          const int r = ::sd_bus_message_append(m, "s", own->alias.c_str());
          return r < 0 ? r : list.append(m, options);
        });
        if (!made) return report_error(made.error(), options, run);
        return show_key(bus, std::string(made->at(0).as_string()), options, run);
      });
  command->add_option("ALIAS", own->alias, "Its name: letters, digits, _ and -")->required();
  command->add_option("--description", own->description, "Free text");
  command->add_option("--algorithm", own->algorithm,
                      "AES-256 (unless given), SM4, RSA-2048, RSA-3072, RSA-4096, SM2, EC-P256, "
                      "EC-P384");
  command->add_option("--usage", own->usage,
                      "asymmetric-decrypt or sign-verify; must be given for RSA and SM2");
  command->add_option("--protection", own->protection,
                      "resident, wrapped or rooted; unless given, as the token can");
  command->add_flag("--imported", own->imported, "Its material will be imported");
}

// A method on one key, with arguments before its options.
int call_key(AgentBus& bus, const std::string& spec, const char* method, const char* word,
             const AgentBus::Fill& arguments, const OptionList& list, const AgentOptions& options,
             Invocation& invocation) {
  const auto path = find_key(bus, spec);
  if (!path) return report_error(path.error(), options, invocation);
  const auto done = bus.call(*path, "Key", method, [&](sd_bus_message* m) {
    const int r = arguments ? arguments(m) : 0;
    return r < 0 ? r : list.append(m, options);
  });
  return report_done(done, word, options, invocation);
}

void declare_rotation(CLI::App& group, Invocation& invocation) {
  struct Rotation {
    std::string key;
    std::uint32_t days = 0;
    bool off = false;
  };
  const auto own = std::make_shared<Rotation>();
  auto* command = add_agent_command(
      group, invocation, "rotation", "Have a key rotate by itself, or not", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        const std::string word = own->off ? "rotates on demand alone"
                                          : "rotates every " + std::to_string(own->days) + " days";
        return call_key(
            bus, own->key, "SetRotation", word.c_str(),
            [&](sd_bus_message* m) { return ::sd_bus_message_append(m, "u", own->days); }, {},
            options, run);
      });
  command->add_option("KEY", own->key, "Id or alias")->required();
  auto* choice = command->add_option_group("when");
  choice->add_option("--days", own->days, "7 to 365")->check(CLI::Range(7, 365));
  choice->add_flag("--off", own->off, "No longer by itself");
  choice->require_option(1);
}

void declare_describe(CLI::App& group, Invocation& invocation) {
  struct Description {
    std::string key, alias;
    std::optional<std::string> description;
  };
  const auto own = std::make_shared<Description>();
  auto* command = add_agent_command(
      group, invocation, "describe", "Change alias and description", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        OptionList list;
        list.text("alias", own->alias);
        if (own->description) list.any_text("description", *own->description);
        return call_key(bus, own->key, "Describe", "changed", {}, list, options, run);
      });
  command->add_option("KEY", own->key, "Id or alias")->required();
  auto* what = command->add_option_group("what");
  what->add_option("--alias", own->alias, "Its new name");
  what->add_option("--description", own->description, "Free text");
  what->require_option(1, 2);
}

void declare_tag(CLI::App& group, Invocation& invocation) {
  struct Tags {
    std::string key;
    std::vector<std::string> tags;
    bool none = false;
  };
  const auto own = std::make_shared<Tags>();
  auto* command = add_agent_command(
      group, invocation, "tag", "Replace the tags of a key", kChangeCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        const auto tags = named_values(own->tags);
        if (!tags) return report_error(tags.error(), options, run);
        return call_key(
            bus, own->key, "SetTags", "tagged",
            [&](sd_bus_message* m) { return append_map(m, *tags); }, {}, options, run);
      });
  command->add_option("KEY", own->key, "Id or alias")->required();
  auto* choice = command->add_option_group("which");
  choice->add_option("TAG", own->tags, "NAME=VALUE");
  choice->add_flag("--none", own->none, "It has none any more");
  choice->require_option(1);
}

void declare_binding(CLI::App& group, Invocation& invocation, const char* name, const char* help,
                     const char* method, const char* word) {
  struct Binding {
    std::string key, resource;
  };
  const auto own = std::make_shared<Binding>();
  auto* command =
      add_agent_command(group, invocation, name, help, kChangeCommand,
                        [=](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                          return call_key(
                              bus, own->key, method, word,
                              [&](sd_bus_message* m) {
                                return ::sd_bus_message_append(m, "s", own->resource.c_str());
                              },
                              {}, options, run);
                        });
  command->add_option("KEY", own->key, "Id or alias")->required();
  command->add_option("RESOURCE", own->resource, "1 to 128 printable characters, no blanks")
      ->required();
}

void declare_rewrap(CLI::App& group, Invocation& invocation) {
  struct Rewrap {
    std::string key;
    std::uint32_t per_minute = 0;
  };
  const auto own = std::make_shared<Rewrap>();
  auto* command = add_agent_command(
      group, invocation, "rewrap", "Move all volumes of a key to its newest version", kJobCommand,
      [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        const auto path = find_key(bus, own->key);
        if (!path) return report_error(path.error(), options, run);
        OptionList list;
        if (own->per_minute > 0) list.number("per-minute", own->per_minute);
        JobFollower follower(bus, options, run);
        return follower.follow_answer(bus.call(
            *path, "Key", "RewrapAll", [&](sd_bus_message* m) { return list.append(m, options); }));
      });
  command->add_option("KEY", own->key, "Id or alias")->required();
  command
      ->add_option("--per-minute", own->per_minute,
                   "How many volumes at most; as configured unless given")
      ->check(CLI::Range(1, 60'000));
}

void declare_destroy_version(CLI::App& group, Invocation& invocation) {
  struct Destroy {
    std::string key;
    std::uint32_t version = 0;
    bool yes = false;
    bool force = false;
  };
  const auto own = std::make_shared<Destroy>();
  auto* command = add_agent_command(
      group, invocation, "destroy-version", "Destroy an old version of a key for good",
      kChangeCommand, [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        if (!own->yes) {
          run.err << "coffer: what was encrypted under version " << own->version << " of "
                  << own->key << " and is no volume's is lost for good; to do it, give --yes\n";
          return kExitUsage;
        }
        OptionList list;
        list.flag("force", own->force);
        return call_key(
            bus, own->key, "DestroyVersion", "destroyed",
            [&](sd_bus_message* m) { return ::sd_bus_message_append(m, "u", own->version); }, list,
            options, run);
      });
  command->add_option("KEY", own->key, "Id or alias")->required();
  command->add_option("VERSION", own->version, "Its number; not the newest one")->required();
  command->add_flag("--yes", own->yes, "What programs encrypted with it may be lost");
  command->add_flag("--force", own->force, "Also of a key that no volume uses and that is enabled");
}

}  // namespace

void declare_key(CLI::App& parent, Invocation& invocation) {
  auto* group = parent.add_subcommand("key", "The keys that open volumes");
  group->require_subcommand(1);
  declare_key_views(*group, invocation);
  declare_create(*group, invocation);
  declare_key_changes(*group, invocation);
  declare_rotation(*group, invocation);
  declare_describe(*group, invocation);
  declare_tag(*group, invocation);
  declare_binding(*group, invocation, "bind", "Have a resource beside volumes hold a key", "Bind",
                  "bound: the key is taken from it by force alone");
  declare_binding(*group, invocation, "unbind", "The resource uses the key no more", "Unbind",
                  "unbound");
  declare_rewrap(*group, invocation);
  declare_destroy_version(*group, invocation);
  declare_key_uses(*group, invocation);
  declare_key_signing(*group, invocation);
  declare_key_imports(*group, invocation);
}

}  // namespace coffer::cli

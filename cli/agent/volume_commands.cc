// SPDX-License-Identifier: Apache-2.0
// `coffer list`, `status` and what is done to volumes: unlock, lock, verify, forget, provision,
// adopt, scan.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "cli/agent/agent_command.h"
#include "cli/agent/job_follower.h"
#include "cli/agent/table.h"
#include "cli/commands.h"

namespace coffer::cli {
namespace {

namespace json = boost::json;

// Of --timeout and --deadline.
constexpr double kSecondsLeast = 0.001;
constexpr double kSecondsMost = 86'400;

std::string error_cell(const json::object& volume) {
  const auto* error = volume.if_contains("LastError");
  if (error == nullptr || !error->is_array() || error->as_array().size() != 2) return {};
  return short_error_name(error->as_array()[0].as_string());
}

std::string error_sentence(const json::object& object) {
  const auto name = error_cell(object);
  if (name.empty()) return {};
  return name + ": " + std::string(object.at("LastError").as_array()[1].as_string());
}

// ---- list

int list(AgentBus& bus, const AgentOptions& options, Invocation& invocation) {
  const auto volumes = bus.objects("Volume");
  if (!volumes) return report_error(volumes.error(), options, invocation);
  std::map<std::string, json::object> by_name;
  for (const auto& [path, volume] : *volumes)
    by_name.emplace(text_of(volume, "Name") + " " + path, with_path(volume, path));
  if (options.json) {
    json::array all;
    for (auto& [name, volume] : by_name) all.emplace_back(std::move(volume));
    return print_json(all, invocation);
  }
  Table table({"NAME", "STATE", "SIZE", "DEVICE", "AUTO", "NOTE"});
  for (const auto& [name, volume] : by_name) {
    const auto error = error_cell(volume);
    const bool locked = flag_of(volume, "LockedByAdmin");
    table.add({text_of(volume, "Name"), text_of(volume, "State"),
               size_text(number_of(volume, "Size")), text_of(volume, "Device"),
               flag_of(volume, "Auto") ? "yes" : "no",
               error.empty() ? (locked ? "locked by an admin" : "") : error});
  }
  if (table.empty()) {
    invocation.err << "no volumes; `coffer provision DEVICE` makes one\n";
  } else {
    table.print(invocation.out);
  }
  return kExitOk;
}

// ---- status

void print_row(Invocation& invocation, const char* label, const std::string& value) {
  if (value.empty()) return;
  invocation.out << std::string(label).append(16 - std::string_view(label).size(), ' ') << value
                 << "\n";
}

std::string keys_text(const json::object& volume) {
  std::string text;
  const auto* keys = volume.if_contains("Keys");
  if (keys == nullptr || !keys->is_array()) return text;
  for (const auto& entry : keys->as_array()) {
    const auto& key = entry.as_array();
    if (!text.empty()) text += ", ";
    text += std::string(key.at(0).as_string()) + " version " + json::serialize(key.at(3)) + " (" +
            std::string(key.at(2).as_string()) + ", " + std::string(key.at(1).as_string()) + ")";
  }
  const auto total = keys->as_array().size();
  if (total < 2) return text;
  const auto needed = number_of(volume, "Threshold");
  return text + "; " +
         (needed < 2 ? "any of them opens it"
                     : std::to_string(needed) + " of them open it together");
}

int volume_status(AgentBus& bus, const std::string& spec, const AgentOptions& options,
                  Invocation& invocation) {
  const auto found = bus.call(kAgentRoot, "Manager", "GetVolume", [&](sd_bus_message* m) {
    return ::sd_bus_message_append(m, "s", spec.c_str());
  });
  if (!found) return report_error(found.error(), options, invocation);
  const std::string path(found->at(0).as_string());
  auto read = bus.properties(path, "Volume");
  if (!read) return report_error(read.error(), options, invocation);
  if (options.json) return print_json(with_path(*read, path), invocation);

  const auto& volume = *read;
  print_row(invocation, "Name", text_of(volume, "Name"));
  print_row(invocation, "UUID", text_of(volume, "UUID"));
  print_row(
      invocation, "State",
      text_of(volume, "State") +
          (text_of(volume, "StateReason").empty() ? "" : ", " + text_of(volume, "StateReason")));
  print_row(invocation, "Last error", error_sentence(volume));
  print_row(invocation, "Device",
            text_of(volume, "Device") + (text_of(volume, "DeviceNode").empty()
                                             ? " (not attached)"
                                             : " (" + text_of(volume, "DeviceNode") + ")"));
  print_row(invocation, "Header on", text_of(volume, "HeaderDevice"));
  print_row(invocation, "Open as", text_of(volume, "MappedDevice"));
  print_row(invocation, "Size", size_text(number_of(volume, "Size")));
  print_row(invocation, "Cipher",
            text_of(volume, "Cipher") + ", " + std::to_string(number_of(volume, "KeySize")) +
                " bit key, sectors of " + std::to_string(number_of(volume, "SectorSize")) + " B");
  print_row(invocation, "Keys", keys_text(volume));
  print_row(invocation, "Header copies", text_of(volume, "HeaderCopies"));
  print_row(invocation, "File system", text_of(volume, "FileSystem"));
  print_row(invocation, "Opens by itself", flag_of(volume, "Auto") ? "yes" : "no");
  const auto took = number_of(volume, "LastUnlockDurationUSec");
  print_row(invocation, "Last unlock",
            time_text(number_of(volume, "LastUnlockUSec")) +
                (took == 0 ? "" : ", took " + duration_text(took)));
  return kExitOk;
}

void print_failed(const std::map<std::string, json::object>& volumes, Invocation& invocation) {
  for (const auto& [path, volume] : volumes) {
    const auto error = error_sentence(volume);
    if (text_of(volume, "State") != "failed" || error.empty()) continue;
    invocation.out << "\n" << text_of(volume, "Name") << " did not open: " << error << "\n";
    const auto advice = what_to_do(reason_of_error_name(error_cell(volume)));
    if (!advice.empty()) invocation.out << "  " << advice << "\n";
  }
}

int host_status(AgentBus& bus, const AgentOptions& options, Invocation& invocation) {
  auto manager = bus.properties(kAgentRoot, "Manager");
  if (!manager) return report_error(manager.error(), options, invocation);
  const auto volumes = bus.objects("Volume");
  const auto providers = bus.objects("KeyProvider");
  if (!volumes) return report_error(volumes.error(), options, invocation);
  if (!providers) return report_error(providers.error(), options, invocation);
  if (options.json) {
    auto document = *manager;
    json::array all;
    for (const auto& [path, provider] : *providers) all.push_back(with_path(provider, path));
    document["Providers"] = std::move(all);
    return print_json(document, invocation);
  }
  print_row(invocation, "Agent", text_of(*manager, "Version") + ", " + text_of(*manager, "Mode"));
  print_row(invocation, "Host", text_of(*manager, "HostId"));
  print_row(invocation, "Volumes",
            std::to_string(number_of(*manager, "NVolumes")) + ", " +
                std::to_string(number_of(*manager, "NUnlocked")) + " open, " +
                std::to_string(number_of(*manager, "NFailed")) + " failed");
  const auto booted = number_of(*manager, "BootFinishedUSec");
  print_row(invocation, "Boot",
            booted == 0 ? "still opening volumes"
                        : "done " + time_text(booted) + ", took " +
                              duration_text(number_of(*manager, "BootUnlockDurationUSec")));
  for (const auto& [path, provider] : *providers) {
    const auto detail = text_of(provider, "Detail");
    print_row(invocation, "Keys from",
              text_of(provider, "Name") + ": " + text_of(provider, "State") +
                  (detail.empty() ? "" : ", " + detail));
  }
  print_failed(*volumes, invocation);
  return kExitOk;
}

// ---- jobs on volumes

struct VolumeOptions {
  std::vector<std::string> volumes;
  bool all = false;
  OptionList list;
};

int on_volumes(AgentBus& bus, const std::string& verb, const VolumeOptions& chosen,
               const AgentOptions& options, Invocation& invocation) {
  if (chosen.volumes.empty() && !chosen.all) {
    invocation.err << "coffer: name at least one volume, or give --all\n";
    return kExitUsage;
  }
  if (chosen.all && !chosen.volumes.empty()) {
    invocation.err << "coffer: either volumes or --all\n";
    return kExitUsage;
  }
  JobFollower follower(bus, options, invocation);
  const auto method = verb + (chosen.all ? "All" : "Many");
  return follower.follow_answer(bus.call(kAgentRoot, "Manager", method, [&](sd_bus_message* m) {
    const int r = chosen.all ? 0 : append_strings(m, chosen.volumes);
    return r < 0 ? r : chosen.list.append(m, options);
  }));
}

void add_volumes(CLI::App& command, VolumeOptions& chosen) {
  command.add_option("VOLUME", chosen.volumes, "UUID, name or device of a volume");
}

void declare_unlock(CLI::App& parent, Invocation& invocation) {
  struct Unlock {
    VolumeOptions chosen;
    bool strict = false;
    bool read_only = false;
    bool dry_run = false;
    double timeout_s = 0;
  };
  const auto own = std::make_shared<Unlock>();
  auto* command =
      add_agent_command(parent, invocation, "unlock", "Open volumes", kJobCommand,
                        [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                          auto& list = own->chosen.list;
                          list.flag("strict", own->strict);
                          list.flag("read-only", own->read_only);
                          list.flag("dry-run", own->dry_run);
                          list.seconds("timeout-usec", own->timeout_s);
                          return on_volumes(bus, "Unlock", own->chosen, options, run);
                        });
  add_volumes(*command, own->chosen);
  command->add_flag("--all", own->chosen.all, "Every volume whose device is attached");
  command->add_flag("--strict", own->strict, "Fail when a volume is open already");
  command->add_flag("--read-only", own->read_only, "Open for reading alone");
  command->add_flag("--dry-run", own->dry_run, "Check everything, open nothing");
  command->add_option("--timeout", own->timeout_s, "Seconds after which volumes not open fail")
      ->check(CLI::Range(kSecondsLeast, kSecondsMost));
}

void declare_lock(CLI::App& parent, Invocation& invocation) {
  struct Lock {
    VolumeOptions chosen;
    bool deferred = false;
    bool force = false;
    double deadline_s = 0;
  };
  const auto own = std::make_shared<Lock>();
  auto* command =
      add_agent_command(parent, invocation, "lock", "Close volumes", kJobCommand,
                        [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                          auto& list = own->chosen.list;
                          list.flag("deferred", own->deferred);
                          list.flag("force", own->force);
                          list.seconds("deadline-usec", own->deadline_s);
                          return on_volumes(bus, "Lock", own->chosen, options, run);
                        });
  add_volumes(*command, own->chosen);
  command->add_flag("--all", own->chosen.all, "Every volume");
  auto* deferred = command->add_flag("--deferred", own->deferred, "When its last user lets go");
  command->add_flag("--force", own->force, "Take the data away from its users")->excludes(deferred);
  command->add_option("--deadline", own->deadline_s, "Seconds to try")
      ->check(CLI::Range(kSecondsLeast, kSecondsMost));
}

void declare_verify(CLI::App& parent, Invocation& invocation) {
  const auto own = std::make_shared<VolumeOptions>();
  auto* command = add_agent_command(
      parent, invocation, "verify", "Compare headers with registry, profile and digest",
      kJobCommand, [own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        // There is no VerifyAll: the list is taken here.
        auto chosen = *own;
        if (chosen.all) {
          const auto volumes = bus.objects("Volume");
          if (!volumes) return report_error(volumes.error(), options, run);
          for (const auto& [path, volume] : *volumes)
            chosen.volumes.push_back(text_of(volume, "UUID"));
          chosen.all = false;
        }
        return on_volumes(bus, "Verify", chosen, options, run);
      });
  add_volumes(*command, *own);
  command->add_flag("--all", own->all, "Every volume");
}

void declare_forget(CLI::App& parent, Invocation& invocation) {
  const auto spec = std::make_shared<std::string>();
  auto* command = add_agent_command(
      parent, invocation, "forget", "Drop a volume's registry entry; its device is not touched",
      kChangeCommand, [spec](AgentBus& bus, const AgentOptions& options, Invocation& run) {
        const auto found = bus.call(kAgentRoot, "Manager", "GetVolume", [&](sd_bus_message* m) {
          return ::sd_bus_message_append(m, "s", spec->c_str());
        });
        if (!found) return report_error(found.error(), options, run);
        const auto done =
            bus.call(std::string(found->at(0).as_string()), "Volume", "Forget",
                     [&](sd_bus_message* m) { return OptionList().append(m, options); });
        return report_done(done, "forgotten", options, run);
      });
  command->add_option("VOLUME", *spec, "UUID, name or device")->required();
}

struct DeviceOptions {
  std::string device;
  std::string name;
  std::vector<std::string> keys;
  std::uint32_t threshold = 0;  // 0: not given.
  std::string file_system;
  std::string header_device;
  std::string confirm;
  bool no_auto = false;
  bool dry_run = false;
};

AgentWork on_device(const char* method, const std::shared_ptr<DeviceOptions>& own) {
  return [method, own](AgentBus& bus, const AgentOptions& options, Invocation& run) {
    OptionList list;
    list.text("name", own->name);
    if (own->keys.size() == 1) {
      list.text("key", own->keys.front());
    } else {
      list.texts("keys", own->keys);
    }
    if (own->threshold != 0) list.number32("threshold", own->threshold);
    list.text("file-system", own->file_system);
    list.text("header-device", own->header_device);
    list.text("confirm", own->confirm);
    list.flag("dry-run", own->dry_run);
    if (own->no_auto) list.flag("auto", true, false);
    JobFollower follower(bus, options, run);
    return follower.follow_answer(bus.call(kAgentRoot, "Manager", method, [&](sd_bus_message* m) {
      const int r = ::sd_bus_message_append(m, "s", own->device.c_str());
      return r < 0 ? r : list.append(m, options);
    }));
  };
}

CLI::App* declare_on_device(CLI::App& parent, Invocation& invocation, const char* name,
                            const char* help, const char* method,
                            const std::shared_ptr<DeviceOptions>& own) {
  auto* command =
      add_agent_command(parent, invocation, name, help, kJobCommand, on_device(method, own));
  command->add_option("DEVICE", own->device, "Path under /dev, best of /dev/disk/by-id")
      ->required();
  command->add_option("--name", own->name, "The volume's name; unless given, the device's");
  command->add_option("--header-device", own->header_device, "Where a detached header is");
  command->add_flag("--no-auto", own->no_auto, "Do not open at boot and when plugged in");
  return command;
}

void declare_provision(CLI::App& parent, Invocation& invocation) {
  const auto own = std::make_shared<DeviceOptions>();
  auto* command =
      declare_on_device(parent, invocation, "provision",
                        "Make an encrypted volume of an empty device", "Provision", own);
  command
      ->add_option("--key", own->keys,
                   "Id or alias of a key that protects it; again for further ones, up to 8")
      ->expected(1)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  command->add_option("--threshold", own->threshold, "How many of the keys open it together")
      ->check(CLI::Range(1, 8));
  command->add_option("--fs", own->file_system, "Make a file system: ext4 or xfs");
  command->add_option("--confirm", own->confirm,
                      "What the refusal of a device that is not empty printed");
  command->add_flag("--dry-run", own->dry_run, "Check everything, write nothing");
}

}  // namespace

void declare_volume_commands(CLI::App& parent, Invocation& invocation) {
  add_agent_command(parent, invocation, "list", "All volumes", kPlainCommand, &list);

  const auto spec = std::make_shared<std::string>();
  auto* status =
      add_agent_command(parent, invocation, "status", "The host, or one volume", kPlainCommand,
                        [spec](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                          return spec->empty() ? host_status(bus, options, run)
                                               : volume_status(bus, *spec, options, run);
                        });
  status->add_option("VOLUME", *spec, "UUID, name or device of a volume");

  declare_unlock(parent, invocation);
  declare_lock(parent, invocation);
  declare_verify(parent, invocation);
  declare_provision(parent, invocation);
  declare_on_device(parent, invocation, "adopt",
                    "Take back a Coffer volume whose registry entry is lost", "Adopt",
                    std::make_shared<DeviceOptions>());
  declare_forget(parent, invocation);
  add_agent_command(parent, invocation, "scan", "Look at all devices again", kJobCommand,
                    [](AgentBus& bus, const AgentOptions& options, Invocation& run) {
                      JobFollower follower(bus, options, run);
                      return follower.follow_answer(bus.call(
                          kAgentRoot, "Manager", "Scan",
                          [&](sd_bus_message* m) { return OptionList().append(m, options); }));
                    });
}

}  // namespace coffer::cli

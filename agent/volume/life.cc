// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/life.h"

#include <sys/stat.h>
#include <sys/sysmacros.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>

#include "agent/unlock/find_candidates.h"
#include "agent/volume/bindings.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kAncestorsMax = 64;

using DeviceNumber = std::pair<std::uint32_t, std::uint32_t>;

// Adds the block devices below `number`, as the kernel stacks them.
void add_ancestors(const DeviceNumber& number, std::set<DeviceNumber>& found) {
  if (found.size() >= kAncestorsMax || !found.insert(number).second) return;
  const std::string base =
      "/sys/dev/block/" + std::to_string(number.first) + ":" + std::to_string(number.second);
  std::error_code error;
  const auto add_from = [&](const std::string& file) {
    std::ifstream in(file);
    std::uint32_t major = 0;
    std::uint32_t minor = 0;
    char colon = 0;
    if (in >> major >> colon >> minor) add_ancestors({major, minor}, found);
  };
  for (const auto& entry : std::filesystem::directory_iterator(base + "/slaves", error)) {
    add_from(entry.path().string() + "/dev");
  }
  // A partition's disk is the folder above its own.
  if (std::filesystem::exists(base + "/partition", error)) add_from(base + "/../dev");
}

}  // namespace

audit::Event event_of(const LifeCall& call, const std::string& operation, const VolumeId& volume) {
  audit::Event event;
  event.kind = audit::Kind::kIntent;
  event.actor = call.actor;
  event.operation = operation;
  event.volume = volume;
  event.request_id = call.request_id;
  event.text = call.reason_text;
  return event;
}

void let_go_of_keys(const VolumeRow& row, const audit::Actor& actor, const LifeParts& parts) {
  const auto left = unbind_keys(row, parts.unlock.keyring, actor);
  if (!left.empty()) parts.unsettled(left);
}

void record_result(audit::AuditLog& log, audit::Event event, std::uint64_t intent,
                   const std::optional<Error>& error, const std::string& text) {
  event.kind = audit::Kind::kResult;
  event.intent_sequence = intent;
  event.outcome = std::string(error ? error->name() : audit::kOutcomeOk);
  event.text = error ? error->message() : text;
  static_cast<void>(log.append_one_kept(event));  // What was done is done.
}

Result<Disk> disk_at(std::span<const Disk> disks, const std::string& path) {
  const std::filesystem::path given(path);
  const auto is_up = [](const std::filesystem::path& part) { return part == ".."; };
  if (!path.starts_with("/dev/") || path.size() > kDevicePathBytesMax ||
      std::any_of(given.begin(), given.end(), is_up)) {
    return fail(Reason::kInvalidArgs, "\"" + printable(path, 200) + "\" is not a path under /dev");
  }
  const auto has_path = [&](const Disk& disk) { return disk.has_path(path); };
  const auto found = std::find_if(disks.begin(), disks.end(), has_path);
  if (found != disks.end()) return *found;
  return fail(Reason::kDeviceAbsent,
              printable(path, 200) + " is not a block device that udev knows");
}

Result<void> require_state_elsewhere(const std::string& state_folder, const Disk& disk,
                                     std::span<const Mapping> mappings) {
  struct stat status{};
  if (::stat(state_folder.c_str(), &status) != 0) {
    return fail_errno(errno, "look at " + state_folder);
  }
  std::set<DeviceNumber> below;
  add_ancestors({::major(status.st_dev), ::minor(status.st_dev)}, below);
  const auto refuse = [&](const std::string& what) {
    return fail(Reason::kUnsupported, "the agent's state in " + state_folder + " is on " + what +
                                          ": it is needed to open volumes and cannot be on one");
  };
  if (below.contains({disk.major, disk.minor})) return refuse(disk.node);
  for (const Mapping& mapping : mappings) {
    if (mapping.marked && below.contains({mapping.major, mapping.minor})) {
      return refuse("volume " + mapping.name);
    }
  }
  return {};
}

std::string name_for(const Disk& disk) {
  const std::string path = disk.identity().path;
  std::string name = path.substr(path.rfind('/') + 1).substr(0, 48);
  const auto replace = [](char c) {
    return require_volume_name(std::string_view(&c, 1)) || c == '.' ? c : '-';
  };
  std::transform(name.begin(), name.end(), name.begin(), replace);
  return require_volume_name(name) ? name : "volume";
}

}  // namespace coffer::agent

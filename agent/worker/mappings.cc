// SPDX-License-Identifier: Apache-2.0
#include "agent/worker/mappings.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <memory>
#include <sstream>
#include <thread>

#include "core/base/unique_fd.h"

namespace coffer::agent {
namespace {

constexpr std::string_view kUuidPrefix = "CRYPT-LUKS2-";
constexpr std::string_view kProbePrefix = "coffer-probe-";
constexpr std::size_t kUuidDigits = 32;
// udev opens each new node for a moment, and so do desktop services.
constexpr std::chrono::milliseconds kBusyPause{50};
constexpr std::chrono::milliseconds kBusyPatience{2000};

// "CRYPT-LUKS2-<32 hex digits>-<name>" -> the volume.
std::optional<VolumeId> volume_of(const std::string& dm_uuid) {
  if (!dm_uuid.starts_with(kUuidPrefix)) return std::nullopt;
  const auto digits = dm_uuid.substr(kUuidPrefix.size(), kUuidDigits);
  if (digits.size() != kUuidDigits) return std::nullopt;
  std::string text = digits;
  for (const std::size_t at : {8U, 13U, 18U, 23U}) text.insert(at, "-");
  const auto id = VolumeId::parse(text);
  if (!id) return std::nullopt;
  return *id;
}

bool exists(const std::string& path) {
  struct stat status{};
  return ::stat(path.c_str(), &status) == 0;
}

std::string sys_path(std::uint32_t number_major, std::uint32_t number_minor) {
  return "/sys/dev/block/" + std::to_string(number_major) + ":" + std::to_string(number_minor);
}

MappingState state_of(const DmControl::Status& status,
                      const std::vector<DmControl::Target>& targets) {
  if (!status.live_table) return MappingState::kNoTable;
  const bool dead = std::ranges::any_of(targets, [](const auto& t) { return t.type != "crypt"; });
  if (dead) return MappingState::kErrorTarget;
  return status.suspended ? MappingState::kSuspended : MappingState::kActive;
}

tl::unexpected<Error> in_use(const Mapping& mapping) {
  const auto holders = Mappings::holders_of(mapping);
  return fail(Reason::kBusy, mapping.name + " is in use" + (holders.empty() ? "" : ": " + holders));
}

// Only when the kernel says so: any other failure tells nothing.
bool is_gone(const DmControl& control, const std::string& name) {
  const auto status = control.status(name);
  return !status && status.error().reason() == Reason::kNotUnlocked;
}

bool is_ours(const Mapping& mapping, const VolumeId& volume) {
  return mapping.dm_uuid == mapping_dm_uuid(volume, mapping.name);
}

}  // namespace

Result<Mapping> Mappings::look_at(const DmControl& control, const std::string& name) const {
  const auto status = control.status(name);
  if (!status) return tl::unexpected(status.error());
  Mapping mapping;
  mapping.name = name;
  mapping.dm_uuid = status->uuid;
  mapping.volume = volume_of(status->uuid);
  mapping.major = major(status->number);
  mapping.minor = minor(status->number);
  mapping.node = "dm-" + std::to_string(mapping.minor);
  mapping.open_count = status->open_count;
  mapping.read_only = status->read_only;
  mapping.deferred = status->deferred;
  mapping.marked = exists(mark_folder_ + "/" + status->uuid);
  if (!mapping.volume) return mapping;  // Another kind: not our business what is in it.
  const auto targets = control.table(name);
  if (!targets) return tl::unexpected(targets.error());
  mapping.state = state_of(*status, *targets);
  const auto below = control.devices_below(name);
  if (below && !below->empty()) {
    mapping.backing_major = major(below->front());
    mapping.backing_minor = minor(below->front());
    mapping.device_gone = !exists(sys_path(mapping.backing_major, mapping.backing_minor));
  }
  return mapping;
}

Result<std::vector<Mapping>> Mappings::list() const {
  const auto control = control_();
  if (!control && control.error().reason() == Reason::kUnsupported) return std::vector<Mapping>{};
  if (!control) return tl::unexpected(control.error());
  const auto names = control->list();
  if (!names) return tl::unexpected(names.error());
  std::vector<Mapping> mappings;
  for (const auto& [name, uuid] : *names) {
    if (uuid && !volume_of(*uuid)) continue;
    auto mapping = look_at(*control, name);
    // One that went in between is not an error, and other kinds are not our business.
    if (mapping && mapping->volume) mappings.push_back(std::move(*mapping));
  }
  return mappings;
}

Result<Mapping> Mappings::find(const std::string& name) const {
  const auto control = control_();
  if (!control) return tl::unexpected(control.error());
  return look_at(*control, name);
}

Result<void> Mappings::mark(const std::string& dm_uuid) const {
  const UniqueFd file(::open((mark_folder_ + "/" + dm_uuid).c_str(),
                             O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0644));
  if (!file.valid()) return fail_errno(errno, "mark the mapping as ours in " + mark_folder_);
  return {};
}

void Mappings::unmark(const std::string& dm_uuid) const noexcept {
  ::unlink((mark_folder_ + "/" + dm_uuid).c_str());
}

void Mappings::unmark_stale() const {
  const auto mappings = list();
  if (!mappings) return;  // What is not known to be gone keeps its mark.
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(mark_folder_.c_str()), ::closedir);
  while (const auto* entry = entries ? ::readdir(entries.get()) : nullptr) {
    const std::string name(static_cast<const char*>(entry->d_name));
    const bool used =
        std::ranges::any_of(*mappings, [&](const Mapping& m) { return m.dm_uuid == name; });
    if (name.starts_with(kUuidPrefix) && !used) unmark(name);
  }
}

Result<void> Mappings::probe(const DmControl::CryptProbe& probe) const {
  const auto control = control_();
  if (!control) return tl::unexpected(control.error());
  const auto unique = Uuid::random();
  if (!unique) return tl::unexpected(unique.error());
  const auto name = std::string(kProbePrefix) + unique->str();
  const UniqueFd file(::open((mark_folder_ + "/" + name).c_str(),
                             O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  if (!file.valid() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0)
    return fail_errno(errno, "mark a probe as ours in " + mark_folder_);
  auto probed = control->probe_crypt(name, probe);
  // One that could not be taken away keeps its file: the next worker tries again.
  if (is_gone(*control, name)) unmark(name);
  return probed;
}

// Files of processes that were killed before they made the mapping, or after they took it away.
void Mappings::unmark_lone_probes(const DmControl& control) const {
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(mark_folder_.c_str()), ::closedir);
  while (const auto* entry = entries ? ::readdir(entries.get()) : nullptr) {
    const std::string name(static_cast<const char*>(entry->d_name));
    if (!name.starts_with(kProbePrefix)) continue;
    const UniqueFd file(
        ::open((mark_folder_ + "/" + name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!file.valid() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) continue;
    if (is_gone(control, name)) unmark(name);
  }
}

Result<std::vector<std::string>> Mappings::clean_probes() const {
  std::vector<std::string> cleaned;
  const auto control = control_();
  if (!control && control.error().reason() == Reason::kUnsupported) return cleaned;
  if (!control) return tl::unexpected(control.error());
  const auto names = control->list();
  if (!names) return tl::unexpected(names.error());
  for (const auto& [name, uuid] : *names) {
    if (!name.starts_with(kProbePrefix)) continue;
    const auto status = control->status(name);
    if (!status || !status->uuid.empty() || status->live_table) continue;
    // Without a file it was never ours; with a locked one its process lives and still probes.
    const UniqueFd file(
        ::open((mark_folder_ + "/" + name).c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW));
    if (!file.valid() || ::flock(file.get(), LOCK_EX | LOCK_NB) != 0) continue;
    if (!control->remove(name, false)) continue;
    unmark(name);
    cleaned.push_back(name);
  }
  unmark_lone_probes(*control);
  return cleaned;
}

Result<void> Mappings::make_room(const std::string& name, const VolumeId& volume) const {
  const auto control = control_();
  if (!control) return tl::unexpected(control.error());
  const auto mapping = look_at(*control, name);
  if (!mapping && mapping.error().reason() == Reason::kNotUnlocked) return {};
  if (!mapping) return tl::unexpected(mapping.error());
  if (!is_ours(*mapping, volume))
    return fail(Reason::kMappingForeign, "the name " + name + " belongs to another mapping");
  if (mapping->state != MappingState::kNoTable && !mapping->marked)
    return fail(Reason::kMappingForeign,
                name + " was opened by somebody else, under another profile");
  if (mapping->state != MappingState::kNoTable)
    return fail(Reason::kAlreadyUnlocked, name + " is open");
  return remove(*control, *mapping, false, Deadline::after(kBusyPatience));
}

Result<void> Mappings::remove(const DmControl& control, const Mapping& mapping, bool deferred,
                              Deadline deadline) const {
  const auto patience = Deadline::after(kBusyPatience);
  for (;;) {
    auto removed = control.remove(mapping.name, deferred);
    if (removed) {
      if (!deferred || !control.status(mapping.name)) unmark(mapping.dm_uuid);
      return {};
    }
    if (removed.error().reason() != Reason::kBusy) return removed;
    if (deadline.passed() || patience.passed()) return removed;
    std::this_thread::sleep_for(kBusyPause);
  }
}

Result<void> Mappings::deactivate(const std::string& name, const VolumeId& volume,
                                  DeactivateMode mode, Deadline deadline) const {
  const auto control = control_();
  if (!control) return tl::unexpected(control.error());
  const auto mapping = look_at(*control, name);
  if (!mapping) return tl::unexpected(mapping.error());
  if (!is_ours(*mapping, volume))
    return fail(Reason::kMappingForeign, name + " is not the mapping of this volume");

  if (mode == DeactivateMode::kForce && mapping->state != MappingState::kErrorTarget &&
      mapping->state != MappingState::kNoTable) {
    if (const auto replaced = control->replace_by_error(name); !replaced)
      return pass(replaced.error(), "end the data of " + name);
  }
  const auto removed = remove(*control, *mapping, mode != DeactivateMode::kPlain, deadline);
  if (removed || removed.error().reason() != Reason::kBusy) return removed;
  return in_use(*mapping);
}

Result<Mapping> Mappings::await_unused(const std::string& name, const VolumeId& volume,
                                       Deadline deadline) const {
  const auto patience = Deadline::after(kBusyPatience);
  for (;;) {
    auto mapping = find(name);
    if (!mapping) return mapping;
    if (!is_ours(*mapping, volume))
      return fail(Reason::kMappingForeign, name + " is not the mapping of this volume");
    if (mapping->open_count == 0) return mapping;
    if (deadline.passed() || patience.passed()) return in_use(*mapping);
    std::this_thread::sleep_for(kBusyPause);
  }
}

Mappings::Making::Making(const Mappings& mappings, std::string dm_uuid)
    : mappings_(mappings), dm_uuid_(std::move(dm_uuid)) {
  const std::scoped_lock lock(mappings_.mutex_);
  mappings_.making_.insert(dm_uuid_);
}

Mappings::Making::~Making() {
  const std::scoped_lock lock(mappings_.mutex_);
  mappings_.making_.erase(dm_uuid_);
}

Result<std::vector<Mapping>> Mappings::clean() const {
  const std::scoped_lock lock(mutex_);
  auto mappings = list();
  if (!mappings) return tl::unexpected(mappings.error());
  std::erase_if(*mappings, [&](const Mapping& m) {
    const bool useless = m.state == MappingState::kNoTable || m.device_gone;
    return !m.marked || !useless || m.deferred || making_.contains(m.dm_uuid);
  });
  if (mappings->empty()) return mappings;
  const auto control = control_();
  if (!control) return tl::unexpected(control.error());
  for (const auto& mapping : *mappings) {
    // Without a table nobody can use it; with one, its users see I/O errors and let go by and by.
    const bool deferred = mapping.state != MappingState::kNoTable;
    const auto removed = control->remove(mapping.name, deferred);
    if (removed && !control->status(mapping.name)) unmark(mapping.dm_uuid);
  }
  return mappings;
}

std::string Mappings::holders_of(const Mapping& mapping) {
  std::string found;
  const auto add = [&](const std::string& holder) {
    found += (found.empty() ? "" : ", ") + holder;
  };
  const auto number = std::to_string(mapping.major) + ":" + std::to_string(mapping.minor);
  // Fields of a line: id, parent, major:minor, root, mount point, … (proc_pid_mountinfo(5)).
  std::ifstream mounts("/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    std::istringstream fields(line);
    std::string id;
    std::string parent;
    std::string device;
    std::string root;
    std::string point;
    fields >> id >> parent >> device >> root >> point;
    if (device == number) add("mounted on " + printable(point, 200));
  }
  const auto folder = sys_path(mapping.major, mapping.minor) + "/holders";
  const std::unique_ptr<DIR, int (*)(DIR*)> entries(::opendir(folder.c_str()), ::closedir);
  while (const auto* entry = entries ? ::readdir(entries.get()) : nullptr) {
    const std::string name(static_cast<const char*>(entry->d_name));
    if (name != "." && name != "..") add("held by " + name);
  }
  return found;
}

}  // namespace coffer::agent

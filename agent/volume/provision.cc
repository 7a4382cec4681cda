// SPDX-License-Identifier: Apache-2.0
#include "agent/volume/provision.h"

#include <algorithm>

#include "agent/unlock/scan_headers.h"
#include "agent/volume/bindings.h"
#include "agent/volume/first_opening.h"
#include "agent/volume/volume_key.h"
#include "core/luks2/token.h"

namespace coffer::agent {
namespace {

constexpr std::size_t kLabelBytesMax = 47;  // The header has 48, with a NUL.

DiskIdentity header_identity(const std::optional<Disk>& disk) {
  return disk ? disk->identity() : DiskIdentity{};
}

// What is known before anything is done.
struct Plan {
  Disk disk;
  std::optional<Disk> header_disk;
  VolumeRow row;
  keyring::KeyContext context;
  luks2::Profile profile;
  std::vector<CmkId> keys;
  DeviceHandle handle = 0;
};

Result<void> require_unregistered(const Disk& disk, const VolumeRow& row,
                                  const std::vector<VolumeRow>& rows) {
  for (const VolumeRow& other : rows) {
    if (other.name == row.name || other.mapped_name == row.mapped_name) {
      return fail(Reason::kNameTaken, "another volume is called " + row.name);
    }
    const DiskIdentity identity = disk.identity();
    if (same_disk(other.device, identity) ||
        (!other.header_device.path.empty() && same_disk(other.header_device, identity))) {
      return fail(Reason::kForeignData,
                  "volume " + other.name + " is registered on " + disk.node + ": forget it first");
    }
  }
  return {};
}

// Whether the same disk can be told again after a boot, or by now only its node is known.
bool is_known(const Disk& disk) {
  const DiskIdentity identity = disk.identity();
  return !identity.serial.empty() || !identity.wwn.empty() || is_stable_path(identity.path);
}

// Nothing on the data device of a detached header tells its volume: its identity must.
Result<void> require_known_apart(const Plan& plan) {
  if (!plan.header_disk) return {};
  for (const Disk* disk : {&plan.disk, &*plan.header_disk}) {
    if (is_known(*disk)) continue;
    return fail(Reason::kUnsupported, disk->node +
                                          " has no serial number, WWN or stable link: it cannot "
                                          "be told again, as a detached header needs");
  }
  return {};
}

// The confirmation is checked again by the worker when it writes; this is so that a refusal costs
// no key and no record.
Result<void> require_empty(const ProvisionCall& call, const Plan& plan, Worker& worker) {
  const auto found = worker.check_empty(plan.handle, call.call.deadline);
  if (!found) return tl::unexpected(found.error());
  const bool known = is_known(plan.disk);
  const bool empty = found->empty && known;
  if (empty || call.options.confirmation == found->confirmation) return {};
  if (!call.options.confirmation.empty()) {
    return fail(Reason::kConfirmMismatch,
                "the confirmation is not the one of " + plan.disk.node + " as it is now");
  }
  const std::string seen =
      found->empty ? plan.disk.node + " has no serial number, WWN or stable link to know it by"
                   : found->found;
  return fail(Reason::kForeignData,
              seen + "; to format it all the same, give the confirmation " + found->confirmation);
}

VolumeRow row_for(const ProvisionCall& call, const Plan& plan, const Clock& clock) {
  VolumeRow row;
  row.id = call.id;
  row.name = call.options.name.empty() ? name_for(plan.disk) : call.options.name;
  row.mapped_name = row.name;
  row.device = plan.disk.identity();
  row.header_device = header_identity(plan.header_disk);
  row.profile = luks2::encode_profile(plan.profile);
  row.context = plan.context.encode();
  row.keys = plan.keys;
  row.automatic = call.options.automatic;
  row.file_system = call.options.file_system;
  row.created = clock.wall();
  return row;
}

Result<Plan> make_plan(const ProvisionCall& call, std::span<const Disk> disks,
                       const LifeParts& parts) {
  if (const std::string& type = call.options.file_system;
      !type.empty() && type != "ext4" && type != "xfs") {
    return fail(Reason::kInvalidArgs, "a file system is ext4 or xfs, not " + printable(type, 32));
  }
  const auto disk = disk_at(disks, call.device);
  if (!disk) return tl::unexpected(disk.error());
  Plan plan{.disk = *disk, .header_disk = {}, .row = {}, .context = {}, .profile = {}, .keys = {}};
  if (!call.options.header_device.empty()) {
    const auto header = disk_at(disks, call.options.header_device);
    if (!header) return tl::unexpected(header.error());
    if (header->node == disk->node) {
      return fail(Reason::kInvalidArgs, "the header device is the device itself");
    }
    plan.header_disk = *header;
  }
  if (const auto known = require_known_apart(plan); !known) return tl::unexpected(known.error());
  auto keys = find_volume_keys(call.options, parts.unlock.keyring);
  if (!keys) return tl::unexpected(keys.error());
  plan.keys = std::move(*keys);

  plan.profile = new_volume_profile(call.id.uuid(), plan.header_disk.has_value());
  plan.context.volume = call.id;
  plan.context.host_scope = parts.unlock.host_id;
  plan.context.cipher = plan.profile.cipher;
  plan.context.key_bytes = plan.profile.key_bytes;
  plan.context.profile_digest = luks2::profile_digest(plan.profile);
  plan.context.generation = 1;
  plan.row = row_for(call, plan, parts.unlock.clock);
  if (const auto named = require_volume_name(plan.row.name); !named) {
    return tl::unexpected(named.error());
  }
  return plan;
}

Result<void> check_plan(const ProvisionCall& call, Plan& plan, const LifeParts& parts) {
  const auto known = parts.registry.load();
  if (!known) return tl::unexpected(known.error());
  if (auto free = require_unregistered(plan.disk, plan.row, known->rows); !free) return free;
  if (plan.header_disk) {
    if (auto free = require_unregistered(*plan.header_disk, plan.row, known->rows); !free) {
      return free;
    }
  }
  // A kernel without device-mapper has no mappings that the state could be on.
  const auto mappings = parts.unlock.worker.list_mappings(call.call.deadline);
  const bool none = !mappings && mappings.error().reason() == Reason::kUnsupported;
  if (!mappings && !none) return tl::unexpected(mappings.error());
  const auto open = none ? std::span<const Mapping>() : std::span<const Mapping>(*mappings);
  if (auto ok = require_state_elsewhere(parts.state_folder, plan.disk, open); !ok) return ok;

  const ScanItem item{.device = plan.disk.node,
                      .header_device = plan.header_disk ? plan.header_disk->node : ""};
  const auto scanned = parts.unlock.worker.scan(std::span(&item, 1), call.call.deadline);
  if (!scanned) return tl::unexpected(scanned.error());
  if (scanned->empty()) return fail(Reason::kInternal, "the worker scanned nothing");
  if (!scanned->front()) return tl::unexpected(scanned->front().error());
  plan.handle = (*scanned->front()).handle;
  plan.row.device_bytes = (*scanned->front()).device.size_bytes;
  const Disk* header = plan.header_disk ? &*plan.header_disk : nullptr;
  if (auto same = require_same_devices(plan.disk, header, *scanned->front()); !same) return same;
  return require_empty(call, plan, parts.unlock.worker);
}

// One provisioning under way, after its intent.
class Maker {
 public:
  Maker(const ProvisionCall& call, Plan& plan, const std::vector<std::uint64_t>& intents,
        const LifeParts& parts)
      : call_(call), plan_(plan), intents_(intents), parts_(parts), worker_(parts.unlock.worker) {}

  // Up to `ready`. On failure nothing is left behind, or a row that recover() takes up.
  Result<void> make() {
    if (auto stored = store("row"); !stored) return stored;
    // Before there is a key under it: it is not taken away while this goes on.
    const auto bound = bind_keys(plan_.row, parts_.unlock.keyring, call_.call.actor);
    if (!bound) return undo(bound.error());
    parts_.reached("bound");
    if (auto made = make_key(); !made) return undo(made.error());
    if (auto built = build(); !built) return undo(built.error());
    const auto written =
        worker_.write_header(ticket_, 0, call_.options.confirmation, call_.call.deadline);
    if (!written) return undo(written.error());
    parts_.reached("written");
    plan_.row.state = RowState::kReady;
    return store("ready");
  }

 private:
  Result<void> store(std::string_view step) {
    auto stored = parts_.registry.put(plan_.row);
    if (stored) parts_.reached(step);
    return stored;
  }

  Result<void> make_key() {
    const auto ticket = keyring::draw_ticket();
    if (!ticket) return tl::unexpected(ticket.error());
    ticket_ = *ticket;
    ExpectedKey key;
    key.handle = plan_.handle;
    key.action = Action::kFormat;
    key.profile = plan_.profile;
    // Expected before it is made: a key that nobody expects is dropped.
    if (auto expected = worker_.expect(ticket_, {&key, 1}, call_.call.deadline); !expected) {
      return expected;
    }
    const VolumeKeyOrder order{.keys = plan_.keys,
                               .threshold = call_.options.threshold,
                               .context = plan_.context,
                               .intents = intents_,
                               .ticket = ticket_};
    auto made = make_volume_key(order, call_.call, parts_.unlock.keyring);
    if (!made) return tl::unexpected(made.error());
    // With the set of shares, which is known only now.
    plan_.row.context = made->context.encode();
    wraps_ = std::move(made->wraps);
    parts_.reached("key");

    Result<void> kept = fail(Reason::kInternal, "the worker kept no key");
    const auto ended = worker_.wait_results(
        ticket_,
        [&](const KeyOutcome& outcome) {
          kept = outcome.result ? Result<void>() : tl::unexpected(outcome.result.error());
        },
        call_.call.deadline);
    return ended ? kept : ended;
  }

  Result<void> build() {
    luks2::Token token;
    token.generation = plan_.context.generation;
    token.threshold = static_cast<std::uint8_t>(call_.options.threshold);
    token.context = plan_.row.context;
    token.wraps = wraps_;
    for (auto& record : parts_.unlock.keyring.sealed_records(plan_.keys)) {
      if (!record) return tl::unexpected(record.error());
      token.records.push_back(std::move(*record));
    }
    const auto json = luks2::print_token(token);
    if (!json) return tl::unexpected(json.error());
    const auto built = worker_.build_header(ticket_, 0, plan_.row.name.substr(0, kLabelBytesMax),
                                            *json, call_.call.deadline);
    if (!built) return tl::unexpected(built.error());
    plan_.row.wraps = wraps_;
    plan_.row.header_print = built->print;
    return store("print");
  }

  // Takes back what was written, and the row when nothing of it is left on the device.
  Result<void> undo(const Error& cause) {
    worker_.cancel(ticket_);
    if (!plan_.row.header_print.empty()) {
      const auto wiped =
          worker_.wipe_header(plan_.handle, plan_.row.header_print, call_.call.deadline);
      if (!wiped) return tl::unexpected(with_leftover(cause, wiped.error()));
    }
    if (const auto erased = parts_.registry.erase(plan_.row.id); !erased) {
      return tl::unexpected(with_leftover(cause, erased.error()));
    }
    let_go_of_keys(plan_.row, call_.call.actor, parts_);
    return tl::unexpected(cause);
  }

  const ProvisionCall& call_;
  Plan& plan_;
  const std::vector<std::uint64_t>& intents_;
  const LifeParts& parts_;
  Worker& worker_;
  keyring::Ticket ticket_{};
  std::vector<Bytes> wraps_;
};

// One event for each of its keys.
std::vector<audit::Event> events_of(const ProvisionCall& call, const Plan& plan) {
  std::vector<audit::Event> events;
  for (const CmkId& key : plan.keys) {
    audit::Event event = event_of(call.call, "volume.provision", call.id);
    event.cmk = key;
    event.text = plan.row.name + " on " + plan.row.device.path;
    if (plan.keys.size() > 1) {
      event.text += ", one of " + std::to_string(plan.keys.size()) + " keys of which " +
                    std::to_string(call.options.threshold) + " open it";
    }
    events.push_back(std::move(event));
  }
  return events;
}

// As systemd.unit(5) names a device's unit: in it '-' stands for '/'.
std::string unit_escaped(std::string_view name) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string out;
  for (const char c : name) {
    const auto byte = static_cast<unsigned char>(c);
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == ':' || c == '_' || c == '.';
    if (plain)
      out += c;
    else
      ((out += "\\x") += kDigits[byte >> 4U]) += kDigits[byte & 0xFU];
  }
  return out;
}

}  // namespace

std::string fstab_line(const VolumeRow& row, std::chrono::seconds boot_deadline) {
  const std::string type = row.file_system.empty() ? "auto" : row.file_system;
  return "/dev/mapper/" + row.mapped_name + " /srv/" + row.name + " " + type +
         " nofail,x-systemd.wanted-by=local-fs.target,x-systemd.wanted-by=dev-mapper-" +
         unit_escaped(row.mapped_name) +
         ".device,x-systemd.before=systemd-user-sessions.service,x-systemd.device-timeout=" +
         std::to_string(boot_deadline.count()) + "s 0 2";
}

Result<Provisioned> provision(const ProvisionCall& call, std::span<const Disk> disks,
                              const LifeParts& parts) {
  auto plan = make_plan(call, disks, parts);
  if (!plan) return pass(plan.error(), "plan the volume");
  Provisioned made;
  const auto checked = check_plan(call, *plan, parts);
  if (checked && !call.options.dry_run) {
    const std::vector<audit::Event> events = events_of(call, *plan);
    const auto intents = parts.unlock.log.append(events);
    const auto done = intents ? Maker(call, *plan, *intents, parts).make()
                              : Result<void>(tl::unexpected(intents.error()));
    const auto error = done ? std::nullopt : std::optional(done.error());
    for (std::size_t i = 0; intents && i < events.size(); ++i) {
      record_result(parts.unlock.log, events[i], (*intents)[i], error,
                    plan->row.name + " provisioned");
    }
    parts.unlock.worker.release({&plan->handle, 1});
    if (!done) return pass(done.error(), "provision " + plan->row.name);
  } else if (plan->handle != 0) {
    parts.unlock.worker.release({&plan->handle, 1});
  }
  if (!checked) return pass(checked.error(), "provision " + plan->disk.node);

  made.row = plan->row;
  made.note = fstab_line(made.row, parts.boot_deadline);
  if (call.options.dry_run) return made;
  // The volume is there whatever comes of this.
  const auto opening = open_first(made.row, disks, call.call, parts);
  if (!opening) {
    made.note += "; not opened: " + opening.error().str();
    return made;
  }
  made.activated = opening->activated;
  if (!opening->note.empty()) made.note += "; " + opening->note;
  return made;
}

}  // namespace coffer::agent

// SPDX-License-Identifier: Apache-2.0
#include "dbus/volume_object.h"

#include "core/keyring/cmk_record.h"
#include "dbus/names.h"
#include "dbus/paths.h"
#include "dbus/properties.h"

namespace coffer::dbus {
namespace {

using agent::VolumeInfo;

std::string cmks_of(const VolumeInfo& volume) {
  std::string ids;
  for (const auto& key : volume.keys) {
    if (!ids.empty()) ids += ' ';
    ids += key.cmk.str();
  }
  return ids;
}

AuthorizationDetails details_of(const VolumeInfo& volume, const std::string& operation) {
  return {{"volume.uuid", volume.id.str()},
          {"volume.name", volume.name},
          {"device", volume.device},
          {"cmk", cmks_of(volume)},
          {"operation", operation}};
}

std::chrono::microseconds timeout_of(const Options& options, std::string_view name) {
  // Longer than a day is a mistake of the caller's unit, and keeps the sum from overflowing.
  constexpr std::uint64_t kTimeoutUsecMax = 86'400'000'000;
  return std::chrono::microseconds(std::min(options.number(name).value_or(0), kTimeoutUsecMax));
}

Result<Plan> of_this_volume(Context& context, sd_bus_message* call, std::span<const OptionSpec> own,
                            Result<Plan> (*plan)(Context&, std::vector<VolumeId>, const Options&)) {
  const auto id = volume_of_path(::sd_bus_message_get_path(call));
  if (!id) return fail(Reason::kNoSuchVolume, "the path names no volume");
  Reader reader(call);
  const auto options = Options::read(reader, own, true);
  if (!options) return tl::unexpected(options.error());
  return plan(context, {*id}, *options);
}

Result<Plan> on_unlock(Context& context, sd_bus_message* call) {
  return of_this_volume(context, call, kUnlockOptions, &plan_unlock);
}
Result<Plan> on_lock(Context& context, sd_bus_message* call) {
  return of_this_volume(context, call, kLockOptions, &plan_lock);
}
Result<Plan> on_verify(Context& context, sd_bus_message* call) {
  return of_this_volume(context, call, {}, &plan_verify);
}

Result<Plan> plan_forget(Context& context, std::vector<VolumeId> ids, const Options& options) {
  for (const auto* name : {"dry-run", "timeout-usec"}) {
    if (const auto refused = options.refuse(name); !refused) return tl::unexpected(refused.error());
  }
  auto plan = plan_for_volumes(context, "forget", ids, options);
  if (!plan) return plan;
  plan->run = [&engine = context.engine, id = ids.front()](const agent::Caller& caller,
                                                           const Reply& reply) {
    engine.forget(id, caller, [reply](const Result<void>& done) { reply.result(done); });
  };
  return plan;
}
Result<Plan> on_forget(Context& context, sd_bus_message* call) {
  return of_this_volume(context, call, {}, &plan_forget);
}

int append_keys(sd_bus_message* m, Context& context, const VolumeInfo& volume) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(sssu)");
  for (const auto& key : volume.keys) {
    const auto known = context.engine.key(key.cmk.str());
    const std::string state = known ? std::string(key_state_name(known->record.state)) : "Unknown";
    if (r >= 0)
      r = ::sd_bus_message_append(m, "(sssu)", key.cmk.str().c_str(),
                                  printable_utf8(key.provider).c_str(), state.c_str(), key.version);
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

std::string mapped_device(const VolumeInfo& volume) {
  return volume.state == agent::VolumeState::kUnlocked ? "/dev/mapper/" + volume.mapped_name : "";
}

int find_volume(sd_bus*, const char* path, const char*, void* userdata, void** found,
                sd_bus_error*) noexcept try {
  auto* context = static_cast<Context*>(userdata);
  const auto id = volume_of_path(path);
  if (!id) return 0;
  const auto volume = context->engine.volume(*id);
  if (!volume) return 0;
  context->volume = *volume;
  *found = context;
  return 1;
} catch (const std::exception&) {
  return -ENOMEM;
}

int list_volumes(sd_bus*, const char*, void* userdata, char*** nodes, sd_bus_error*) noexcept try {
  std::vector<std::string> paths;
  for (const auto& volume : static_cast<Context*>(userdata)->engine.volumes())
    paths.push_back(volume_path(volume.id));
  return give_nodes(paths, nodes);
} catch (const std::exception&) {
  return -ENOMEM;
}

template <auto kGet>
constexpr sd_bus_property_get_t kGetter = &get_property<&Context::volume, kGet>;

constexpr auto kChanges = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
constexpr auto kAnyone = SD_BUS_VTABLE_UNPRIVILEGED;  // The dispatcher decides.

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Unlock", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_unlock>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Lock", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_lock>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Verify", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_verify>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Forget", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_forget>, kAnyone),
    SD_BUS_SIGNAL_WITH_ARGS("StateChanged",
                            SD_BUS_ARGS("s", old_state, "s", new_state, "s", reason), 0),
    SD_BUS_PROPERTY("Id", "s", kGetter<[](const VolumeInfo& v) { return v.id.str(); }>, 0, kConst),
    SD_BUS_PROPERTY("UUID", "s", kGetter<[](const VolumeInfo& v) { return v.id.str(); }>, 0,
                    kConst),
    SD_BUS_PROPERTY("Name", "s", kGetter<&VolumeInfo::name>, 0, kChanges),
    SD_BUS_PROPERTY("Device", "s", kGetter<&VolumeInfo::device>, 0, kChanges),
    SD_BUS_PROPERTY("DeviceNode", "s", kGetter<&VolumeInfo::device_node>, 0, kChanges),
    SD_BUS_PROPERTY("HeaderDevice", "s", kGetter<&VolumeInfo::header_device>, 0, kChanges),
    SD_BUS_PROPERTY("MappedName", "s", kGetter<&VolumeInfo::mapped_name>, 0, kChanges),
    SD_BUS_PROPERTY("MappedDevice", "s", kGetter<&mapped_device>, 0, kChanges),
    SD_BUS_PROPERTY("State", "s",
                    kGetter<[](const VolumeInfo& v) { return volume_state_name(v.state); }>, 0,
                    kChanges),
    SD_BUS_PROPERTY("StateReason", "s", kGetter<&VolumeInfo::state_reason>, 0, kChanges),
    SD_BUS_PROPERTY("LastError", "(ss)", kGetter<&VolumeInfo::last_error>, 0, kChanges),
    SD_BUS_PROPERTY("Auto", "b", kGetter<&VolumeInfo::automatic>, 0, kChanges),
    SD_BUS_PROPERTY("LockedByAdmin", "b", kGetter<&VolumeInfo::locked_by_admin>, 0, kChanges),
    SD_BUS_PROPERTY("ReadOnly", "b", kGetter<&VolumeInfo::read_only>, 0, kChanges),
    SD_BUS_PROPERTY("Keys", "a(sssu)", (&get_structure<&Context::volume, &append_keys>), 0,
                    kChanges),
    SD_BUS_PROPERTY("Threshold", "u", kGetter<&VolumeInfo::threshold>, 0, kChanges),
    SD_BUS_PROPERTY("OwnedKeyslots", "au", kGetter<&VolumeInfo::owned_keyslots>, 0, kChanges),
    SD_BUS_PROPERTY("ForeignKeyslots", "au", kGetter<&VolumeInfo::foreign_keyslots>, 0, kChanges),
    SD_BUS_PROPERTY("TokenId", "i", kGetter<&VolumeInfo::token_id>, 0, kChanges),
    SD_BUS_PROPERTY("Generation", "t", kGetter<&VolumeInfo::generation>, 0, kChanges),
    SD_BUS_PROPERTY("Size", "t", kGetter<&VolumeInfo::size_bytes>, 0, kChanges),
    SD_BUS_PROPERTY("MetadataSize", "t", kGetter<&VolumeInfo::metadata_bytes>, 0, kChanges),
    SD_BUS_PROPERTY("MetadataFree", "t", kGetter<&VolumeInfo::metadata_free_bytes>, 0, kChanges),
    SD_BUS_PROPERTY("HeaderCopies", "s", kGetter<&VolumeInfo::header_copies>, 0, kChanges),
    SD_BUS_PROPERTY("Cipher", "s", kGetter<&VolumeInfo::cipher>, 0, kChanges),
    SD_BUS_PROPERTY("KeySize", "u", kGetter<&VolumeInfo::key_bits>, 0, kChanges),
    SD_BUS_PROPERTY("SectorSize", "u", kGetter<&VolumeInfo::sector_bytes>, 0, kChanges),
    SD_BUS_PROPERTY("FileSystem", "s", kGetter<&VolumeInfo::file_system>, 0, kChanges),
    SD_BUS_PROPERTY("Origin", "s", kGetter<&VolumeInfo::origin>, 0, kChanges),
    SD_BUS_PROPERTY("LastUnlockUSec", "t", kGetter<&VolumeInfo::last_unlock>, 0, kChanges),
    SD_BUS_PROPERTY("LastUnlockDurationUSec", "t", kGetter<&VolumeInfo::last_unlock_duration>, 0,
                    kChanges),
    SD_BUS_VTABLE_END};

}  // namespace

Result<Plan> plan_for_volumes(Context& context, std::string operation,
                              const std::vector<VolumeId>& ids, const Options& options) {
  Plan plan;
  plan.operation = std::move(operation);
  plan.interactive = options.interactive();
  plan.reason = options.text("reason");
  plan.object = ids.size() == 1 ? ids.front().str() : std::to_string(ids.size()) + " volumes";
  for (const auto& id : ids) {
    const auto volume = context.engine.volume(id);
    if (!volume) return tl::unexpected(volume.error());
    plan.subjects.push_back(details_of(*volume, plan.operation));
  }
  plan.recheck = [&engine = context.engine, ids, shown = plan.subjects,
                  what = plan.operation]() -> Result<void> {
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto volume = engine.volume(ids[i]);
      if (!volume) return tl::unexpected(volume.error());
      if (details_of(*volume, what) != shown[i])
        return fail(Reason::kDeviceChanged,
                    "volume " + volume->name + " changed while polkit " + "was asked; ask again");
    }
    return {};
  };
  return plan;
}

Result<Plan> plan_unlock(Context& context, std::vector<VolumeId> ids, const Options& options) {
  auto plan = plan_for_volumes(context, "unlock", ids, options);
  if (!plan) return plan;
  const agent::UnlockOptions unlock{.strict = options.flag("strict"),
                                    .read_only = options.flag("read-only"),
                                    .dry_run = options.dry_run(),
                                    .timeout = timeout_of(options, "timeout-usec")};
  plan->run = [&engine = context.engine, ids = std::move(ids), unlock](const agent::Caller& caller,
                                                                       const Reply& reply) {
    reply.job(engine.unlock(ids, unlock, caller));
  };
  return plan;
}

Result<Plan> plan_lock(Context& context, std::vector<VolumeId> ids, const Options& options) {
  if (const auto refused = options.refuse("dry-run"); !refused)
    return tl::unexpected(refused.error());
  if (options.flag("deferred") && options.flag("force"))
    return fail(Reason::kInvalidArgs, "deferred and force exclude each other");
  auto plan = plan_for_volumes(context, "lock", ids, options);
  if (!plan) return plan;
  agent::LockOptions lock;
  if (options.flag("deferred")) lock.mode = agent::LockMode::kDeferred;
  if (options.flag("force")) lock.mode = agent::LockMode::kForce;
  const bool deadline = options.number("deadline-usec").has_value();
  lock.timeout = timeout_of(options, deadline ? "deadline-usec" : "timeout-usec");
  plan->run = [&engine = context.engine, ids = std::move(ids), lock](const agent::Caller& caller,
                                                                     const Reply& reply) {
    reply.job(engine.lock(ids, lock, caller));
  };
  return plan;
}

Result<Plan> plan_verify(Context& context, std::vector<VolumeId> ids, const Options& options) {
  for (const auto* name : {"dry-run", "timeout-usec"}) {
    if (const auto refused = options.refuse(name); !refused) return tl::unexpected(refused.error());
  }
  auto plan = plan_for_volumes(context, "verify", ids, options);
  if (!plan) return plan;
  plan->run = [&engine = context.engine, ids = std::move(ids)](const agent::Caller& caller,
                                                               const Reply& reply) {
    reply.job(engine.verify(ids, caller));
  };
  return plan;
}

int export_volumes(sd_bus* bus, Context& context) {
  const int r = ::sd_bus_add_fallback_vtable(bus, nullptr, kVolumePrefix, kVolumeInterface, kVtable,
                                             &find_volume, &context);
  if (r < 0) return r;
  return ::sd_bus_add_node_enumerator(bus, nullptr, kVolumePrefix, &list_volumes, &context);
}

}  // namespace coffer::dbus

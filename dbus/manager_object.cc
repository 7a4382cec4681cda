// SPDX-License-Identifier: Apache-2.0
#include "dbus/manager_object.h"

#include <algorithm>

#include "dbus/actions.h"
#include "dbus/names.h"
#include "dbus/paths.h"
#include "dbus/properties.h"
#include "dbus/volume_object.h"

namespace coffer::dbus {
namespace {

using agent::ManagerInfo;
using agent::VolumeInfo;

constexpr OptionSpec kVolumeFilter[] = {{"state", 's'}, {"name", 's'}, {"auto", 'b'}};
constexpr OptionSpec kProvisionOptions[] = {
    {"name", 's'},        {"key", 's'},           {"keys", 'a'},    {"threshold", 'u'},
    {"file-system", 's'}, {"header-device", 's'}, {"confirm", 's'}, {"auto", 'b'}};
constexpr OptionSpec kAdoptOptions[] = {{"name", 's'}, {"header-device", 's'}, {"auto", 'b'}};

// A plan for something that only reads.
Plan reading(std::string operation, std::string object, AuthorizationDetails details) {
  Plan plan;
  plan.operation = std::move(operation);
  plan.object = std::move(object);
  details.emplace_back("operation", plan.operation);
  plan.subjects.push_back(std::move(details));
  return plan;
}

bool matches(const VolumeInfo& volume, const Options& filter) {
  const auto state = filter.maybe_text("state");
  const auto name = filter.maybe_text("name");
  return (!state || *state == volume_state_name(volume.state)) && (!name || *name == volume.name) &&
         filter.flag("auto", volume.automatic) == volume.automatic;
}

int append_volume_row(sd_bus_message* m, const VolumeInfo& volume) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_STRUCT, "sssso");
  const std::string_view columns[] = {volume.name, volume_state_name(volume.state), volume.device};
  if (r >= 0) r = append_text(m, volume.id.str());
  for (const auto column : columns) {
    if (r >= 0) r = append_text(m, column);
  }
  if (r >= 0) r = append_path(m, volume_path(volume.id));
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

Result<Plan> on_list_volumes(Context& context, sd_bus_message* call) {
  Reader reader(call);
  auto filter = Options::read(reader, kVolumeFilter, false);
  if (!filter) return tl::unexpected(filter.error());
  auto plan = reading("list-volumes", "", {});
  plan.run = [&engine = context.engine, filter = std::move(*filter)](const agent::Caller&,
                                                                     const Reply& reply) {
    reply.fill([&](sd_bus_message* m) {
      int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(sssso)");
      for (const auto& volume : engine.volumes()) {
        if (r >= 0 && matches(volume, filter)) r = append_volume_row(m, volume);
      }
      return r < 0 ? r : ::sd_bus_message_close_container(m);
    });
  };
  return plan;
}

Result<Plan> on_get_volume(Context& context, sd_bus_message* call) {
  const auto spec = Reader(call).text();
  if (!spec) return tl::unexpected(spec.error());
  const auto id = context.engine.resolve(*spec);
  if (!id) return tl::unexpected(id.error());
  auto plan = reading("get-volume", id->str(), {{"volume.uuid", id->str()}});
  plan.run = [path = volume_path(*id)](const agent::Caller&, const Reply& reply) {
    reply.path(path);
  };
  return plan;
}

Result<Plan> on_list_jobs(Context& context, sd_bus_message*) {
  auto plan = reading("list-jobs", "", {});
  plan.run = [&engine = context.engine](const agent::Caller&, const Reply& reply) {
    reply.fill([&](sd_bus_message* m) {
      int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(uosss)");
      for (const auto& job : engine.jobs()) {
        if (r >= 0)
          r = ::sd_bus_message_append(
              m, "(uosss)", job.id, job_path(job.id).c_str(), job.operation.c_str(),
              std::string(job_state_name(job.state)).c_str(), printable_utf8(job.message).c_str());
      }
      return r < 0 ? r : ::sd_bus_message_close_container(m);
    });
  };
  return plan;
}

// The arguments of Provision and Adopt: a device and options.
struct DeviceCall {
  std::string device;
  Options options;
};
Result<DeviceCall> read_device_call(sd_bus_message* call, std::span<const OptionSpec> own) {
  Reader reader(call);
  auto device = reader.text();
  if (!device) return tl::unexpected(device.error());
  auto options = Options::read(reader, own, true);
  if (!options) return tl::unexpected(options.error());
  if (const auto refused = options->refuse("timeout-usec"); !refused)
    return tl::unexpected(refused.error());
  if (!device->starts_with("/dev/"))
    return fail(Reason::kInvalidArgs, "a device is named by its path under /dev");
  return DeviceCall{std::move(*device), std::move(*options)};
}

Plan device_plan(const std::string& operation, const DeviceCall& call) {
  Plan plan;
  plan.operation = operation;
  plan.object = call.device;
  plan.interactive = call.options.interactive();
  plan.reason = call.options.text("reason");
  plan.subjects.push_back({{"volume.name", call.options.text("name")},
                           {"device", call.device},
                           {"cmk", call.options.text("key")},
                           {"operation", operation}});
  return plan;
}

AuthorizationDetails with_key(AuthorizationDetails details, const std::string& key) {
  for (auto& [name, value] : details) {
    if (name == "cmk") value = key;
  }
  return details;
}

Result<Plan> on_provision(Context& context, sd_bus_message* call) {
  const auto read = read_device_call(call, kProvisionOptions);
  if (!read) return tl::unexpected(read.error());
  const auto& options = read->options;
  auto plan = device_plan("provision", *read);
  auto keys = options.texts("keys");
  if (const auto key = options.text("key"); !key.empty()) {
    if (!keys.empty())
      return fail(Reason::kInvalidArgs, "a volume is given one key or a list of keys, not both");
    keys.push_back(key);
  }
  // One question to polkit for each key that is to protect it.
  if (const auto subject = plan.subjects.front(); keys.size() > 1) {
    plan.subjects.clear();
    for (const auto& key : keys) plan.subjects.push_back(with_key(subject, key));
  }
  const agent::ProvisionOptions provision{.name = options.text("name"),
                                          .keys = keys,
                                          .threshold = options.number("threshold").value_or(1),
                                          .header_device = options.text("header-device"),
                                          .file_system = options.text("file-system"),
                                          .confirmation = options.text("confirm"),
                                          .automatic = options.flag("auto", true),
                                          .dry_run = options.dry_run()};
  plan.run = [&engine = context.engine, device = read->device, provision](
                 const agent::Caller& caller, const Reply& reply) {
    reply.job(engine.provision(device, provision, caller));
  };
  return plan;
}

Result<Plan> on_adopt(Context& context, sd_bus_message* call) {
  const auto read = read_device_call(call, kAdoptOptions);
  if (!read) return tl::unexpected(read.error());
  const auto& options = read->options;
  if (const auto refused = options.refuse("dry-run"); !refused)
    return tl::unexpected(refused.error());
  auto plan = device_plan("adopt", *read);
  const agent::AdoptOptions adopt{.name = options.text("name"),
                                  .header_device = options.text("header-device"),
                                  .automatic = options.flag("auto", true)};
  plan.run = [&engine = context.engine, device = read->device, adopt](const agent::Caller& caller,
                                                                      const Reply& reply) {
    reply.job(engine.adopt(device, adopt, caller));
  };
  return plan;
}

using VolumesPlan = Result<Plan> (*)(Context&, std::vector<VolumeId>, const Options&);

// UnlockMany, LockMany, VerifyMany: as specs, a{sv}. A volume named twice counts once.
Result<Plan> of_many(Context& context, sd_bus_message* call, std::span<const OptionSpec> own,
                     VolumesPlan make_plan) {
  Reader reader(call);
  const auto specs = reader.texts(kSpecsMax);
  if (!specs) return tl::unexpected(specs.error());
  const auto options = Options::read(reader, own, true);
  if (!options) return tl::unexpected(options.error());
  if (specs->empty())
    return fail(Reason::kInvalidArgs, "the list names no volume; …All is for all of them");
  std::vector<VolumeId> ids;
  for (const auto& spec : *specs) {
    const auto id = context.engine.resolve(spec);
    if (!id) return tl::unexpected(id.error());
    ids.push_back(*id);
  }
  std::vector<VolumeId> sorted = ids;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) {
    sorted.erase(std::unique(sorted.begin(), sorted.end()), sorted.end());
    ids = std::move(sorted);
  }
  return make_plan(context, std::move(ids), *options);
}

Result<Plan> on_unlock_many(Context& context, sd_bus_message* call) {
  return of_many(context, call, kUnlockOptions, &plan_unlock);
}
Result<Plan> on_lock_many(Context& context, sd_bus_message* call) {
  return of_many(context, call, kLockOptions, &plan_lock);
}
Result<Plan> on_verify_many(Context& context, sd_bus_message* call) {
  return of_many(context, call, {}, &plan_verify);
}

// Every volume whose device is there: what polkit is asked about is what is opened.
Result<Plan> on_unlock_all(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto options = Options::read(reader, kUnlockOptions, true);
  if (!options) return tl::unexpected(options.error());
  std::vector<VolumeId> present;
  for (const auto& volume : context.engine.volumes()) {
    if (volume.state != agent::VolumeState::kAbsent) present.push_back(volume.id);
  }
  if (present.empty()) return fail(Reason::kDeviceAbsent, "no volume's device is attached");
  return plan_unlock(context, std::move(present), *options);
}

Result<Plan> on_lock_all(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto options = Options::read(reader, kLockOptions, true);
  if (!options) return tl::unexpected(options.error());
  auto plan = plan_lock(context, {}, *options);
  if (!plan) return plan;
  plan->object = "all volumes";
  plan->subjects = {{{"operation", "lock-all"}}};
  return plan;
}

Result<Plan> on_scan(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto options = Options::read(reader, {}, true);
  if (!options) return tl::unexpected(options.error());
  if (const auto refused = options->refuse_modes(); !refused)
    return tl::unexpected(refused.error());
  Plan plan;
  plan.operation = "scan";
  plan.interactive = options->interactive();
  plan.reason = options->text("reason");
  plan.subjects.push_back({{"operation", "scan"}});
  plan.run = [&engine = context.engine](const agent::Caller& caller, const Reply& reply) {
    reply.job(engine.scan(caller));
  };
  return plan;
}

template <auto kGet>
int get_manager(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply,
                void* userdata, sd_bus_error*) noexcept try {
  return append_value(reply, std::invoke(kGet, static_cast<Context*>(userdata)->engine.manager()));
} catch (const std::exception&) {
  return -ENOMEM;
}

int get_jobs(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* userdata,
             sd_bus_error*) noexcept try {
  int r = ::sd_bus_message_open_container(reply, SD_BUS_TYPE_ARRAY, "o");
  for (const auto& job : static_cast<Context*>(userdata)->engine.jobs()) {
    if (r >= 0) r = append_path(reply, job_path(job.id));
  }
  return r < 0 ? r : ::sd_bus_message_close_container(reply);
} catch (const std::exception&) {
  return -ENOMEM;
}

constexpr auto kChanges = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
constexpr auto kAnyone = SD_BUS_VTABLE_UNPRIVILEGED;  // The dispatcher decides.

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("ListVolumes", SD_BUS_ARGS("a{sv}", filter),
                            SD_BUS_RESULT("a(sssso)", volumes), &on_call<&on_list_volumes>,
                            kAnyone),
    SD_BUS_METHOD_WITH_ARGS("GetVolume", SD_BUS_ARGS("s", spec), SD_BUS_RESULT("o", volume),
                            &on_call<&on_get_volume>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Provision", SD_BUS_ARGS("s", device, "a{sv}", options),
                            SD_BUS_RESULT("o", job), &on_call<&on_provision>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Adopt", SD_BUS_ARGS("s", device, "a{sv}", options),
                            SD_BUS_RESULT("o", job), &on_call<&on_adopt>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("UnlockMany", SD_BUS_ARGS("as", specs, "a{sv}", options),
                            SD_BUS_RESULT("o", job), &on_call<&on_unlock_many>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("UnlockAll", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_unlock_all>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("LockMany", SD_BUS_ARGS("as", specs, "a{sv}", options),
                            SD_BUS_RESULT("o", job), &on_call<&on_lock_many>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("LockAll", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_lock_all>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("VerifyMany", SD_BUS_ARGS("as", specs, "a{sv}", options),
                            SD_BUS_RESULT("o", job), &on_call<&on_verify_many>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Scan", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_scan>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("ListJobs", SD_BUS_NO_ARGS, SD_BUS_RESULT("a(uosss)", jobs),
                            &on_call<&on_list_jobs>, kAnyone),
    SD_BUS_SIGNAL_WITH_ARGS("VolumeNew", SD_BUS_ARGS("s", uuid, "o", volume), 0),
    SD_BUS_SIGNAL_WITH_ARGS("VolumeRemoved", SD_BUS_ARGS("s", uuid, "o", volume), 0),
    SD_BUS_SIGNAL_WITH_ARGS("JobNew", SD_BUS_ARGS("u", id, "o", job, "s", operation), 0),
    SD_BUS_SIGNAL_WITH_ARGS("JobRemoved",
                            SD_BUS_ARGS("u", id, "o", job, "s", operation, "s", result), 0),
    SD_BUS_SIGNAL_WITH_ARGS("Alert", SD_BUS_ARGS("s", severity, "s", code, "s", volume, "s", text),
                            0),
    SD_BUS_PROPERTY("Version", "s", &get_manager<&ManagerInfo::version>, 0, kConst),
    SD_BUS_PROPERTY("Features", "as", &get_manager<&ManagerInfo::features>, 0, kConst),
    SD_BUS_PROPERTY("HostId", "s", &get_manager<&ManagerInfo::host_id>, 0, kConst),
    SD_BUS_PROPERTY("Mode", "s", &get_manager<&ManagerInfo::mode>, 0, kChanges),
    SD_BUS_PROPERTY("NVolumes", "u", &get_manager<&ManagerInfo::volume_count>, 0, kChanges),
    SD_BUS_PROPERTY("NUnlocked", "u", &get_manager<&ManagerInfo::unlocked_count>, 0, kChanges),
    SD_BUS_PROPERTY("NFailed", "u", &get_manager<&ManagerInfo::failed_count>, 0, kChanges),
    SD_BUS_PROPERTY("Jobs", "ao", &get_jobs, 0, kChanges),
    SD_BUS_PROPERTY("BootFinishedUSec", "t", &get_manager<&ManagerInfo::boot_finished>, 0,
                    kChanges),
    SD_BUS_PROPERTY("BootUnlockDurationUSec", "t", &get_manager<&ManagerInfo::boot_unlock_duration>,
                    0, kChanges),
    SD_BUS_VTABLE_END};

}  // namespace

int export_manager(sd_bus* bus, Context& context) {
  return ::sd_bus_add_object_vtable(bus, nullptr, kRootPath, kManagerInterface, kVtable, &context);
}

}  // namespace coffer::dbus

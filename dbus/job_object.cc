// SPDX-License-Identifier: Apache-2.0
#include "dbus/job_object.h"

#include "dbus/actions.h"
#include "dbus/names.h"
#include "dbus/paths.h"
#include "dbus/properties.h"
#include "dbus/volume_object.h"

namespace coffer::dbus {
namespace {

using agent::JobInfo;
using agent::JobItem;

Result<JobInfo> job_of(Context& context, sd_bus_message* call) {
  const auto id = job_of_path(::sd_bus_message_get_path(call));
  if (!id) return fail(Reason::kNoSuchJob, "the path names no job");
  return context.engine.job(*id);
}

// Whoever may start such a job on each of its volumes may also stop it.
Result<Plan> on_cancel(Context& context, sd_bus_message* call) {
  const auto job = job_of(context, call);
  if (!job) return tl::unexpected(job.error());
  Reader reader(call);
  const auto options = Options::read(reader, {}, true);
  if (!options) return tl::unexpected(options.error());
  if (const auto refused = options->refuse_modes(); !refused)
    return tl::unexpected(refused.error());
  Plan plan;
  plan.operation = "cancel";
  plan.object = "job " + std::to_string(job->id);
  plan.action = action_of_operation(job->operation);
  plan.interactive = options->interactive();
  plan.reason = options->text("reason");
  for (const auto& id : job->volumes) {
    const auto volume = context.engine.volume(id);
    plan.subjects.push_back({{"volume.uuid", id.str()},
                             {"volume.name", volume ? volume->name : ""},
                             {"device", volume ? volume->device : ""},
                             {"operation", "cancel " + job->operation}});
  }
  if (plan.subjects.empty()) plan.subjects.push_back({{"operation", "cancel " + job->operation}});
  plan.run = [&engine = context.engine, id = job->id](const agent::Caller& caller,
                                                      const Reply& reply) {
    reply.result(engine.cancel(id, caller));
  };
  return plan;
}

std::uint64_t duration_usec(const JobItem& item) {
  return static_cast<std::uint64_t>(item.usable.count());
}

int append_result(sd_bus_message* m, const JobItem& item) {
  const auto error = item.error ? dbus_error_name(item.error->reason()) : "";
  return ::sd_bus_message_append(m, "(ssstt)", item.volume.str().c_str(),
                                 printable_utf8(item.result).c_str(), error.c_str(),
                                 usec(item.started), duration_usec(item));
}

int append_entry(sd_bus_message* m, const char* name, std::string_view text) {
  return ::sd_bus_message_append(m, "{sv}", name, "s", printable_utf8(text).c_str());
}
int append_entry(sd_bus_message* m, const char* name, std::uint64_t number) {
  return ::sd_bus_message_append(m, "{sv}", name, "t", number);
}

int append_details(sd_bus_message* m, const JobItem& item) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "{sv}");
  if (r >= 0) r = append_entry(m, "uuid", item.volume.str());
  if (r >= 0) r = append_entry(m, "name", item.name);
  if (r >= 0) r = append_entry(m, "result", item.result);
  if (r >= 0 && item.error) r = append_entry(m, "error", dbus_error_name(item.error->reason()));
  if (r >= 0 && item.error) r = append_entry(m, "text", item.error->message());
  if (r >= 0 && !item.note.empty()) r = append_entry(m, "note", item.note);
  if (r >= 0 && item.started != WallTime{}) r = append_entry(m, "start-usec", usec(item.started));
  if (r >= 0 && item.usable.count() > 0) r = append_entry(m, "usable-usec", duration_usec(item));
  if (r >= 0 && item.settled.count() > 0)
    r = append_entry(m, "settled-usec", static_cast<std::uint64_t>(item.settled.count()));
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

// Rows `offset` to `offset + count` of a job's items, each written by `append`.
Result<Plan> of_items(Context& context, sd_bus_message* call, const char* operation,
                      const char* row_type, int (*append)(sd_bus_message*, const JobItem&)) {
  const auto job = job_of(context, call);
  if (!job) return tl::unexpected(job.error());
  Reader reader(call);
  const auto offset = reader.u32();
  if (!offset) return tl::unexpected(offset.error());
  const auto count = reader.u32();
  if (!count) return tl::unexpected(count.error());

  Plan plan;
  plan.operation = operation;
  plan.object = "job " + std::to_string(job->id);
  plan.subjects.push_back({{"operation", operation}});
  plan.run = [&engine = context.engine, id = job->id, first = std::size_t{*offset},
              count_max = std::size_t{std::min(*count, kPageMax)}, row_type,
              append](const agent::Caller&, const Reply& reply) {
    const auto items = engine.job_items(id);
    if (!items) return reply.error(items.error());
    reply.fill([&](sd_bus_message* m) {
      int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, row_type);
      for (std::size_t i = first; i < items->size() && i - first < count_max; ++i) {
        if (r >= 0) r = append(m, (*items)[i]);
      }
      return r < 0 ? r : ::sd_bus_message_close_container(m);
    });
  };
  return plan;
}

Result<Plan> on_get_results(Context& context, sd_bus_message* call) {
  return of_items(context, call, "get-results", "(ssstt)", &append_result);
}
Result<Plan> on_get_details(Context& context, sd_bus_message* call) {
  return of_items(context, call, "get-details", "a{sv}", &append_details);
}

double progress_of(const JobInfo& job) {
  if (job.total == 0) return job.ended != WallTime{} ? 1.0 : 0.0;
  return static_cast<double>(job.done) / static_cast<double>(job.total);
}

int append_objects(sd_bus_message* m, Context&, const JobInfo& job) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "o");
  for (const auto& id : job.volumes) {
    if (r >= 0) r = append_path(m, volume_path(id));
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

int find_job(sd_bus*, const char* path, const char*, void* userdata, void** found,
             sd_bus_error*) noexcept try {
  auto* context = static_cast<Context*>(userdata);
  const auto id = job_of_path(path);
  if (!id) return 0;
  const auto job = context->engine.job(*id);
  if (!job) return 0;
  context->job = *job;
  *found = context;
  return 1;
} catch (const std::exception&) {
  return -ENOMEM;
}

int list_jobs(sd_bus*, const char*, void* userdata, char*** nodes, sd_bus_error*) noexcept try {
  std::vector<std::string> paths;
  for (const auto& job : static_cast<Context*>(userdata)->engine.jobs())
    paths.push_back(job_path(job.id));
  return give_nodes(paths, nodes);
} catch (const std::exception&) {
  return -ENOMEM;
}

template <auto kGet>
constexpr sd_bus_property_get_t kGetter = &get_property<&Context::job, kGet>;

constexpr auto kChanges = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
constexpr auto kAnyone = SD_BUS_VTABLE_UNPRIVILEGED;  // The dispatcher decides.

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Cancel", SD_BUS_ARGS("a{sv}", options), SD_BUS_NO_RESULT,
                            &on_call<&on_cancel>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("GetResults", SD_BUS_ARGS("u", offset, "u", max),
                            SD_BUS_RESULT("a(ssstt)", results), &on_call<&on_get_results>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("GetDetails", SD_BUS_ARGS("u", offset, "u", max),
                            SD_BUS_RESULT("aa{sv}", results), &on_call<&on_get_details>, kAnyone),
    SD_BUS_SIGNAL_WITH_ARGS("ItemDone", SD_BUS_ARGS("s", uuid, "s", result, "s", error), 0),
    SD_BUS_SIGNAL_WITH_ARGS("Completed", SD_BUS_ARGS("b", success, "s", message), 0),
    SD_BUS_PROPERTY("Id", "u", kGetter<&JobInfo::id>, 0, kConst),
    SD_BUS_PROPERTY("Operation", "s", kGetter<&JobInfo::operation>, 0, kConst),
    SD_BUS_PROPERTY("State", "s",
                    kGetter<[](const JobInfo& job) { return job_state_name(job.state); }>, 0,
                    kChanges),
    SD_BUS_PROPERTY("Progress", "d", kGetter<&progress_of>, 0, kChanges),
    SD_BUS_PROPERTY("ProgressValid", "b",
                    kGetter<[](const JobInfo& job) { return job.total != 0; }>, 0, kChanges),
    SD_BUS_PROPERTY("Total", "u", kGetter<&JobInfo::total>, 0, kChanges),
    SD_BUS_PROPERTY("Done", "u", kGetter<&JobInfo::done>, 0, kChanges),
    SD_BUS_PROPERTY("Failed", "u", kGetter<&JobInfo::failed>, 0, kChanges),
    SD_BUS_PROPERTY("Bytes", "t", kGetter<&JobInfo::bytes>, 0, kChanges),
    SD_BUS_PROPERTY("Rate", "t", kGetter<&JobInfo::bytes_per_second>, 0, kChanges),
    SD_BUS_PROPERTY("StartTime", "t", kGetter<&JobInfo::started>, 0, kChanges),
    SD_BUS_PROPERTY("ExpectedEndTime", "t", kGetter<&JobInfo::expected_end>, 0, kChanges),
    SD_BUS_PROPERTY("EndTime", "t", kGetter<&JobInfo::ended>, 0, kChanges),
    SD_BUS_PROPERTY("Objects", "ao", (&get_structure<&Context::job, &append_objects>), 0, kChanges),
    SD_BUS_PROPERTY("StartedByUID", "u", kGetter<&JobInfo::started_by_uid>, 0, kConst),
    SD_BUS_PROPERTY("Cancelable", "b", kGetter<&JobInfo::cancelable>, 0, kChanges),
    SD_BUS_PROPERTY("Message", "s", kGetter<&JobInfo::message>, 0, kChanges),
    SD_BUS_VTABLE_END};

}  // namespace

int export_jobs(sd_bus* bus, Context& context) {
  const int r = ::sd_bus_add_fallback_vtable(bus, nullptr, kJobPrefix, kJobInterface, kVtable,
                                             &find_job, &context);
  if (r < 0) return r;
  return ::sd_bus_add_node_enumerator(bus, nullptr, kJobPrefix, &list_jobs, &context);
}

}  // namespace coffer::dbus

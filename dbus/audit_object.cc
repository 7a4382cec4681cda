// SPDX-License-Identifier: Apache-2.0
#include "dbus/audit_object.h"

#include <algorithm>

#include "dbus/names.h"
#include "dbus/properties.h"

namespace coffer::dbus {
namespace {

using agent::AuditEntry;
using agent::AuditFilter;
using agent::AuditVerdict;

constexpr OptionSpec kFilter[] = {{"from-seq", 't'},   {"to-seq", 't'}, {"since-usec", 't'},
                                  {"until-usec", 't'}, {"object", 's'}, {"operation", 's'},
                                  {"uid", 'u'}};

std::optional<WallTime> time_of(const Options& options, std::string_view name) {
  const auto value = options.number(name);
  if (!value) return std::nullopt;
  // Beyond the range of the type is the end of time.
  return wall_from_usec(std::min<std::uint64_t>(*value, INT64_MAX));
}

// kInvalidArgs: `object` is no UUID. An object that is ignored would show all records instead.
Result<AuditFilter> filter_of(const Options& options) {
  AuditFilter filter{.from_sequence = options.number("from-seq").value_or(0),
                     .to_sequence = options.number("to-seq").value_or(0),
                     .since = time_of(options, "since-usec"),
                     .until = time_of(options, "until-usec"),
                     .object = {},
                     .operation = options.maybe_text("operation"),
                     .uid = {}};
  if (const auto text = options.maybe_text("object")) {
    const auto object = Uuid::parse(*text);
    if (!object) {
      return fail(Reason::kInvalidArgs,
                  "object must be the UUID of a volume or the id of a key, in lower case");
    }
    filter.object = *object;
  }
  if (const auto uid = options.number("uid")) filter.uid = static_cast<std::uint32_t>(*uid);
  return filter;
}

int append_entries(sd_bus_message* m, const std::vector<AuditEntry>& entries) {
  int r = ::sd_bus_message_open_container(m, SD_BUS_TYPE_ARRAY, "(tttsss)");
  for (const auto& entry : entries) {
    if (r >= 0)
      r = ::sd_bus_message_append(m, "(tttsss)", entry.sequence, usec(entry.time), entry.boot_usec,
                                  printable_utf8(entry.event).c_str(),
                                  printable_utf8(entry.object).c_str(),
                                  printable_utf8(entry.text).c_str());
  }
  return r < 0 ? r : ::sd_bus_message_close_container(m);
}

Plan audit_plan(const char* operation) {
  Plan plan;
  plan.operation = operation;
  plan.subjects.push_back({{"operation", operation}});
  return plan;
}

Result<Plan> on_query(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto options = Options::read(reader, kFilter, false);
  if (!options) return tl::unexpected(options.error());
  const auto count = reader.u32();
  if (!count) return tl::unexpected(count.error());
  const auto filter = filter_of(*options);
  if (!filter) return tl::unexpected(filter.error());
  auto plan = audit_plan("query-audit");
  plan.run = [&engine = context.engine, filter = *filter, count_max = std::min(*count, kPageMax)](
                 const agent::Caller& caller, const Reply& reply) {
    engine.audit_query(filter, count_max, caller,
                       [reply](const Result<std::vector<AuditEntry>>& entries) {
                         if (!entries) return reply.error(entries.error());
                         reply.fill([&](sd_bus_message* m) { return append_entries(m, *entries); });
                       });
  };
  return plan;
}

Result<Plan> on_verify(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto from = reader.u64();
  if (!from) return tl::unexpected(from.error());
  const auto to = reader.u64();
  if (!to) return tl::unexpected(to.error());
  if (*to != 0 && *to < *from)
    return fail(Reason::kInvalidArgs, "the last record comes before the first");
  auto plan = audit_plan("verify-audit");
  plan.run = [&engine = context.engine, from = *from, to = *to](const agent::Caller& caller,
                                                                const Reply& reply) {
    engine.audit_verify(from, to, caller, [reply](const Result<AuditVerdict>& verdict) {
      if (!verdict) return reply.error(verdict.error());
      reply.fill([&](sd_bus_message* m) {
        return ::sd_bus_message_append(m, "bts", static_cast<int>(verdict->ok),
                                       verdict->bad_sequence,
                                       printable_utf8(verdict->text).c_str());
      });
    });
  };
  return plan;
}

int get_sequence(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply,
                 void* userdata, sd_bus_error*) noexcept try {
  return append_value(reply, static_cast<Context*>(userdata)->engine.audit_head().sequence);
} catch (const std::exception&) {
  return -ENOMEM;
}

int get_head(sd_bus*, const char*, const char*, const char*, sd_bus_message* reply, void* userdata,
             sd_bus_error*) noexcept try {
  const auto head = static_cast<Context*>(userdata)->engine.audit_head();
  return ::sd_bus_message_append_array(reply, SD_BUS_TYPE_BYTE, head.hash.data(), head.hash.size());
} catch (const std::exception&) {
  return -ENOMEM;
}

constexpr auto kAnyone = SD_BUS_VTABLE_UNPRIVILEGED;  // The dispatcher decides.

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Query", SD_BUS_ARGS("a{sv}", filter, "u", max),
                            SD_BUS_RESULT("a(tttsss)", records), &on_call<&on_query>, kAnyone),
    SD_BUS_METHOD_WITH_ARGS("Verify", SD_BUS_ARGS("t", from, "t", to),
                            SD_BUS_RESULT("b", ok, "t", bad_seq, "s", text), &on_call<&on_verify>,
                            kAnyone),
    SD_BUS_SIGNAL_WITH_ARGS("Recorded", SD_BUS_ARGS("t", seq, "s", event, "s", volume), 0),
    // They change with every record, which Recorded tells.
    SD_BUS_PROPERTY("Seq", "t", &get_sequence, 0, 0),
    SD_BUS_PROPERTY("Head", "ay", &get_head, 0, 0), SD_BUS_VTABLE_END};

}  // namespace

int export_audit(sd_bus* bus, Context& context) {
  return ::sd_bus_add_object_vtable(bus, nullptr, kRootPath, kAuditInterface, kVtable, &context);
}

}  // namespace coffer::dbus

// SPDX-License-Identifier: Apache-2.0
// What uses a key beside volumes, as callers tell.
#include <algorithm>

#include "dbus/key_plans.h"
#include "dbus/names.h"

namespace coffer::dbus {
namespace {

constexpr OptionSpec kPage[] = {{"after", 's'}, {"max", 'u'}};

Result<Plan> change_binding(Context& context, sd_bus_message* call, const char* operation,
                            bool bound) {
  Reader reader(call);
  const auto resource = reader.text();
  if (!resource) return tl::unexpected(resource.error());
  const auto options = key_options(reader, {});
  if (!options) return tl::unexpected(options.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  if (auto good = agent::require_callers_resource(*resource); !good)
    return tl::unexpected(good.error());
  auto plan = plan_on_key(context, operation, *key, *options);
  plan.subjects.front().emplace_back("resource", *resource);
  plan.run = [&engine = context.engine, id = key->record.id, resource = *resource, bound](
                 const agent::Caller& caller, const Reply& reply) {
    engine.set_key_bound(id, resource, bound, caller,
                         [reply](const Result<void>& done) { reply.result(done); });
  };
  return plan;
}

}  // namespace

Result<Plan> on_bind(Context& context, sd_bus_message* call) {
  return change_binding(context, call, "bind-key", true);
}
Result<Plan> on_unbind(Context& context, sd_bus_message* call) {
  return change_binding(context, call, "unbind-key", false);
}

Result<Plan> on_list_bindings(Context& context, sd_bus_message* call) {
  Reader reader(call);
  const auto page = Options::read(reader, kPage, false);
  if (!page) return tl::unexpected(page.error());
  const auto key = called_key(context, call);
  if (!key) return tl::unexpected(key.error());
  const auto count_max = std::min<std::size_t>(page->number("max").value_or(kPageMax), kPageMax);
  if (count_max == 0) return fail(Reason::kInvalidArgs, "max is at least 1");
  auto plan = key_plan("list-key-bindings", key->record.id.str(), key->record.alias, *page);
  plan.run = [&engine = context.engine, id = key->record.id, after = page->text("after"),
              count_max](const agent::Caller&, const Reply& reply) {
    engine.key_bindings(id, after, count_max,
                        [reply](const Result<std::vector<std::string>>& found) {
                          if (!found) return reply.error(found.error());
                          reply.fill([&](auto* m) { return append_texts(m, *found); });
                        });
  };
  return plan;
}

}  // namespace coffer::dbus

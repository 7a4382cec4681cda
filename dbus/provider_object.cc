// SPDX-License-Identifier: Apache-2.0
#include "dbus/provider_object.h"

#include "dbus/names.h"
#include "dbus/paths.h"
#include "dbus/properties.h"

namespace coffer::dbus {
namespace {

using agent::ProviderInfo;

std::optional<ProviderInfo> find(const agent::Engine& engine, const std::string& name) {
  for (auto& provider : engine.providers()) {
    if (provider.name == name) return std::move(provider);
  }
  return std::nullopt;
}

Result<Plan> on_test(Context& context, sd_bus_message* call) {
  const auto name = provider_of_path(::sd_bus_message_get_path(call));
  if (!name) return fail(Reason::kInvalidArgs, "the path names no provider");
  Reader reader(call);
  const auto options = Options::read(reader, {}, true);
  if (!options) return tl::unexpected(options.error());
  for (const auto* refusable : {"dry-run", "timeout-usec"}) {
    if (const auto refused = options->refuse(refusable); !refused)
      return tl::unexpected(refused.error());
  }
  Plan plan;
  plan.operation = "test-provider";
  plan.object = *name;
  plan.interactive = options->interactive();
  plan.reason = options->text("reason");
  plan.subjects.push_back({{"provider", *name}, {"operation", "test-provider"}});
  plan.run = [&engine = context.engine, name = *name](const agent::Caller& caller,
                                                      const Reply& reply) {
    reply.job(engine.test_provider(name, caller));
  };
  return plan;
}

int find_provider(sd_bus*, const char* path, const char*, void* userdata, void** found,
                  sd_bus_error*) noexcept try {
  auto* context = static_cast<Context*>(userdata);
  const auto name = provider_of_path(path);
  if (!name) return 0;
  context->provider = find(context->engine, *name);
  *found = context;
  return context->provider ? 1 : 0;
} catch (const std::exception&) {
  return -ENOMEM;
}

int list_providers(sd_bus*, const char*, void* userdata, char*** nodes, sd_bus_error*) noexcept
    try {
  std::vector<std::string> paths;
  for (const auto& provider : static_cast<Context*>(userdata)->engine.providers())
    paths.push_back(provider_path(provider.name));
  return give_nodes(paths, nodes);
} catch (const std::exception&) {
  return -ENOMEM;
}

template <auto kGet>
constexpr sd_bus_property_get_t kGetter = &get_property<&Context::provider, kGet>;

constexpr auto kChanges = SD_BUS_VTABLE_PROPERTY_EMITS_CHANGE;
constexpr auto kConst = SD_BUS_VTABLE_PROPERTY_CONST;
constexpr auto kAnyone = SD_BUS_VTABLE_UNPRIVILEGED;  // The dispatcher decides.

const sd_bus_vtable kVtable[] = {
    SD_BUS_VTABLE_START(0),
    SD_BUS_METHOD_WITH_ARGS("Test", SD_BUS_ARGS("a{sv}", options), SD_BUS_RESULT("o", job),
                            &on_call<&on_test>, kAnyone),
    SD_BUS_PROPERTY("Name", "s", kGetter<&ProviderInfo::name>, 0, kConst),
    SD_BUS_PROPERTY("Kind", "s", kGetter<&ProviderInfo::kind>, 0, kChanges),
    SD_BUS_PROPERTY("State", "s", kGetter<&ProviderInfo::state>, 0, kChanges),
    SD_BUS_PROPERTY("Detail", "s", kGetter<&ProviderInfo::detail>, 0, kChanges),
    SD_BUS_PROPERTY("LastError", "(ss)", kGetter<&ProviderInfo::last_error>, 0, kChanges),
    SD_BUS_PROPERTY("LatencyUSec", "t", kGetter<&ProviderInfo::latency>, 0, kChanges),
    SD_BUS_PROPERTY("Failures", "u", kGetter<[](const ProviderInfo& p) {
                      return static_cast<std::uint32_t>(
                          std::min<std::uint64_t>(p.failures, UINT32_MAX));
                    }>,
                    0, kChanges),
    SD_BUS_PROPERTY("Algorithms", "as", kGetter<&ProviderInfo::algorithms>, 0, kChanges),
    SD_BUS_PROPERTY("TokenKind", "s", kGetter<&ProviderInfo::token_kind>, 0, kChanges),
    SD_BUS_PROPERTY("Priority", "u", kGetter<&ProviderInfo::priority>, 0, kChanges),
    SD_BUS_VTABLE_END};

}  // namespace

int export_providers(sd_bus* bus, Context& context) {
  const int r = ::sd_bus_add_fallback_vtable(bus, nullptr, kProviderPrefix, kKeyProviderInterface,
                                             kVtable, &find_provider, &context);
  if (r < 0) return r;
  return ::sd_bus_add_node_enumerator(bus, nullptr, kProviderPrefix, &list_providers, &context);
}

}  // namespace coffer::dbus
